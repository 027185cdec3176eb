"""Collisions: `find_collisions` searches them and verifies every one; `hints` foretell their distances."""

from robustness_core.collision.find import Collisions, find_collisions, nearest
from robustness_core.collision.hints import hints
from robustness_core.collision.sets import SetCollisions, find_set_collisions

__all__ = ["Collisions", "SetCollisions", "find_collisions", "find_set_collisions", "hints", "nearest"]
