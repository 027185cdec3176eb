"""A clean copy of a network from any file: the project's own format, with nothing of the original but its numbers."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robustness_core.checkpoints.candidates import PROGRAM
from robustness_core.networks import Network, programs


def clean_copy(network: Network) -> bytes:
    """A network as the bytes of a safetensors file that `load` reads without hints, whatever file it came from.

    Nothing of the original but its numbers is kept: no names, no metadata.
    """
    metadata = {
        "architecture": network.architecture,
        "input_shape": json.dumps(list(network.input_shape)),
        "mean": "" if network.mean is None else json.dumps(list(network.mean)),
        "std": "" if network.std is None else json.dumps(list(network.std)),
    }
    if isinstance(network.body, programs.Program):
        metadata[PROGRAM] = programs.to_json(network.body.steps)
    return _safetensors(network.body.state_dict(), metadata)


def _safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file; unlike the library's own, the same network always gives the same bytes, and so one hash."""
    kinds = {torch.float32: "F32", torch.int64: "I64"}
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    parts: list[Any] = []  # uint8: views of the weights, which may take half of the memory there is
    end = 0
    for name, tensor in sorted(tensors.items()):
        content = tensor.detach().contiguous().reshape(-1).numpy().view(np.uint8)
        start, end = end, end + content.nbytes
        header[name] = {"dtype": kinds[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        parts.append(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])
