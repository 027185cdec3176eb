"""What `import robustness_core as rc` gives in a notebook: networks, images, audits and their results.

The one place of the science that knows the others: figures are those of `charts`, a cache is a database of `store`,
and an audit in one is worked on as `worker` does. Each is imported where it is used.
"""
