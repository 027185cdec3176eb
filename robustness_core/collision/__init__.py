"""Collisions: `find_collisions` searches them, `estimate` says what the first order promises; every one is verified."""

from robustness_core.collision.find import NEARER, Collisions, estimate, find_collisions

__all__ = ["NEARER", "Collisions", "estimate", "find_collisions"]
