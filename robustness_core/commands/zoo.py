"""`python -m robustness_core.commands.zoo`: writes the table of zoo/README.md from the networks' cards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from robustness_core import datasets
from robustness_core.errors import StrataError
from robustness_core.files import read_card, write_whole

ZOO = Path(__file__).resolve().parents[2] / "zoo"

_HEAD = """# The zoo

Networks trained and measured by this project, each with its card (`<name>.json`): how it was made, the exact command,
its accuracies over a grid of budgets under PGD and FAB, the least perturbations that FAB, DDN and APGD-t find on images
that an audit takes (`audited`), and its layers. This file is written by `python -m robustness_core.commands.zoo`;
`python -m robustness_core evaluate FILE` measures a network again.

*Training* names the method, its budget ε, the steps of its attack on every batch (papers use 7 to 40), and the
precision of its passes; weights are float32 while they are trained. In adversarial training the budget rises linearly
from 0 to ε over the first third and stays there.

*Clean*, *robust*, *usual* and *independent* are accuracies with the stored weights on all test images, or on as many
as are named, always the first of one random order, at the network's budget ε. *Robust* is under the project's L2 PGD,
40 steps that shrink from ε to 0: the stronger one of the two. *Usual* is under L2 PGD as papers run it, 40 constant
steps of 2.5 ε / 40 with the last iterate judged: compare it with published figures, and believe *robust*.
*Independent* is under DDN of the library foolbox, 100 steps, on the first 1,000 images of that order: it shares no
line with the project's PGD. *Pair* is *robust* when only 3 and 7 (CIFAR-10: cat and horse) are asked for. The
accuracies after each epoch in a card (`epochs`) are of 500 test images under a PGD of 10 steps, before the weights
are stored: they show the course of training, no more.
The bundled digits (`mnist-5k`) are part of MNIST's training images: networks trained on all 60,000 have seen them, one
trained on 15,000 has seen a quarter of them. Of `cifar10-2k`, every CIFAR-10 network here has seen the training images
(they lie in the first of the batches that it was trained on) and none of the test images.

| network | training | images | epochs | seconds | clean | robust | usual | independent | pair | size |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def row(checkpoint: Path, card: dict[str, Any]) -> str:
    """One line of the table; a network that is not measured yet has dashes."""
    if "training" not in card:
        raise StrataError(f"{checkpoint} has no card that says how it was trained.")
    spec = card["training"]
    how = spec["method"] if spec["method"] == "benign" else f"{spec['method']}, ε = {spec['epsilon']:g}"
    if spec["method"] == "trades":
        how += f", β = {spec['beta']:g}"
    if spec["method"] != "benign":
        how += f", {spec['attack_steps']} attack step{'' if spec['attack_steps'] == 1 else 's'}"
    how += f", {spec['precision']}"
    evaluation = card.get("evaluation", {})
    clean = f"{evaluation['clean']['accuracy']:.2%}" if "clean" in evaluation else "–"
    pair, curve = "–", evaluation.get("class_pair", {"epsilon": []})
    if spec["epsilon"] in curve["epsilon"]:
        pair = f"{curve['pgd'][curve['epsilon'].index(spec['epsilon'])]:.1%} ({curve['images']} images)"
    whole = datasets.get(spec["dataset"]).sizes["test"]
    attacked = [_headline(evaluation.get(name), whole) for name in ("robust", "usual", "independent")]
    size = f"{checkpoint.stat().st_size / 1e6:.1f} MB ({card['stored_as']})"
    cells = [card["name"], how, str(card["images"]), str(spec["epochs"]), f"{card['seconds']:.0f}"]
    return "| " + " | ".join([*cells, clean, *attacked, pair, size]) + " |\n"


def _headline(part: dict[str, Any] | None, whole: int) -> str:
    if part is None:
        return "–"
    budgets = zip(part["epsilon"], part["accuracy"], strict=True)
    figures = ", ".join(f"{accuracy:.2%} at ε = {epsilon:g}" for epsilon, accuracy in budgets)
    return figures if part["images"] >= whole else f"{figures} ({part['images']:,} images)"


def text(zoo: Path) -> str:
    """The whole README of a folder of networks."""
    return _HEAD + "".join(row(path, read_card(path)) for path in sorted(zoo.glob("*.safetensors")))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of the zoo from its cards.")
    parser.add_argument("--zoo", type=Path, default=ZOO, help="the folder of the networks and their cards")
    zoo = parser.parse_args().zoo
    try:
        write_whole(zoo / "README.md", text(zoo).encode())
    except StrataError as error:
        print(f"strata: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
