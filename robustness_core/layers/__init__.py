"""The layers of a network: where it can be cut, and the module up to a cut."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from robustness_core.layers import dominators, hooks
from robustness_core.layers.dominators import Cut, is_affine, widths

__all__ = ["Cut", "cuts", "extractor", "is_affine", "main_layers", "widths"]


def cuts(network: nn.Module, input_shape: Sequence[int]) -> list[Cut]:
    """As `dominators.cuts`; of a network that says `by_hooks`, since it cannot be traced, as `hooks.cuts`."""
    if getattr(network, "by_hooks", False):
        return hooks.cuts(network, input_shape)
    return dominators.cuts(network, input_shape)


def extractor(network: nn.Module, cut_name: str, input_shape: Sequence[int] | None = None) -> nn.Module:
    """As `dominators.extractor`; of a network that says `by_hooks` as `hooks.extractor`."""
    if getattr(network, "by_hooks", False):
        return hooks.extractor(network, cut_name, input_shape)
    return dominators.extractor(network, cut_name, input_shape)


def main_layers(network: nn.Module, input_shape: Sequence[int]) -> list[str]:
    """The names meant by "all layers": each layer once, after its activation, the logits last."""
    return [cut.name for cut in cuts(network, input_shape) if cut.main]
