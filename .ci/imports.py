"""Prints how the science hangs together (`make picture`): packages, files, levels, upward imports, cycles."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
SCIENCE = "robustness_core"


def main() -> int:
    graph = grimp.build_graph(SCIENCE, cache_dir=None)
    files = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    packages = {part for name in files if (part := room(name)) and (ROOT / SCIENCE / part).is_dir()}
    modules = sorted({room(name) for name in files} - packages - {"", "__main__"})
    between: dict[str, set[str]] = defaultdict(set)
    for name, imported in files.items():
        between[room(name)] |= {room(one) for one in imported} - {room(name), ""}
    level = levels({name: used & packages for name, used in between.items() if name in packages})
    print(f"{len(packages)} packages, {max(level.values())} levels; {len(modules)} plain modules: {', '.join(modules)}")
    for name in sorted(packages, key=lambda one: (-level[one], one)):
        python = list((ROOT / SCIENCE / name).rglob("*.py"))
        lines = sum(len(one.read_text().splitlines()) for one in python)
        print(
            f"  {level[name]}  {name:<13}{len(python):>3} files {lines:>5} lines  -> {', '.join(sorted(between[name]))}"
        )
    upward = [f"{a} -> {b}" for a, used in between.items() for b in used if rank(b) > rank(a)]
    print(f"upward imports: {len(upward)} {' '.join(upward)}")
    found = cycle({name: set(imported) for name, imported in files.items()})
    print(f"cycles of files: {found or 0}")
    return 1 if upward or found else 0


def room(module: str) -> str:
    """The package, or the plain module, right below the science in which a module lies."""
    return [*module.split("."), ""][1]


def levels(used: dict[str, set[str]]) -> dict[str, int]:
    """1 for a package that uses no other, else one more than the highest that it uses."""
    found: dict[str, int] = {}
    for name in TopologicalSorter(used).static_order():
        found[name] = 1 + max((found[one] for one in used.get(name, ())), default=0)
    return found


def rank(name: str) -> int:
    """How high the layers contract of pyproject.toml puts a package or module; 0 is the foundation."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")
    ranks = {part.strip(): place for place, row in enumerate(reversed(layers)) for part in row.split("|")}
    return ranks.get(name, len(layers))


def cycle(imports: dict[str, set[str]]) -> str:
    """A circle of files that import each other, inside functions too; empty if there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
