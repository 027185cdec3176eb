"""Uploads that want harm: each is refused with one sentence, nothing runs, nothing is read or written elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from robustness_core import checkpoints
from robustness_core.__main__ import main
from robustness_core.checkpoints import CheckpointError, containers
from robustness_core.sandbox import parent as sandbox
from testing import hostile_files as hostile

# Torch warns of what it is asked to write here: old containers, TorchScript, sparse and quantised tensors.
with pytest.warns():
    PICKLES = hostile.pickles()
FILES = {
    **{f"torch: {name}": data for name, data in PICKLES.items()},
    **{f"safetensors: {name}": data for name, data in hostile.tensors_files().items()},
    **{f"onnx: {name}": data for name, data in hostile.graphs().items()},
    **{f"other: {name}": data for name, data in hostile.others().items()},
}
# Accepted, with a warning.
HARMLESS = ("torch: dead", "torch: whole module, zipped", "torch: whole module, legacy")

# What a sentence must say, for the files where a user has to know.
SAYS = {
    "torch: code, raw": "mkdir",
    "torch: code, zipped": "mkdir",
    "torch: code, legacy": "mkdir",
    "torch: code beside weights, zipped": "mkdir",
    "torch: code beside weights, legacy": "mkdir",
    "torch: code in a numpy archive": "NumPy",
    "torch: TorchScript": "TorchScript",
    "torch: pt2": "pt2",
    "torch: exported program": "pt2",
    "torch: bit flip in the weights": "checksum",
    "torch: stride 0": "stride 0",
    "torch: declared giant": "larger than the data",
    "torch: legacy declared giant": "larger than the data",
    "torch: names that climb": "unsafe name",
    "torch: NaN": "NaN",
    "torch: infinity": "infinite",
    "torch: complex": "complex",
    "torch: whole numbers": "whole numbers",
    "torch: sparse": "sparse",
    "torch: quantised": "quantised",
    "torch: missing key": "no weight",
    "torch: extra key": "9.gamma",
    "torch: wrongly shaped key": "16×391",
    "onnx: an endless loop": "Loop",
    "onnx: an unknown domain": "evil.example",
    "onnx: a circle": "circle",
    "onnx: 5,000 nodes": "5002 nodes",
    "onnx: data in /etc/passwd": "another file",
    "onnx: data in /dev/zero": "another file",
    "onnx: NaN": "NaN",
    "other: empty": "empty",
    "other: PNG": "PNG",
    "other: text": "text",
}


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes, name: str = "upload.pt") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.fixture(autouse=True)
def no_payload_ran() -> Iterator[None]:
    yield
    assert not hostile.WITNESS.exists()


def test_the_payload_would_run_if_it_were_unpickled() -> None:
    pickle.loads(FILES["torch: code, raw"])
    hostile.WITNESS.rmdir()  # raises if it was not made


def check_sentence(text: str) -> None:
    assert "\n" not in text
    assert text.endswith(".")
    assert text.count(". ") == 0, text
    assert len(text) < 1000
    assert text.isprintable()
    assert not set("<>[]`*\"'") & set(text.replace("Kolter's", "").replace("'s", "")), text


@pytest.mark.parametrize("name", [name for name in FILES if name not in HARMLESS])
def test_refused_with_one_sentence(name: str, upload: Callable[[bytes], Path]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        checkpoints.candidates(containers.read(upload(FILES[name])))
    check_sentence(str(caught.value))
    assert SAYS.get(name, "") in str(caught.value)
    assert time.process_time() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1024**2  # KiB: under 1 GiB more than before


@pytest.mark.parametrize("suffix", ["onnx", "safetensors", "npz", "txt"])
def test_the_content_decides_and_not_the_name(suffix: str, upload: Callable[..., Path]) -> None:
    with pytest.raises(CheckpointError, match="mkdir"):
        containers.read(upload(FILES["torch: code beside weights, zipped"], f"upload.{suffix}"))
    assert containers.read(upload(hostile.zipped(hostile.state()), f"upload.{suffix}")).format == "torch"


@pytest.mark.parametrize("name", hostile.NAMES)
def test_names_of_the_file_are_shown_escaped(name: str, upload: Callable[[bytes], Path]) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoints.candidates(containers.read(upload(hostile.with_name(name))))
    check_sentence(str(caught.value))


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "onnx"])
def test_every_cut_and_every_flip_is_refused_or_harmless(kind: str, upload: Callable[[bytes], Path]) -> None:
    """A file cut anywhere is refused; a flipped bit is refused or changes numbers or names, and never anything else."""
    makers: dict[str, Callable[[], bytes]] = {
        "zip": lambda: hostile.zipped(hostile.state()),
        "legacy": lambda: hostile.legacy(hostile.state()),
        "safetensors": lambda: hostile.safetensors(hostile.state()),
        "onnx": lambda: bytes(hostile.linear().SerializeToString()),
    }
    good = makers[kind]()
    generator = torch.Generator().manual_seed(3)
    for place in torch.randint(len(good), (60,), generator=generator).tolist():
        with pytest.raises(CheckpointError):
            checkpoints.candidates(containers.read(upload(good[:place])))
    survived = 0
    for place in torch.randint(8 * len(good), (120,), generator=generator).tolist():
        flipped = bytearray(good)
        flipped[place // 8] ^= 1 << place % 8
        try:
            containers.read(upload(bytes(flipped)))
            survived += 1
        except CheckpointError as error:
            check_sentence(str(error))
    assert survived < 120 or kind in ("legacy", "onnx", "safetensors")
    if kind == "zip":  # where a checksum covers the weights only what no part uses can be flipped unseen
        assert survived < 30


def test_a_dead_network_is_accepted_with_a_warning(upload: Callable[[bytes], Path]) -> None:
    from robustness_core.checkpoints.report import Hints, inspect

    report, _ = inspect(upload(FILES["torch: dead"]), Hints(dataset="mnist-5k"))
    assert any("dead" in warning for warning in report["warnings"])
    assert any("zero" in warning for warning in report["warnings"])


# ---------------------------------------------------------------------------------------------------------- the child


def run_child(code: str, tmp_path: Path, upload: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process that was confined as the child is, as if an upload had got control of it."""
    confined = (
        "import sys; from pathlib import Path; from robustness_core.sandbox import child\n"
        f"child._limit({json.dumps(vars(sandbox.Limits(memory=2**30)))})\n"
        f"child._confine(Path({str(tmp_path)!r}), Path({str(upload)!r}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(sandbox.ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", confined + code], capture_output=True, text=True, env=environment, timeout=120
    )


