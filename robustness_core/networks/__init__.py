"""Networks: built from a text, converted from a graph, written and read in the project's own format."""

from robustness_core.networks.architecture import ARCHITECTURES, GRAMMAR, Network, Normalise, build

__all__ = ["ARCHITECTURES", "GRAMMAR", "Network", "Normalise", "build"]
