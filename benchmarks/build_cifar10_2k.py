"""Builds robustness_core/datasets/data/cifar10-2k-train.png and -test.png from the official binary files of CIFAR-10.

`python benchmarks/build_cifar10_2k.py cifar-10-batches-bin`. Each picture is a sheet of 10 rows, class 0 first, with
100 images of 32 × 32 in a row: the first 100 of their class in `data_batch_1.bin` and in `test_batch.bin`.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

TARGET = Path(__file__).resolve().parents[1] / "robustness_core" / "datasets" / "data"
# File of each split, and the SHA-256 of what is taken out of it: some copies of CIFAR-10 hold images that were
# compressed with loss.
SOURCES = {
    "train": ("data_batch_1.bin", "59ffa5d6fcc108d1aad7427f76016966eb5f31b5a08c6dee70761c46e9f8752f"),
    "test": ("test_batch.bin", "7c38c61aa8c7f1716d28cda247fd6f77a8db4bc051de264382e94804d47bce91"),
}
EACH = 100


def main(folder: str) -> int:
    for split, (name, sha256) in SOURCES.items():
        table = np.fromfile(Path(folder) / name, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        chosen = np.concatenate([np.flatnonzero(table[:, 0] == label)[:EACH] for label in range(10)])
        pixels = np.moveaxis(table[chosen, 1:].reshape(10, EACH, 3, 32, 32), 2, -1)
        if hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest() != sha256:
            print(f"{folder}/{name} does not hold the official images of CIFAR-10.", file=sys.stderr)
            return 2
        target = TARGET / f"cifar10-2k-{split}.png"
        Image.fromarray(pixels.swapaxes(1, 2).reshape(10 * 32, EACH * 32, 3)).save(target, optimize=True)
        print(f"{target}: {target.stat().st_size} bytes, images up to number {chosen.max()} of {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
