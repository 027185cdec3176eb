"""The layers of a network: where it can be cut, and the module up to a cut."""

from robustness_core.layers.dominators import Cut, LayerError, cuts, extractor, is_affine, main_layers, widths

__all__ = ["Cut", "LayerError", "cuts", "extractor", "is_affine", "main_layers", "widths"]
