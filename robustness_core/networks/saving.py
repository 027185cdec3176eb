"""Networks into files of the project's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from robustness_core.errors import CheckpointError
from robustness_core.files import Description, card_file, check_shape, to_bytes, write_together
from robustness_core.networks import Network, programs


def save(
    network: Network, path: Path, card: Mapping[str, Any] | None = None, *, dtype: torch.dtype | None = None
) -> None:
    """Write the weights of `network.body` under their own names, and `card` as JSON at `path` with suffix .json.

    `dtype` float16 halves the file; weights are stored as they are unless given. Weights and card replace older ones
    together. Raises StrataError, also where a weight is not finite or beyond the range of `dtype`.
    """
    weights = _weights(network, dtype)
    for name, numbers in weights.items():
        if not np.isfinite(numbers).all():
            raise CheckpointError(
                f"The weights {name} hold a number that is not finite as {numbers.dtype}; nothing is saved."
            )
    content = {path: to_bytes(weights, _metadata(network), wide_first=True)}
    write_together(content if card is None else content | card_file(path, card))


def clean_copy(network: Network) -> bytes:
    """A network as the bytes of a file that `checkpoints.load` reads without hints, whatever file it came from.

    Nothing of the original but its numbers is kept: no names, no metadata.
    """
    return to_bytes(_weights(network), _metadata(network))


def _weights(network: Network, dtype: torch.dtype | None = None) -> dict[str, npt.NDArray[Any]]:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.body.state_dict().items()}
    return {name: (one.to(dtype) if dtype and one.is_floating_point() else one).numpy() for name, one in state.items()}


def _metadata(network: Network) -> dict[str, str]:
    body = network.body
    steps = programs.to_json(body.steps) if isinstance(body, programs.Program) else None
    shape = check_shape(network.input_shape)
    return Description(network.architecture, shape, network.mean, network.std, steps).metadata()