def landlock() -> bool:
    return sys.platform.startswith("linux") and _landlock_version() >= 4


def _landlock_version() -> int:
    import ctypes

    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1))


needs_landlock = pytest.mark.skipif(not landlock(), reason="this kernel has no Landlock of version 4")


@needs_landlock
@pytest.mark.parametrize(
    "code",
    [
        "open({outside!r}, 'w')",
        "open({secret!r}).read()",
        "import os; os.unlink({secret!r})",
        "import os; os.rename({secret!r}, {secret!r} + 'x')",
        "import os; os.mkdir({outside!r})",
        "import subprocess; subprocess.run(['/bin/true'], check=True)",
        "import os; os.execv('/bin/true', ['true'])",
        "import socket; socket.create_connection(('127.0.0.1', {port}), timeout=5)",
    ],
)
def test_even_code_in_the_child_reaches_nothing(code: str, tmp_path: Path) -> None:
    import socket

    inside, secret = tmp_path / "inside", tmp_path / "secret"
    inside.mkdir()
    secret.write_text("postgresql://user:password@host/strata")
    upload = inside / "upload"
    upload.write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        values = {"outside": str(tmp_path / "outside"), "secret": str(secret), "port": port}
        done = run_child(code.format(**values), inside, upload)
    assert done.returncode == 1
    assert "PermissionError" in done.stderr
    assert secret.exists()
    assert not (tmp_path / "outside").exists()


@needs_landlock
def test_the_child_may_use_its_own_folder(tmp_path: Path) -> None:
    code = (
        f"import torch; open({str(tmp_path / 'own')!r}, 'w').write('x'); print(open({str(tmp_path / 'own')!r}).read())"
    )
    done = run_child(code, tmp_path, tmp_path)
    assert (done.returncode, done.stdout) == (0, "x\n")


