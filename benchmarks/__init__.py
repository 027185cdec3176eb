"""Scripts that print the speed figures, each beside its baseline, in one run."""
