"""Images of one's own from files: what is read of pictures, and that hostile ones are refused in a sentence."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustness_core.datasets import own, pictures
from robustness_core.errors import DatasetError
from robustness_core.sandbox import parent as sandbox


def picture(
    colour: int | tuple[int, ...] = 0, size: tuple[int, int] = (6, 4), kind: str = "PNG", **more: object
) -> bytes:
    content = io.BytesIO()
    mode = "L" if isinstance(colour, int) else "RGB" if len(colour) == 3 else "RGBA"
    Image.new(mode, size, colour).save(content, kind)
    return content.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def packed(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


TWO = {"cat/1.png": picture(10), "cat/2.png": picture(20), "dog/a.jpg": picture(200, kind="JPEG")}


@pytest.mark.parametrize("above", ["", "pets/"])
def test_a_folder_and_its_zip_hold_the_same_images(tmp_path: Path, above: str) -> None:
    files = {above + name: content for name, content in TWO.items()}
    junk = {above + name: b"junk" for name in (".DS_Store", "__MACOSX/._1.png", "cat/Thumbs.db")}
    read = pictures.read(folder(tmp_path / "here" / "pets", TWO | junk))
    assert read.class_names == ("cat", "dog")
    assert read.labels.tolist() == [0, 0, 1]
    assert read.pixels.shape == (3, 4, 6, 1)
    assert read.pixels[:, 0, 0, 0].tolist() == [10, 20, 200]
    zipped = pictures.read(packed(tmp_path / "pets.zip", files | junk))
    assert (zipped.name, zipped.sha256) == (read.name, read.sha256)
    assert zipped.name == f"pets-{read.sha256[:8]}"


def test_classes_that_are_numbers_stand_in_their_order(tmp_path: Path) -> None:
    read = pictures.read(folder(tmp_path, {f"{number}/x.png": picture(number) for number in (10, 9, 2)}))
    assert read.class_names == ("2", "9", "10")
    assert dict(zip(read.pixels[:, 0, 0, 0].tolist(), read.labels.tolist(), strict=True)) == {2: 0, 9: 1, 10: 2}


def test_pictures_are_turned_as_their_exif_data_say(tmp_path: Path) -> None:
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0] = 255  # the first row is white
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    content = io.BytesIO()
    Image.fromarray(np.rot90(upright).copy()).save(content, "PNG", exif=exif)
    read = pictures.read(folder(tmp_path, {"a/1.png": content.getvalue(), "b/1.png": content.getvalue()}))
    np.testing.assert_array_equal(read.pixels, [upright, upright])


def test_grey_among_coloured_pictures_is_coloured_and_transparency_goes(tmp_path: Path) -> None:
    files = {"a/1.png": picture(7), "b/1.png": picture((1, 2, 3)), "b/2.png": picture((4, 5, 6, 128))}
    read = pictures.read(folder(tmp_path, files))
    assert read.pixels[:, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3], [4, 5, 6]]
    grey = pictures.read(tmp_path, shape=(1, 4, 6))
    assert grey.pixels.shape == (3, 4, 6, 1)


def test_pictures_of_another_size_are_resized_or_cropped_if_asked(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 240, 20, dtype=np.uint8), (8, 1))  # 8 high, 12 wide
    content = io.BytesIO()
    Image.fromarray(ramp).save(content, "PNG")
    folder(tmp_path, {"a/1.png": content.getvalue(), "b/1.png": picture(100, (4, 4))})
    with pytest.raises(DatasetError, match=r"has 4×4 pixels where 12×8 are wanted; resize or crop"):
        pictures.read(tmp_path)
    cropped = pictures.read(tmp_path, shape=(1, 4, 4), fit="crop")
    np.testing.assert_array_equal(cropped.pixels[0, ..., 0], ramp[2:6, 4:8])
    resized = pictures.read(tmp_path, shape=(1, 4, 6), fit="resize")
    np.testing.assert_allclose(resized.pixels[0, :, 1:-1, 0], ramp.reshape(4, 2, 6, 2).mean((1, 3))[:, 1:-1], atol=6)
    with pytest.raises(DatasetError, match="cannot be cropped to 12×8"):
        pictures.read(tmp_path, shape=(1, 8, 12), fit="crop")


def test_arrays_come_from_an_npz_or_two_npy(tmp_path: Path) -> None:
    pixels, labels = np.random.default_rng(0).integers(0, 256, (6, 5, 7), dtype=np.uint8), np.arange(6) % 3
    np.savez(tmp_path / "set.npz", x=pixels, y=labels, class_names=np.array(["ash", "beech", "cedar"]))
    np.save(tmp_path / "set.npy", pixels)
    np.save(tmp_path / "labels.npy", labels)
    read = pictures.read(tmp_path / "set.npz")
    np.testing.assert_array_equal(read.pixels[..., 0], pixels)
    assert read.class_names == ("ash", "beech", "cedar")
    pair = pictures.read(tmp_path / "set.npy", labels=tmp_path / "labels.npy")
    np.testing.assert_array_equal(pair.pixels, read.pixels)
    assert pair.class_names == ("0", "1", "2")
    assert own.ImageSet.from_bytes(read.to_bytes()).sha256 == read.sha256
    (tmp_path / "again.npz").write_bytes(read.to_bytes())
    assert pictures.read(tmp_path / "again.npz").sha256 == read.sha256
    assert pictures.read(tmp_path / "set.npz", shape=(3, 5, 7), fit="crop").input_shape == (3, 5, 7)


def bomb(side: int) -> bytes:
    """A PNG of a few hundred bytes that says how many pixels it has."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def animated() -> bytes:
    frames = [Image.new("L", (6, 4), value) for value in (0, 255)]
    content = io.BytesIO()
    frames[0].save(content, "PNG", save_all=True, append_images=frames[1:])
    return content.getvalue()


