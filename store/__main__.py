"""`python -m store`: backup FILE, check, copy FROM TO, upgrade, attend COMMAND."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from store import maintenance, supervisor
from store.database import Database, connect
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
    attend = commands.add_parser("attend", help="start the worker, then COMMAND, beside which it stays")
    attend.add_argument("program", nargs=argparse.REMAINDER, metavar="COMMAND")
    for command in commands.choices.values():
        command.add_argument("--database", metavar="URL", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.command == "attend" and not options.program:
        parser.error("attend needs a command, for example python -m streamlit run app.py")
    try:
        return _run(options)
    except StoreError as error:
        print(f"strata: {error}", file=sys.stderr)
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
        elif options.command == "attend":
            _attend(db, options.program)
        elif options.command == "copy":
            for table, rows in maintenance.copy(db, options.target).items():
                print(f"{table}: {rows} rows")
        else:
            print(f"{db.name} is up to date.")
        return 0
    finally:
        db.close()


def _attend(db: Database, program: list[str]) -> NoReturn:
    """Become `program`, which counts as a dashboard from now to its end; its worker need not wait for a page.

    Raises StoreError if there is no such program.
    """
    os.environ["STRATA_DATABASE"] = db.url
    supervisor.attend(db, inheritable=True)
    if not supervisor.elsewhere():
        supervisor.ensure(db)
    try:
        os.execvp(program[0], program)
    except OSError as error:
        raise StoreError(f"{program[0]} cannot be started: {error.strerror}.") from error


if __name__ == "__main__":
    sys.exit(main())
