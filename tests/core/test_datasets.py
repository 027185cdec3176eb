"""Tests of the data sets: the bundled digits, the official layouts, and what is said when files are missing or odd."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pooch
import pytest
from scipy.io import savemat

from robustness_core import datasets
from robustness_core.datasets import cifar10, cifar100, places, svhn
from robustness_core.errors import DatasetError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty STRATA_DATA, an empty cache and no network."""
    (tmp_path / "given").mkdir()
    monkeypatch.setenv("STRATA_DATA", str(tmp_path / "given"))
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))

    def no_network(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(pooch, "retrieve", no_network)
    return tmp_path / "given"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, images: np.ndarray, labels: np.ndarray, *, packed: bool = True) -> Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        if packed:
            (raw / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (raw / name).write_bytes(idx(array))
    return raw


def test_the_bundled_digits_split_by_class() -> None:
    train, test = datasets.load("mnist-5k"), datasets.load("mnist-5k", "test")
    assert train.pixels.shape == (4000, 28, 28, 1)
    assert test.pixels.shape == (1000, 28, 28, 1)
    assert train.pixels.dtype == np.uint8
    assert train.labels.dtype == np.int64
    assert datasets.counts("mnist-5k") == dict.fromkeys(range(10), 400)
    assert datasets.counts("mnist-5k", "test") == dict.fromkeys(range(10), 100)
    assert train.input_shape == (1, 28, 28)
    seen = {image.tobytes() for image in train.pixels}
    assert not any(image.tobytes() in seen for image in test.pixels)


@pytest.mark.parametrize(
    ("split", "sha256"),
    [
        ("train", "59ffa5d6fcc108d1aad7427f76016966eb5f31b5a08c6dee70761c46e9f8752f"),
        ("test", "7c38c61aa8c7f1716d28cda247fd6f77a8db4bc051de264382e94804d47bce91"),
    ],
)
def test_the_bundled_photographs_are_the_official_ones(split: str, sha256: str) -> None:
    """Without loss: the hashes are those of the official bytes, taken from the binary files in their order."""
    data = datasets.load("cifar10-2k", split)
    assert hashlib.sha256(np.ascontiguousarray(data.pixels).tobytes()).hexdigest() == sha256
    assert data.pixels.shape == (1000, 32, 32, 3)
    assert data.pixels.dtype == np.uint8
    assert datasets.counts("cifar10-2k", split) == dict.fromkeys(range(10), 100)
    assert len({image.tobytes() for image in data.pixels}) == 1000
    assert data.source.startswith("1000 of ")


def test_the_parts_of_the_bundled_photographs_are_apart() -> None:
    train, test = (
        {image.tobytes() for image in datasets.load("cifar10-2k", split).pixels} for split in ("train", "test")
    )
    assert not train & test


def test_a_damaged_sheet_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (places.BUNDLED / "cifar10-2k-test.png").read_bytes()
    for content in (b"", b"no picture", whole[: len(whole) // 2], scratched(whole)):
        (tmp_path / "cifar10-2k-test.png").write_bytes(content)
        monkeypatch.setattr(places, "BUNDLED", tmp_path)
        with pytest.raises(DatasetError, match=r"bundled images .*cifar10-2k-test.png cannot be read"):
            cifar10.read_bundled("test", cifar10.find_bundled("test"))


@pytest.mark.parametrize(("name", "split"), [(name, split) for name in datasets.REGISTRY for split in datasets.SPLITS])
def test_a_row_says_what_its_files_hold(name: str, split: str) -> None:
    """Of a data set that may be here in part, the images that are here; `fetch` is not called."""
    entry = datasets.get(name)
    if not entry.present(split):
        pytest.skip(f"{name} ({split}) is not on this machine")
    data = entry.open(split)
    assert data.input_shape == entry.input_shape
    assert np.unique(data.labels).tolist() == list(range(len(entry.class_names)))
    assert len(data) == entry.sizes[split] or (name == "cifar10" and 0 < len(data) < entry.sizes[split])
    assert (data.name, data.split) == (name, split)


@pytest.mark.parametrize("entry", datasets.REGISTRY.values(), ids=datasets.REGISTRY)
def test_a_row_agrees_with_itself(entry: datasets.Entry) -> None:
    assert datasets.get(entry.name) is entry
    assert len(set(entry.pair)) == 2
    assert all(label in range(len(entry.class_names)) for label in entry.pair)
    assert [len(values) for values in entry.normalisation] == [entry.input_shape[0]] * 2
    assert min(entry.normalisation[1]) > 0 < entry.epsilon
    if entry.part_of:  # what it is a part of stands in the registry, and is the same but for its size
        whole = datasets.get(entry.part_of)
        for same in ("title", "input_shape", "class_names", "normalisation", "epsilon", "pair"):
            assert getattr(entry, same) == getattr(whole, same)
        assert sum(entry.sizes.values()) < sum(whole.sizes.values())
        assert datasets.bundled(whole.name) == datasets.bundled(entry.name) == entry.name
        assert entry.download is None
    else:
        assert entry.url.startswith(("https://", "http://ufldl.stanford.edu/"))  # of SVHN there is no other
        assert entry.download is not None


@pytest.mark.parametrize("name", ["mnist-5k", "cifar10-2k"])
def test_the_usual_normalisation_is_that_of_the_images(name: str) -> None:
    """Within what a part differs from the whole: about a percent."""
    pixels = datasets.to_float(datasets.load(name).pixels).astype(np.float64)
    mean, deviation = datasets.get(name).normalisation
    np.testing.assert_allclose(pixels.mean((0, 2, 3)), mean, rtol=0.03)
    np.testing.assert_allclose(pixels.std((0, 2, 3)), deviation, rtol=0.03)


def test_a_network_is_offered_the_data_sets_that_fit_it() -> None:
    assert [entry.name for entry in datasets.fitting((1, 28, 28))] == ["mnist-5k", "mnist", "fashion-mnist"]
    assert [entry.name for entry in datasets.fitting([3, 32, 32])] == ["cifar10-2k", "cifar10", "svhn", "cifar100"]
    assert datasets.fitting((3, 224, 224)) == []


def test_a_class_of_a_data_set_that_is_gone_is_called_by_its_number() -> None:
    assert datasets.class_name("cifar10", 3) == "cat"
    assert datasets.class_name("cifar10", 10) == datasets.class_name("gone", 10) == "10"


def test_loaded_arrays_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        datasets.load("mnist-5k").pixels[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        datasets.load("cifar10-2k").pixels[0] = 0


def test_to_float_moves_channels_first_and_scales() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 2), dtype=np.uint8)
    floats = datasets.to_float(pixels)
    assert floats.dtype == np.float32
    assert floats.shape == (3, 2, 4, 5)
    for n, c, h, w in np.ndindex(floats.shape):
        assert floats[n, c, h, w] == pytest.approx(pixels[n, h, w, c] / 255, rel=1e-6)


@pytest.mark.parametrize("packed", [True, False])
def test_mnist_in_the_official_layout(folder: Path, packed: bool) -> None:
    images = np.random.default_rng(1).integers(0, 256, (7, 28, 28))
    labels = np.array([3, 7, 0, 9, 1, 1, 2])
    write_mnist(folder, images, labels, packed=packed)
    data = datasets.load("mnist")
    np.testing.assert_array_equal(data.pixels[..., 0], images)
    np.testing.assert_array_equal(data.labels, labels)
    assert data.source == "7 of 60000 official MNIST train images"


def test_the_cache_folder_is_read_too(folder: Path) -> None:
    write_mnist(folder.parent / "cache", np.zeros((2, 28, 28)), np.array([4, 5]))
    assert datasets.counts("mnist") == {label: int(label in (4, 5)) for label in range(10)}


def test_cifar10_reads_the_batches_that_are_there(folder: Path) -> None:
    rng = np.random.default_rng(2)
    images, labels = rng.integers(0, 256, (4, 3, 32, 32), dtype=np.uint8), np.array([0, 9, 3, 7], np.uint8)
    records = np.concatenate([labels[:, None], images.reshape(4, -1)], axis=1)
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    (place / "data_batch_1.bin").write_bytes(records[:3].tobytes())
    (place / "data_batch_3.bin").write_bytes(records[3:].tobytes())
    data = datasets.load("cifar10")
    np.testing.assert_array_equal(data.labels, labels)
    np.testing.assert_array_equal(datasets.to_float(data.pixels), images.astype(np.float32) / np.float32(255))
    assert data.source == "4 of 50000 official CIFAR-10 train images (data_batch_1.bin, data_batch_3.bin)"


@pytest.mark.parametrize(
    ("name", "split", "sentence"),
    [
        (
            "imagenet",
            "train",
            f"There is no data set 'imagenet': give one of {', '.join(datasets.REGISTRY)}.",
        ),
        ("mnist", "validation", "There is no split 'validation' of mnist: give train or test."),
        ("mnist", "train", "MNIST is not in STRATA_DATA nor in the cache"),
        ("cifar10", "test", "CIFAR-10 is not in STRATA_DATA nor in the cache"),
    ],
)
def test_what_is_missing_is_said(folder: Path, name: str, split: str, sentence: str) -> None:
    for read in (datasets.load, datasets.fetch):
        with pytest.raises(DatasetError, match=sentence.replace(".", r"\.")):
            read(name, split)


def test_a_data_folder_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_DATA", str(folder / "nowhere"))
    with pytest.raises(DatasetError, match="nowhere does not exist"):
        datasets.load("mnist")
    assert len(datasets.load("mnist-5k")) == 4000  # the bundled digits need no folder


def scratched(content: bytes) -> bytes:
    """`content` with a few bytes in its middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 4]) + content[middle + 4 :]


def test_damaged_mnist_files(folder: Path) -> None:
    raw = write_mnist(folder, np.zeros((2, 28, 28)), np.array([1, 12]))
    with pytest.raises(DatasetError, match="outside 0 to 9"):
        datasets.load("mnist")
    images = raw / "train-images-idx3-ubyte.gz"
    for content, sentence in (
        (gzip.compress(idx(np.zeros((2, 28, 28)))[:-5]), "is cut short: it holds 1563 of 1568 bytes"),
        (gzip.compress(b"GIF89a, surely not digits"), "is not a file of MNIST with 3 axes"),
        (gzip.compress(idx(np.zeros((2, 28, 28))))[:-9], "cannot be read"),
        (b"no gzip", "cannot be read"),
        (scratched(gzip.compress(idx(np.random.default_rng(0).integers(0, 9, (2, 28, 28))))), "cannot be read"),
        (gzip.compress(idx(np.zeros((3, 28, 28)))), "has 3 images but train-labels-idx1-ubyte.gz 2 labels"),
    ):
        images.write_bytes(content)
        with pytest.raises(DatasetError, match=sentence):
            datasets.load("mnist")


def test_a_part_of_cifar10_counts_in_the_given_folder_but_not_in_the_cache(folder: Path) -> None:
    """There it is a download that is being unpacked."""
    for place, there in ((folder.parent / "cache", False), (folder, True)):
        (place / "cifar-10-batches-bin").mkdir(parents=True, exist_ok=True)
        (place / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(bytes(3073 * 2))
        assert datasets.get("cifar10").present() is there
    assert len(datasets.load("cifar10")) == 2


@pytest.mark.parametrize("part", [[], ["data_batch_1.bin"], ["data_batch_1.bin", "data_batch_4.bin"]])
def test_only_fetch_downloads(folder: Path, monkeypatch: pytest.MonkeyPatch, part: list[str]) -> None:
    """Whatever part of CIFAR-10 lies in the cache: `present` says what `load` finds, and neither asks the network."""
    asked: list[str] = []
    cache = folder.parent / "cache" / "cifar-10-batches-bin"

    def retrieve(url: str, **_: object) -> list[str]:
        asked.append(url)
        cache.mkdir(parents=True, exist_ok=True)
        for i in range(1, 6):
            (cache / f"data_batch_{i}.bin").write_bytes(bytes(3073))
        return []

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    for name in part:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(bytes(3073))
    assert not datasets.get("cifar10").present()
    with pytest.raises(DatasetError, match=r"CIFAR-10 is not in STRATA_DATA nor in the cache"):
        datasets.load("cifar10")
    with pytest.raises(DatasetError, match=r"MNIST is not in STRATA_DATA nor in the cache"):
        datasets.load("mnist")
    assert asked == []
    assert len(datasets.fetch("cifar10")) == 5
    assert len(asked) == 1
    assert datasets.get("cifar10").present()
    assert len(datasets.fetch("cifar10")) == 5
    assert len(asked) == 1


def test_svhn_is_read_from_its_matlab_file(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    table = {"X": np.moveaxis(pixels, 0, 3), "y": np.array([[10], [1], [9], [10]], dtype=np.uint8)}
    (folder / "svhn").mkdir()
    path = folder / "svhn" / "test_32x32.mat"
    savemat(path, table, do_compression=True)
    data = datasets.load("svhn", "test")
    np.testing.assert_array_equal(data.pixels, pixels)
    assert data.labels.tolist() == [0, 1, 9, 0]  # 10 stands for 0
    assert data.source == "4 of 26032 official SVHN test images"
    for damaged, sentence in (
        (path.read_bytes()[:-50], "is damaged or cut short"),
        (b"no matlab", "is damaged or cut short"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DatasetError, match=sentence):
            svhn.read("test", [path])
    savemat(path, table | {"y": np.array([[11], [1], [9], [10]])})
    with pytest.raises(DatasetError, match="digits from 1 to 10"):
        svhn.read("test", [path])


def test_cifar100_is_read_with_its_fine_labels(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    records = [bytes([19, 11 + i]) + np.moveaxis(one, 2, 0).tobytes() for i, one in enumerate(pixels)]
    (folder / "cifar-100-binary").mkdir()
    path = folder / "cifar-100-binary" / "train.bin"
    path.write_bytes(b"".join(records))
    data = datasets.load("cifar100")
    np.testing.assert_array_equal(data.pixels, pixels)
    assert [datasets.class_name("cifar100", label) for label in data.labels] == ["boy", "bridge", "bus"]
    path.write_bytes(records[0][:-3])
    with pytest.raises(DatasetError, match="is not a whole CIFAR-100 file: 3071 bytes"):
        cifar100.read("train", [path])


def test_fashion_lies_beside_the_digits_and_is_told_apart(folder: Path) -> None:
    write_mnist(folder, np.zeros((2, 28, 28)), np.array([0, 1]))
    assert not datasets.get("fashion-mnist").present()
    raw = write_mnist(folder, np.ones((3, 28, 28)), np.array([9, 0, 5]))
    (folder / "FashionMNIST").mkdir()
    raw.rename(folder / "FashionMNIST" / "raw")
    data = datasets.load("fashion-mnist")
    assert [datasets.class_name("fashion-mnist", label) for label in data.labels] == ["ankle boot", "T-shirt", "sandal"]
    assert data.source == "3 of 60000 official Fashion-MNIST train images"
    assert not datasets.get("mnist").present()


# What is published of each archive, by its makers or by torchvision.
@pytest.mark.parametrize(
    ("name", "md5"),
    [
        ("fashion-mnist", ["8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe"]),
        ("svhn", ["e26dedcc434d2e4c54c9b2d4a06d8373"]),
        ("cifar100", ["03b5dce01913d631647c71ecec9e9cb8"]),
    ],
)
def test_downloads_are_checked(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, md5: list[str]) -> None:
    asked: list[str] = []
    monkeypatch.setattr(pooch, "retrieve", lambda url, known_hash, **_: asked.append(known_hash))
    with pytest.raises(DatasetError, match="is not in STRATA_DATA nor in the cache"):
        datasets.fetch(name)
    assert asked == [f"md5:{one}" for one in md5]


def test_a_cifar10_batch_that_is_cut_short(folder: Path) -> None:
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    (place / "test_batch.bin").write_bytes(bytes(3073 + 100))
    with pytest.raises(DatasetError, match="is not a whole CIFAR-10 batch: 3173 bytes"):
        datasets.load("cifar10", "test")


def test_no_torch_is_loaded() -> None:
    code = "import sys, robustness_core.datasets as d; d.load('mnist-5k'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(
    "STRATA_DATA" not in os.environ, reason="STRATA_DATA is not set: the official files are not at hand"
)
def test_the_official_files() -> None:
    sizes = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert datasets.counts("mnist", "test") == dict(enumerate(sizes))
    assert len(datasets.load("mnist")) == 60000
    assert datasets.load("cifar10", "test").pixels.shape == (10000, 32, 32, 3)


@pytest.mark.skipif(
    "STRATA_DATA" not in os.environ, reason="STRATA_DATA is not set: the official files are not at hand"
)
@pytest.mark.parametrize("split", datasets.SPLITS)
def test_the_bundled_photographs_come_first_of_their_class_in_the_official_files(split: str) -> None:
    whole, part = datasets.load("cifar10", split), datasets.load("cifar10-2k", split)
    for label in range(10):
        first = np.flatnonzero(whole.labels == label)[:100]
        np.testing.assert_array_equal(part.pixels[part.labels == label], whole.pixels[first])
        assert first.max() < 1194  # before the first image of the test set of which lossy copies are about


def test_present_says_whether_a_download_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATA_DATA", str(tmp_path))
    monkeypatch.setenv("STRATA_CACHE", str(tmp_path / "cache"))
    assert datasets.get("mnist-5k").present()
    assert datasets.get("cifar10-2k").present("test")
    assert not datasets.get("mnist").present()
    assert not datasets.get("cifar10").present("test")
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(bytes(3073))
    assert datasets.get("cifar10").present("test")
    assert not datasets.get("cifar10").present("train")
    assert len(datasets.load("cifar10", "test")) == 1