def test_the_child_cannot_take_more_memory_than_allowed(tmp_path: Path) -> None:
    done = run_child("x = bytearray(2**31)", tmp_path, tmp_path)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_the_child_sees_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_DATABASE", "postgresql://user:password@host/strata")
    monkeypatch.setenv("SECRET", "x")
    environment = sandbox._environment("/tmp")
    assert not {"STRATA_DATABASE", "SECRET"} & set(environment)
    assert not any("password" in value for value in environment.values())


def test_a_child_that_takes_too_long_is_ended(upload: Callable[[bytes], Path]) -> None:
    start = time.monotonic()
    with pytest.raises(CheckpointError, match=r"time|took over"):
        sandbox.inspect(
            upload(hostile.zipped(hostile.state())), limits=sandbox.Limits(parsing=0.05, measuring=0.05, patience=2.0)
        )
    assert time.monotonic() - start < 20


def test_a_child_without_memory_says_so(upload: Callable[[bytes], Path]) -> None:
    with pytest.raises(CheckpointError) as caught:
        sandbox.inspect(upload(hostile.zipped(hostile.state())), limits=sandbox.Limits(memory=60 * 1024**2))
    check_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [(b"", "crash"), (b"{", "crash"), (b"[1]", "crash"), (b'{"report": 3}', "crash"), (b'{"refusal": "No."}', "No.")],
)
def test_what_the_child_wrote_is_not_trusted(answer: bytes, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_bytes(answer)
    assert sentence in sandbox._answer(tmp_path, 0, sandbox.Limits())["refusal"]


def test_a_link_as_an_answer_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text('{"report": {}}')
    (tmp_path / "answer.json").symlink_to(tmp_path / "elsewhere")
    assert "crash" in sandbox._answer(tmp_path, 0, sandbox.Limits())["refusal"]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "none", Path("a\0b")):
        with pytest.raises(CheckpointError) as caught:
            sandbox.inspect(place)
        check_sentence(str(caught.value))


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pt"
    with path.open("wb") as file:
        file.truncate(501 * 1024**2)
    start = time.monotonic()
    with pytest.raises(CheckpointError, match="at most 500 MB"):
        sandbox.inspect(path)
    assert time.monotonic() - start < 1


def command(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "robustness_core", "inspect", str(path), *options],
        cwd=sandbox.ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_command_line_refuses_with_status_2_and_one_line(upload: Callable[[bytes], Path], tmp_path: Path) -> None:
    done = command(upload(FILES["torch: code beside weights, zipped"]), "--json", "--copy", str(tmp_path / "copy"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "mkdir" in done.stderr
    assert not (tmp_path / "copy").exists()


# ------------------------------------------------------------------------------------------------- audits of uploads

AUDIT = ("--dataset", "mnist-5k", "--samples", "1", "--layers", "logits", "--m", "2", "--preset", "fast")


@pytest.mark.parametrize("name", ["code beside weights, zipped", "code beside weights, legacy"])
def test_an_audit_of_a_file_that_runs_code_ends_with_one_line(
    name: str, upload: Callable[[bytes], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "--network", str(upload(FILES[f"torch: {name}"])), *AUDIT]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "mkdir" in captured.err


def test_an_audit_parses_foreign_files_in_the_child_only(
    upload: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = upload(hostile.zipped(hostile.state()))
    read = containers.read

    def watched(opened: Path, **options: int) -> containers.Contents:
        assert opened != path
        return read(opened, **options)

    monkeypatch.setattr(containers, "read", watched)
    assert main(["audit", "--network", str(path), *AUDIT, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["network_sha256"] == checkpoints.sha256(path)
    assert [layer["features"] for layer in result["layers"]] == [10]
    own = path.with_name("own.safetensors")
    own.write_bytes(hostile.safetensors(hostile.state(), {"architecture": "fc 10", "input_shape": "[1, 28, 28]"}))
    assert main(["audit", "--network", str(own), *AUDIT]) == 2
    assert "The architecture that the file names" in capsys.readouterr().err
