"""Networks: built from a text, converted from a graph, written and read in the project's own format."""

from robustness_core.networks.architecture import ARCHITECTURES, GRAMMAR, ArchitectureError, Network, Normalise, build

__all__ = ["ARCHITECTURES", "GRAMMAR", "ArchitectureError", "Network", "Normalise", "build"]
