"""The question in three parts: which images, which search, and how it is looked at. Validated, hashed, no torch."""

from robustness_core.errors import SpecError
from robustness_core.spec.audit import AuditSpec
from robustness_core.spec.checks import key_of
from robustness_core.spec.methods import METHODS, PAPERS, PRECISIONS, PRESETS, THREATS, TOLERANCE, Method
from robustness_core.spec.sample import SampleSpec, sample_indices
from robustness_core.spec.search import SearchSpec, SeriesSpec, check_method, check_precision, too_large_words
from robustness_core.spec.threat import Threat
from robustness_core.spec.view import EpsilonGrid

__all__ = [
    "METHODS",
    "PAPERS",
    "PRECISIONS",
    "PRESETS",
    "THREATS",
    "TOLERANCE",
    "AuditSpec",
    "EpsilonGrid",
    "Method",
    "SampleSpec",
    "SearchSpec",
    "SeriesSpec",
    "SpecError",
    "Threat",
    "check_method",
    "check_precision",
    "key_of",
    "sample_indices",
    "too_large_words",
]
