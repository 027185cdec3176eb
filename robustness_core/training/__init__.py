"""Training, attacks and measured accuracy."""
