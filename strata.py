"""The command `strata`: the dashboard, audits at the terminal, workers and the care of the database, under one name.

In a checkout `python -m strata`, or `.venv/bin/strata`. The programs below it can also be called by themselves, as
`python -m robustness_core audit`, `python -m worker` and `python -m store backup`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HOME = next(folder for folder in (HERE / "strata_app", HERE) if folder.is_dir())  # where setup.py puts the rest
OWN = {
    "run": ("", "start the dashboard with a worker beside it; takes the options of `streamlit run`"),
    "worker": ("worker", "work on what is asked, until stopped"),
    "figure": ("charts", "draw the figures of an audit for a paper"),
    "publish": ("robustness_core.notebook", "put an audit that a notebook saved into the database"),
    "backup": ("store", "write a consistent copy of the database, also while Strata runs"),
    "check": ("store", "look for damage in the database"),
    "copy": ("store", "copy a database into an empty one"),
    "upgrade": ("store", "make the database, or bring it up to date"),
}


def main(arguments: list[str] | None = None) -> int:
    """The exit status of a program; 2 with one line on stderr if there is none of this name."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    sys.path.insert(0, str(HOME))
    science = importlib.import_module("robustness_core.__main__")
    if name in science.COMMANDS:
        return int(science.main([name, *rest], prog="strata"))
    if name not in OWN:
        listing = {"run": OWN["run"][1], **science.COMMANDS, **{own: says for own, (_, says) in OWN.items()}}
        lines = "\n".join(f"  {own:<10}{says}" for own, says in listing.items())
        asked_for_help = name in ("-h", "--help")
        wrong = "" if asked_for_help else f"strata: there is no command {name!r}\n"
        print(f"{wrong}usage: strata COMMAND …\n\n{lines}", file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    package = OWN[name][0]
    if name == "run":
        if importlib.util.find_spec("streamlit") is None:
            print("strata: the dashboard needs its extra, dashboard, as in pip install '.[dashboard]'", file=sys.stderr)
            return 2
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
        package, name = "store", "attend"  # -P: a file of the user's named like one of our packages is not in the way
        rest = [sys.executable, "-P", "-m", "streamlit", "run", str(HOME / "app.py"), *rest]
    program = importlib.import_module(f"{package}.__main__")
    return int(program.main([*([name] if package == "store" else []), *rest]))


if __name__ == "__main__":
    sys.exit(main())
