"""`strata publish FILE`: put an audit that a notebook or `audit --json` saved into the dashboard's database."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from robustness_core.errors import StrataError
from robustness_core.notebook.results import read


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 with one line on stderr if the audit cannot be entered."""
    parser = argparse.ArgumentParser(prog="strata publish", description=__doc__)
    parser.add_argument("file", type=Path, help="what `Result.save` wrote; a .json is enough for bundled networks")
    parser.add_argument("--database", metavar="URL", help="default: STRATA_DATABASE, else var/strata.db")
    args = parser.parse_args(arguments)
    try:
        print(read(args.file).publish(args.database))
        return 0
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
