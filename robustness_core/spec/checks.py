"""What every part of a question shares: its checks, and the key of an identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustness_core.errors import SpecError


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise SpecError(sentence)


def is_int(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_seed(seed: object, which: str) -> None:
    require(is_int(seed) and 0 <= seed < 2**31, f"The seed{which} is {seed}; it must be a whole number of 0 or more.")  # type: ignore[operator]


def key_of(identity: Mapping[str, Any]) -> str:
    """32 hexadecimal digits for what decides an answer.

    An identity names its fields one by one and leaves out those at their historical defaults: a field that is added
    later changes no key of a question that does not use it, so that what is known stays known.
    """
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
