"""Brings the bundled networks that are too large for the package; what has another SHA-256 than it says is refused."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from robustness_core import zoo
from robustness_core.errors import StrataError
from robustness_core.files import write_together


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FROM", help="zoo/ of a checkout, or the address of a release's files")


def run(args: argparse.Namespace) -> None:
    """Raises StrataError for a source that lacks a network, or has another of its name."""
    for name, sha256 in zoo.larger().items():
        target = zoo.fetched() / name
        if not target.exists():
            content = _read(args.source, name)
            if hashlib.sha256(content).hexdigest() != sha256:
                raise StrataError(f"{args.source}/{name} is not the network of this version, so it is not kept.")
            target.parent.mkdir(parents=True, exist_ok=True)
            card = target.with_suffix(".json")
            write_together({card: (zoo.ZOO / card.name).read_bytes(), target: content})
        print(target)
    if not zoo.larger():
        print(f"Every bundled network lies in {zoo.ZOO}.")


def _read(source: str, name: str) -> bytes:
    from urllib.request import urlopen  # imported only where something is fetched

    address = f"{source.rstrip('/')}/{name}" if "://" in source else (Path(source).resolve() / name).as_uri()
    try:
        with urlopen(address, timeout=60) as file:
            content: bytes = file.read()
            return content
    except OSError as error:
        raise StrataError(f"{address} cannot be read: {getattr(error, 'reason', error)}.") from None
