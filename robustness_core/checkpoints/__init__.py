"""Networks from files: `load` reads a checkpoint of any accepted kind, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustness_core.checkpoints import containers
from robustness_core.checkpoints.candidates import Candidate, candidates, sha256
from robustness_core.checkpoints.identify import choose
from robustness_core.errors import CheckpointError
from robustness_core.files import check_normalisation
from robustness_core.networks import Network
from robustness_core.networks.saving import clean_copy, save

__all__ = ["Candidate", "CheckpointError", "clean_copy", "load", "save", "sha256"]


def load(
    path: Path | str,
    *,
    architecture: str | None = None,
    dataset: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_shape: Sequence[int] | None = None,
    stage: str | None = None,
) -> Network:
    """The network in a file (safetensors, a state_dict of torch, ONNX), in evaluation mode on the CPU.

    A file of the project's own needs no hints. With `architecture` (a text, or a name that `inspect` gave) the rest
    is taken as given and no images are read; without it, architecture and normalisation are chosen by accuracy on
    `dataset` (or the one that fits), as `inspect` does. `stage` names one of several state_dicts in the file.
    Raises CheckpointError with one sentence.
    """
    path = Path(path)
    check_normalisation(mean, std)
    contents = containers.read(path)
    found = candidates(contents, architecture=architecture, input_shape=input_shape, stage=stage)
    if found[0].says_normalisation or mean is not None:
        given = (mean, std) if mean is not None and std is not None else found[0].normalisation
        network = found[0].network(*(given or (None, None)))
    elif architecture is not None:
        network = found[0].network()
    else:
        network = choose(found, dataset=dataset)
    network.format = contents.format
    network.sha256 = sha256(path)
    return network
