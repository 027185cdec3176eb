"""What tests and benchmarks share: made-up stores, networks and executors, and exact answers found in a second way.

Nothing that a user runs imports it, and it imports neither tests nor benchmarks.
"""
