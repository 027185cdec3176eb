"""Shared fixtures of all tests."""

import os

from hypothesis import settings

# On continuous integration the same examples every time, so that a change is judged by itself; elsewhere new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
