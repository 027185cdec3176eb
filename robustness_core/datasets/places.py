"""Where the files of data sets lie: the folder that the user names, then the cache, which alone takes downloads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from robustness_core.errors import DatasetError
from robustness_core.files import cache_folder

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Read = tuple[Pixels, Labels, str]  # images, their labels, and in words what was read

BUNDLED = Path(__file__).parent / "data"


def named() -> tuple[str, str]:
    """The folder of STRATA_DATA, empty without one, and the cache folder."""
    return os.environ.get("STRATA_DATA", ""), str(cache_folder())


def folders() -> list[Path]:
    """The folders in which files are looked for, in this order. Raises DatasetError if STRATA_DATA does not exist."""
    given, cache = named()
    if given and not Path(given).is_dir():
        raise DatasetError(f"The data folder STRATA_DATA={given} does not exist.")
    return [Path(folder) for folder in (given, cache) if folder]


def first_file(candidates: Sequence[str]) -> Path | None:
    """The first of these paths inside a folder that is a file, folder by folder. Raises DatasetError."""
    paths = (folder / candidate for folder in folders() for candidate in candidates)
    return next((path for path in paths if path.is_file()), None)


def download(url: str, md5: str, folder: str, *, untar: bool = False) -> None:
    """Put a file into a folder of the cache, or what it packs. Raises OSError, ValueError or what requests raises."""
    import pooch  # imported only where a download is needed: it pulls in requests

    pooch.get_logger().setLevel("WARNING")
    processor: Any = pooch.Untar(extract_dir=".") if untar else None
    name = url.rsplit("/", 1)[-1]
    pooch.retrieve(url, known_hash=f"md5:{md5}", path=cache_folder() / folder, fname=name, processor=processor)