def deep() -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.zeros((4, 6), dtype=np.uint16)).save(content, "PNG")
    return content.getvalue()


def pickled() -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([{}], dtype=object), allow_pickle=True)
    return content.getvalue()


def lying(path: Path) -> Path:
    """A zip whose member says that it is longer than it is."""
    content = packed(path, {"a/1.png": b"x" * 50}).read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 50), struct.pack("<I", 2**31)))
    return path


HOSTILE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "bomb": (lambda at: folder(at, TWO | {"dog/b.png": bomb(30_000)}), "far too many pixels"),
    "large": (lambda at: folder(at, TWO | {"dog/b.png": bomb(5_000)}), "5000×5000 pixels; give smaller"),
    "cut short": (lambda at: folder(at, TWO | {"dog/b.png": TWO["cat/1.png"][:-40]}), "b.png is no PNG or JPEG"),
    "text": (lambda at: folder(at, TWO | {"dog/b.txt": b"woof"}), "b.txt is no PNG or JPEG"),
    "gif": (lambda at: folder(at, TWO | {"dog/b.gif": picture(0, kind="GIF")}), "b.gif is no PNG or JPEG"),
    "animated": (lambda at: folder(at, TWO | {"dog/b.png": animated()}), "b.png is animated"),
    "deep": (lambda at: folder(at, TWO | {"dog/b.png": deep()}), "more than 8 bits"),
    "markup": (lambda at: folder(at, TWO | {"<b>x/b.png": picture()}), r"class name '\\x3cb\\x3ex' cannot be used"),
    "no classes": (lambda at: folder(at, {"1.png": picture()}), "1.png lies in no class folder"),
    "one class": (lambda at: folder(at, {"cat/1.png": picture()}), "There are 1 classes"),
    "too deep": (lambda at: folder(at, TWO | {"dog/x/b.png": picture()}), "lies in no class folder"),
    "empty": (lambda at: folder(at, {".x": b""}), "There is no picture"),
    "a lie": (lambda at: lying(at / "x.zip"), "2048 MB; a picture may have 64"),
    "zip slip": (lambda at: packed(at / "x.zip", TWO | {"../../b.png": picture()}), "lies in no class folder"),
    "objects": (lambda at: packed(at / "x.npz", {"x.npy": pickled()}), "or hold Python objects"),
    "no labels": (lambda at: packed(at / "x.npz", {"x.npy": _npy(np.zeros((2, 3, 3), np.uint8))}), "one of labels are"),
    "damaged zip": (lambda at: _cut(packed(at / "x.zip", TWO)), "damaged, cut short|holds no images"),
    "no zip": (lambda at: folder(at, {"x.zip": b"PK\x03\x04" + bytes(99)}) / "x.zip", "x.zip holds no images"),
    "lone npy": (lambda at: folder(at, {"x.npy": _npy(np.zeros(3))}) / "x.npy", "holds no labels"),
}  # fmt: skip


def _npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _cut(path: Path) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[:20] + bytes(30) + content[50:])
    return path


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    make, says = HOSTILE[kind]
    before = set(own.REGISTRY)
    with pytest.raises(DatasetError, match=says) as refused:
        pictures.read(make(tmp_path))
    assert str(refused.value).endswith(".")
    assert "\n" not in str(refused.value)
    assert "<" not in str(refused.value)
    assert set(own.REGISTRY) == before


def test_an_upload_is_decoded_by_a_child_as_a_file_is_here(tmp_path: Path) -> None:
    path = packed(tmp_path / "upload.zip", TWO)
    found = sandbox.images(path, title="Pets", shape=(3, 2, 2), fit="crop")
    wanted = pictures.read(path, title="Pets", shape=(3, 2, 2), fit="crop")
    assert (found.name, found.class_names) == (wanted.name, ("cat", "dog"))
    np.testing.assert_array_equal(found.pixels, wanted.pixels)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (TWO | {"dog/b.png": bomb(30_000)}, "far too many pixels"),
        (TWO | {"<img src=x>/b.png": picture()}, "cannot be used"),
        (TWO | {f"dog/{i}.npy": b"junk" for i in range(2)}, "one of labels are wanted"),
        ({"readme": b"x"}, "lies in no class folder"),
    ],
)
def test_a_hostile_upload_is_refused_in_one_sentence(tmp_path: Path, files: dict[str, bytes], says: str) -> None:
    path = packed(tmp_path / "upload.zip", files)
    with pytest.raises(DatasetError, match=says) as refused:
        sandbox.images(path, title="Pets")
    assert "<" not in str(refused.value)
    assert [one.name for one in tmp_path.iterdir()] == ["upload.zip"]


def test_an_upload_that_takes_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path / "upload.zip", TWO)
    monkeypatch.setattr(sandbox, "_IMAGE_SECONDS", 0.001)  # on the clock six times as much: no Python has begun by then
    with pytest.raises(
        DatasetError, match="took over 0 seconds, so it was refused; accepted are a zip of class folders"
    ):
        sandbox.images(path, title="Pets")
    with path.open("r+b") as file:
        file.truncate(501 * 1024**2)  # sparse
    with pytest.raises(DatasetError, match="has 501 MB; at most 500 MB are accepted"):
        sandbox.images(path, title="Pets")


def test_very_many_files_are_refused_before_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_FILES", 1000)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(pictures.MOST_FILES + 1):
            archive.writestr(f"a/{number}", b"")
    monkeypatch.setattr(pictures, "_open", lambda one: pytest.fail("a picture was opened"))
    with pytest.raises(DatasetError, match="more than 1,000 files"):
        pictures.read(path)
