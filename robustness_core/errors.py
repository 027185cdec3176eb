"""What can go wrong, each as one sentence for the user; a kind of its own only where somebody tells it apart."""

from __future__ import annotations

import re

ACCEPTED = "accepted are safetensors, a state_dict saved by torch.save (.pt, .pth, .th) and ONNX"
PICTURES = "accepted are a zip of class folders with PNG and JPEG, and .npz"


class StrataError(ValueError):
    """Something cannot be done as asked; its text is one sentence for the user.

    `status`: that of a command which ends so.
    """

    status = 2


class SpecError(StrataError):
    """A question that cannot be asked."""


class DatasetError(StrataError):
    """Images that are not at hand, or damaged."""


class NetworkError(StrataError):
    """A network that cannot be built as described, or not be cut into layers."""


class CheckpointError(StrataError):
    """A file that is refused: what is wrong and what would be accepted."""


def shown(name: object, longest: int = 60) -> str:
    """A name out of a file, safe to print anywhere: markup, quotes and control characters are spelled as escapes."""
    text = str(name)
    return re.sub(r"[^\w .:/+-]", _escape, text[:longest]) + ("…" if len(text) > longest else "")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
