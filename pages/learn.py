"""Placeholder."""

from pages.parts import screen

screen.begin("Soon")
