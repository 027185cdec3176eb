"""The same network in two files gives the same features, and `inspect --against` says where two differ."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustness_core import collision, layers, projection
from robustness_core.__main__ import main
from robustness_core.checkpoints import load, twins
from robustness_core.networks import Network, build

TEXT = "conv 4 4x4/2 p1, relu, conv 8 4x4/2 p1, relu, flatten, fc 16, relu, fc 10"
MEAN, STD = [0.1307], [0.3081]


class Inside(nn.Module):
    """A network that normalises its images itself."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body((images - MEAN[0]) / STD[0])


def body() -> nn.Module:
    torch.manual_seed(0)
    return build(TEXT, (1, 28, 28)).body.eval()


def exported(network: nn.Module) -> bytes:
    target = io.BytesIO()
    with contextlib.redirect_stdout(io.StringIO()):
        torch.onnx.export(network, (torch.rand(1, 1, 28, 28),), target, dynamo=False, opset_version=13)  # type: ignore[arg-type]
    return target.getvalue()


def files(folder: Path) -> dict[str, tuple[Path, dict[str, Any]]]:
    """The same network in several files, each with the hints that it needs."""
    hints = {"architecture": TEXT, "input_shape": (1, 28, 28), "mean": MEAN, "std": STD}
    halves = {name: tensor.half() for name, tensor in body().state_dict().items()}
    torch.save(body().state_dict(), folder / "plain.pth")
    torch.save(halves, folder / "half.pth")
    torch.save({**body().state_dict(), "mean": torch.tensor(MEAN), "std": torch.tensor(STD)}, folder / "stored.pth")
    (folder / "plain.onnx").write_bytes(exported(body()))
    (folder / "inside.onnx").write_bytes(exported(Inside(body())))
    return {
        "plain.pth": (folder / "plain.pth", hints),
        "half.pth": (folder / "half.pth", hints),
        "stored.pth": (folder / "stored.pth", {"architecture": TEXT}),
        "plain.onnx": (folder / "plain.onnx", {"mean": MEAN, "std": STD}),
        "inside.onnx": (folder / "inside.onnx", {"mean": [0.0], "std": [1.0]}),
    }


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of itself
@pytest.mark.parametrize("name", ["half.pth", "stored.pth", "plain.onnx", "inside.onnx"])
def test_twins_have_the_same_features_and_distances(name: str, tmp_path: Path) -> None:
    made = files(tmp_path)
    left, right = (load(path, **hints) for path, hints in (made["plain.pth"], made[name]))
    found = [one for one in twins.features(left, right) if one.name]
    assert len(found) == 4
    assert [one.share for one in found] == pytest.approx([0] * len(found), abs=1e-3 if name == "half.pth" else 1e-5)
    images = torch.rand(2, 3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    distances = []
    for network in (left, right):
        cut = layers.main_layers(network, (1, 28, 28))[-2]
        extractor = layers.extractor(network, cut, (1, 28, 28))
        made_of = projection.project(extractor, 16, 5, 0)
        distances.append(collision.find_collisions(made_of, images[0], images[1], preset="fast").distance)
    torch.testing.assert_close(distances[0], distances[1], rtol=0.02, atol=0.02)


def test_where_two_files_differ_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = body()
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    from robustness_core.checkpoints import clean_copy

    first.write_bytes(clean_copy(Network(network, (1, 28, 28), architecture=TEXT)))
    with torch.no_grad():
        network.get_parameter("fc1.bias").add_(1.0)
    second.write_bytes(clean_copy(Network(network, (1, 28, 28), architecture=TEXT)))
    assert main(["inspect", str(first), "--against", str(second), "--json"]) == 0
    against = json.loads(capsys.readouterr().out)["against"]
    changed = [one["name"] for one in against["tensors"] if one["share"] > 0]
    assert changed == ["fc1.bias"]
    assert [one["name"] for one in against["features"] if one["share"] > 0] == ["fc1", "logits"]
    assert main(["inspect", str(first), "--against", str(second)]) == 0
    assert "difference over the largest" in capsys.readouterr().out
