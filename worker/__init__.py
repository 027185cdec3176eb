"""The worker: claims what is asked, computes what is not known yet, records it. Start it with `python -m worker`."""
