"""`python -m store`: backup FILE, check, copy FROM TO, upgrade."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from store import maintenance
from store.database import connect
from store.errors import StoreError


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, 1 if a check found something, 2 with one line on stderr if the database cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m store", description="Look after Strata's database.")
    parser.add_argument("--database", metavar="URL", help="default: STRATA_DATABASE, else var/strata.db")
    commands = parser.add_subparsers(dest="command", required=True)
    backup = commands.add_parser("backup", help="write a consistent copy to FILE, also while Strata runs")
    backup.add_argument("file", type=Path, metavar="FILE")
    commands.add_parser("check", help="look for damage")
    copy = commands.add_parser("copy", help="copy a database into an empty one, for example from SQLite to PostgreSQL")
    copy.add_argument("source", metavar="FROM")
    copy.add_argument("target", metavar="TO")
    commands.add_parser("upgrade", help="make the database, or bring it up to date")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    db = connect(options.source if options.command == "copy" else options.database)
    try:
        if options.command == "backup":
            maintenance.backup(db, options.file)
            print(f"{db.name} → {options.file}")
        elif options.command == "check":
            findings = maintenance.check(db)
            print("\n".join(findings) or f"{db.name} is sound.")
            return 1 if findings else 0
        elif options.command == "copy":
            for table, rows in maintenance.copy(db, options.target).items():
                print(f"{table}: {rows} rows")
        else:
            print(f"{db.name} is up to date.")
        return 0
    finally:
        db.close()


if __name__ == "__main__":
    sys.exit(main())
