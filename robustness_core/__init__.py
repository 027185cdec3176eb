"""The science of Strata: collisions, distances, conflict graphs and optimal losses; no browser, no database."""

__version__ = "0.1.0"
