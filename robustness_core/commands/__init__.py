"""The command line of the science: a module a command, with `add_arguments` and `run`, which raises StrataError."""
