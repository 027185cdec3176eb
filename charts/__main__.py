"""`python -m charts AUDIT.json --out FIGURE.pdf`: the figures of an audit for a paper, in one PDF or SVG.

AUDIT.json is what `python -m robustness_core audit --json` writes, or *JSON* on a screen. For each network and each m
there are its curves, with every step of the loss, and ε½ of each layer, or with --at the loss at that budget.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from charts import paper
from charts.document import panels_of
from robustness_core.errors import StrataError
from robustness_core.files import check_writable, write_whole


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 2 with one line on stderr if there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="python -m charts", description=__doc__.split("\n\n")[1])
    parser.add_argument("audit", type=Path, metavar="AUDIT.json")
    parser.add_argument("--out", type=Path, required=True, metavar="FIGURE.pdf|FIGURE.svg")
    parser.add_argument("--width", default="column", help="column (3.25 in), page (6.75 in), or inches")
    parser.add_argument("--font", default=paper.FONTS[0], help=f"a font's name, for example {', '.join(paper.FONTS)}")
    parser.add_argument("--size", type=float, default=8.0, help="of the letters, in points")
    parser.add_argument("--at", type=float, metavar="EPSILON", help="draw the loss of each layer at this budget")
    args = parser.parse_args(arguments)
    try:
        kind = args.out.suffix.removeprefix(".")
        if kind not in ("pdf", "svg"):
            raise paper.PaperError(f"A figure is a file that ends in .pdf or .svg, not {str(args.out)!r}.")
        check_writable(args.out)
        look = paper.Look(_inches(args.width), args.font, args.size)
        documents = _read(args.audit)
        panels = [panel for document in documents for panel in panels_of(document, args.at)]
        write_whole(args.out, paper.save(lambda: panels, kind, look))
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        return 2
    return 0


def _inches(text: str) -> float:
    try:
        return paper.WIDTHS.get(text) or float(text)
    except ValueError:
        raise paper.PaperError(f"The width is column, page or a number of inches, not {text!r}.") from None


def _read(path: Path) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise paper.PaperError(f"{str(path)!r} cannot be read: {why}.") from None
    documents = found if isinstance(found, list) else [found]
    if not all(isinstance(one, dict) and one.get("layers") and "epsilon" in one for one in documents):
        raise paper.PaperError(f"{str(path)!r} is no audit: what `audit --json` or a screen's JSON writes is one.")
    return documents


if __name__ == "__main__":
    sys.exit(main())
