"""The command line of the science: audit, inspect, train, evaluate, claims, fetch, selftest."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NoReturn

from robustness_core.errors import StrataError

COMMANDS = {
    "audit": "measure the robustness of a network layer by layer",
    "inspect": "say what a checkpoint is and which layers it has",
    "train": "train a network",
    "evaluate": "measure the accuracy of a network, clean and under attack",
    "selftest": "check search, verification and loss on this device against known truth",
    "claims": "judge the paper's claims by the shipped audits",
    "fetch": "bring the bundled networks that are too large for the package",
}


class Parser(argparse.ArgumentParser):
    """One whose complaints begin like those of the commands."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"strata: {message}\n")


def main(arguments: list[str] | None = None, *, prog: str = "python -m robustness_core") -> int:
    """Run one command; only its own module is imported. Exit status 2 and one line on stderr for bad input."""
    given = sys.argv[1:] if arguments is None else arguments
    listing = "\n".join(f"  {name:<10}{says}" for name, says in COMMANDS.items())
    parser = Parser(
        prog=prog,
        description=f"{__doc__}\n\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, help="--help after a command lists its options")
    name = parser.parse_args(given[:1]).command
    module = importlib.import_module(f"robustness_core.commands.{name}")
    command = Parser(prog=f"{parser.prog} {name}", description=module.__doc__)
    module.add_arguments(command)
    args = command.parse_args(given[1:])
    try:
        module.run(args)
        return 0
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt as stop:
        print(f"strata: {str(stop) or 'stopped.'}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
