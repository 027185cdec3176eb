"""Judge the paper's claims by the audits and cards that come with Strata: verdict, number, interval.

Nothing is searched anew; --commands prints what would compute the audits and cards.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from robustness_core.claims import CLAIMS, gather, judge
from robustness_core.claims.printed import commands, markdown, table, to_json
from robustness_core.errors import StrataError

BEGIN, END = "<!-- claims -->", "<!-- /claims -->"  # around the table in the README


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--claim", metavar="NAME", help="one claim alone, with all of its parts; judged among all")
    parser.add_argument("--json", action="store_true", help="everything, with versions and hashes")
    parser.add_argument("--readme", type=Path, metavar="FILE", help="also put the table of all claims into this file")
    parser.add_argument(
        "--commands", action="store_true", help="the command lines that compute the audits from nothing"
    )


def run(args: argparse.Namespace) -> None:
    if args.claim is not None and args.claim not in {one.name for one in CLAIMS}:
        raise StrataError(f"There is no claim {args.claim!r}; there are {', '.join(one.name for one in CLAIMS)}.")
    evidence = gather()
    every = judge(evidence)
    verdicts = [one for one in every if args.claim in (None, one.claim.name)]
    if args.readme is not None:
        before, rest = args.readme.read_text(encoding="utf-8").split(BEGIN)
        args.readme.write_text(f"{before}{BEGIN}\n{markdown(every)}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    if args.json:
        json.dump(to_json(verdicts, evidence), sys.stdout, indent=1, ensure_ascii=False)
        print()
    elif args.commands:
        print(commands(verdicts))
    else:
        print(table(verdicts, parts=args.claim is not None))
