"""The science of Strata: collisions, distances, conflict graphs and optimal losses; no browser, no database.

The names of `__all__` are what a notebook works with; each is loaded when it is first used, torch with the first of
them that computes.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
_FACE = {
    "load": "notebook.loading",
    "wrap": "notebook.networks",
    "sample": "notebook.images",
    "audit": "notebook.audits",
    "read": "notebook.results",
    "find_collisions": "collision",
    "loss_curve": "optimal_loss",
}
__all__ = ["audit", "find_collisions", "load", "loss_curve", "read", "sample", "wrap"]


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FACE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
