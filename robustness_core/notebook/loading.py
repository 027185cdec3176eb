"""Networks for a notebook: bundled ones, files, and those of a database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from robustness_core import zoo
from robustness_core.checkpoints import clean_copy, sha256
from robustness_core.engine.compute import read
from robustness_core.engine.tasks import NetworkFile
from robustness_core.errors import StrataError
from robustness_core.notebook.networks import Loaded
from robustness_core.sandbox import untrusted


def load(network: str | Path, *, database: str | None = None, **hints: Any) -> Loaded:
    """A bundled network by its name, or the network in a file, in evaluation mode on the CPU.

    `database`: a file or a URL in which the network of that name is looked for instead. `hints` are those of `inspect`:
    architecture, mean, std. What was guessed stands in the attribute `guessed`. Raises StrataError.
    """
    if database is not None:
        return _stored(str(network), database)
    path = zoo.find(str(network))
    found, guessed = untrusted.load(path, hints)
    bundled = zoo.name_of(sha256(path)) if not hints else None
    own = Loaded.of(found, bundled or path.stem)
    own.guessed = guessed
    own.keep(path.read_bytes() if bundled else clean_copy(own))
    return own


def _stored(name: str, url: str) -> Loaded:
    from store import connect, networks

    db = connect(url)
    try:
        record = networks.by_name(db, name)
        if record is None:
            raise StrataError(f"There is no network {name!r} in {db.name}.")
        content = networks.weights(db, record.id)
    finally:
        db.close()
    said = record.sha256, record.format, record.architecture, record.input_shape, record.mean, record.std
    network = Loaded.of(read(NetworkFile(*said, content)), record.name)
    network.sha256, network.content, network.format = record.sha256, content, record.format
    return network
