"""What can go wrong, each as one sentence for the user; a kind of its own only where somebody tells it apart."""

from __future__ import annotations


class StrataError(ValueError):
    """Something cannot be done as asked; its text is one sentence for the user."""


class SpecError(StrataError):
    """A question that cannot be asked."""


class DatasetError(StrataError):
    """Images that are not at hand, or damaged."""


class NetworkError(StrataError):
    """A network that cannot be built as described, or not be cut into layers."""


class CheckpointError(StrataError):
    """A file that is refused: what is wrong and what would be accepted."""
