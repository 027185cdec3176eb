"""Collisions: `find_collisions` searches them and verifies every one; `hints` foretell their distances."""

from robustness_core.collision.find import NEARER, Collisions, find_collisions, nearest
from robustness_core.collision.hints import hints

__all__ = ["NEARER", "Collisions", "find_collisions", "hints", "nearest"]
