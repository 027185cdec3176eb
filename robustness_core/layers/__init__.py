"""The layers of a network: where it can be cut, and the module up to a cut."""

from robustness_core.layers.dominators import Cut, cuts, extractor, is_affine, main_layers, widths

__all__ = ["Cut", "cuts", "extractor", "is_affine", "main_layers", "widths"]
