"""`python -m robustness_core.commands.shelf`: writes the table of zoo/README.md from the networks' cards."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from robustness_core.checkpoints_io import read_card, write_whole

ZOO = Path(__file__).resolve().parents[2] / "zoo"

_HEAD = """# The zoo

Networks trained and measured by this project, each with its card (`<name>.json`): how it was made, the exact command,
its accuracies over a grid of budgets under PGD and FAB, and its layers. This file is written by
`python -m robustness_core.commands.shelf`; `python -m robustness_core evaluate FILE` measures a network again.

*Clean* and *robust* are accuracies on test images (the card says how many) with the stored weights. *Robust* is under
L2 PGD of 40 steps at the budget ε, with steps that shrink from ε to 0: on 1,000 test images, constant steps of
2.5 ε / 40 leave 77.2 % of mnist-medium-pgd2 standing where these leave 66.4 %. *Pair* is the robust accuracy at the
same ε when only 3 and 7 (CIFAR-10: cat and horse) are asked for.
The bundled digits (`mnist-5k`) are part of MNIST's training images: networks trained on MNIST have seen them.

| network | training | images | epochs | seconds | clean | robust | pair | size |
|---|---|---|---|---|---|---|---|---|
"""


def row(checkpoint: Path, card: dict[str, Any]) -> str:
    """One line of the table; a network that is not measured yet has dashes."""
    spec, evaluation = card["training"], card.get("evaluation")
    how = spec["method"] if spec["method"] == "benign" else f"{spec['method']}, ε = {spec['epsilon']:g}"
    if spec["method"] == "trades":
        how += f", β = {spec['beta']:g}"
    clean = robust = pair = "–"
    if evaluation:
        clean = f"{evaluation['clean']['accuracy']:.2%}"
        budgets = zip(evaluation["robust"]["epsilon"], evaluation["robust"]["accuracy"], strict=True)
        robust = ", ".join(f"{accuracy:.2%} at ε = {epsilon:g}" for epsilon, accuracy in budgets)
        curve = evaluation["class_pair"]
        if spec["epsilon"] in curve["epsilon"]:
            pair = f"{curve['pgd'][curve['epsilon'].index(spec['epsilon'])]:.1%}"
    size = f"{checkpoint.stat().st_size / 1e6:.1f} MB ({card['stored_as']})"
    cells = [card["name"], how, str(card["images"]), str(spec["epochs"]), f"{card['seconds']:.0f}"]
    return "| " + " | ".join([*cells, clean, robust, pair, size]) + " |\n"


def text(zoo: Path) -> str:
    """The whole README of a folder of networks."""
    return _HEAD + "".join(row(path, read_card(path)) for path in sorted(zoo.glob("*.safetensors")))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of the zoo from its cards.")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="the folder of the networks and their cards")
    zoo = parser.parse_args().zoo
    write_whole(zoo / "README.md", text(zoo).encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
