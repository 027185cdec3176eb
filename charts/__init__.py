"""Figures: pure functions from arrays to plotly figures; they know neither a store nor a screen."""
