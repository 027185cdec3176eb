"""Registers the bundled networks of zoo/, with the audits that come with them."""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from zipfile import BadZipFile

from robustness_core import zoo
from robustness_core.engine.audit import ExecutorError
from robustness_core.engine.tasks import NetworkFile
from robustness_core.errors import CheckpointError
from robustness_core.files import Description, read_card, read_header
from store import Database, StoreError, networks
from store.records import LayerRecord, NetworkRecord
from worker import first_look
from worker.executors import Executor

log = logging.getLogger("worker")


def seed(db: Database, executor: Executor, folder: Path | None = None) -> list[NetworkRecord]:
    """Register every network of the zoo, or of a folder like it, that is new; one that cannot be read is skipped."""
    found = []
    for path in sorted(folder.glob("*.safetensors")) if folder else zoo.files():
        try:
            found.append(_register(db, executor, path))
        except (StoreError, ExecutorError):
            raise
        except (OSError, ValueError, KeyError) as error:
            log.error("%s cannot be read and is skipped: %s", path.name, error)
    try:
        first_look.load(db, found, (folder or zoo.ZOO) / first_look.FILE.name)
    except StoreError:
        raise
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        log.error("%s cannot be read and is skipped: %s", first_look.FILE.name, error)
    return found


def _register(db: Database, executor: Executor, path: Path) -> NetworkRecord:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    card = read_card(path)
    known = networks.by_sha256(db, sha256)
    if known is not None:
        if known.source == "zoo" and known.card != card:  # measured again since
            networks.put_card(db, known.id, card)
        return known
    said = Description.of(read_header(io.BytesIO(content))[0])
    if said is None:
        raise CheckpointError("it does not say its architecture.")
    file = NetworkFile(
        sha256=sha256,
        format="safetensors",
        architecture=said.architecture,
        input_shape=said.input_shape,
        mean=said.mean,
        std=said.std,
        content=content,
    )
    layers = [LayerRecord(**{**layer, "shape": tuple(layer["shape"])}) for layer in executor.layers(file)]
    record = networks.register(db, file, name=path.stem, source="zoo", layers=layers, card=card)
    log.info("network=%s is registered", record.name)
    return record
