"""Strata's own checkpoint file: safetensors of a network's weights with what is needed to build it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors import SafetensorError
from safetensors.torch import save as to_bytes
from torch import Tensor

from robustness_core.errors import CheckpointError
from robustness_core.files import write_together
from robustness_core.networks import Network, build


def save(
    network: Network, path: Path, card: Mapping[str, Any] | None = None, *, dtype: torch.dtype | None = None
) -> None:
    """Write `network.body` as safetensors under its own names, and `card` as JSON at `path` with suffix .json.

    The file's metadata hold the strings architecture, input_shape, mean and std (JSON; empty without normalisation).
    `dtype` float16 halves the file; weights are stored as they are unless given. Weights and card replace older ones
    together. Raises StrataError, also where a weight is not finite or beyond the range of `dtype`.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.body.state_dict().items()}
    if dtype is not None:
        state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise CheckpointError(f"The weights {name} hold a number that is not finite as {kind}; nothing is saved.")
    metadata = {
        "architecture": network.architecture,
        "input_shape": json.dumps(list(network.input_shape)),
        "mean": "" if network.mean is None else json.dumps(list(network.mean)),
        "std": "" if network.std is None else json.dumps(list(network.std)),
    }
    weights = {path: _in_order(to_bytes(state, metadata=metadata))}
    write_together(weights if card is None else weights | _card(path, card))


def _in_order(content: bytes) -> bytes:
    """The same safetensors with its header sorted: safetensors shuffles it, and one network needs one SHA-256.

    Layout: the header's length (8 bytes, little-endian), the header (JSON, padded with spaces to 8 bytes), the data.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def save_card(path: Path, card: Mapping[str, Any]) -> None:
    """Write the card of the checkpoint `path` as JSON beside it. Raises StrataError."""
    write_together(_card(path, card))


def _card(path: Path, card: Mapping[str, Any]) -> dict[Path, bytes]:
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    return {path.with_suffix(".json"): text.encode()}


def read_card(path: Path) -> dict[str, Any]:
    """The card of the checkpoint `path`, or an empty one where there is none. Raises CheckpointError."""
    card = path.with_suffix(".json")
    if not card.is_file():
        return {}
    try:
        content = json.loads(card.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The card {card} is not readable JSON.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"The card {card} is not a JSON object.")
    return content


def read(path: Path) -> Network:
    """The network that `save` wrote, weights as float32. Raises CheckpointError with one sentence."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}.") from error
    if "architecture" not in metadata or "input_shape" not in metadata:
        raise CheckpointError(f"{path} does not say its architecture; it was not written by Strata.")
    try:
        mean, std = (json.loads(metadata[key]) if metadata.get(key) else None for key in ("mean", "std"))
        network = build(metadata["architecture"], json.loads(metadata["input_shape"]), mean=mean, std=std)
        network.body.load_state_dict(state)
    except (ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"The weights in {path} do not fit the architecture that it names.") from error
    return network.eval()
