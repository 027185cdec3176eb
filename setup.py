"""How a wheel is laid out: the checkout's programs in one folder, strata_app, which strata_app.pth puts on the path.

Their names (store, worker, pages, …) would be in the way of others at the top of site-packages. Networks that are too
large for a wheel stay out; zoo/larger.txt says their SHA-256, and `strata fetch` brings them. The rest stands in
pyproject.toml.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PROGRAMS = ("app.py", ".streamlit", "charts", "pages", "robustness_core", "store", "worker", "zoo")
LARGEST = 10e6  # bytes of a network


class Build(build_py):  # type: ignore[misc]
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return  # strata.py finds them in the checkout
        app = Path(self.build_lib) / "strata_app"
        shutil.rmtree(app, ignore_errors=True)
        app.mkdir(parents=True)
        larger = [path for path in sorted(Path("zoo").glob("*.safetensors")) if path.stat().st_size > LARGEST]
        unwanted = shutil.ignore_patterns("__pycache__", "*.epochs", "secrets.toml", *(path.name for path in larger))
        for name in PROGRAMS:
            if Path(name).is_dir():
                shutil.copytree(name, app / name, ignore=unwanted)
            else:
                shutil.copy(name, app)
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in larger]
        (app / "zoo" / "larger.txt").write_text("".join(lines))
        app.with_suffix(".pth").write_text("strata_app\n")


setup(cmdclass={"build_py": Build})
