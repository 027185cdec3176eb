"""The audit engine: which pairs are searched, in which order, and what comes of them."""
