"""The fields of a question: one table for all who name them: widgets, addresses, the command line and its reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustness_core.spec.audit import ALL_UP_TO, AuditSpec
from robustness_core.spec.methods import METHODS, PAPERS, PRESETS
from robustness_core.spec.search import PAIRS
from robustness_core.spec.threat import NORMS
from robustness_core.spec.view import MOST_BUDGETS, EpsilonGrid


@dataclass(frozen=True)
class Field:
    """How one field is asked for and written down.

    `name`: in AuditSpec.of and in the JSON. `keys`: its words in an address. `flag`: its option of the command line,
    and `argument` what argparse wants for it. `words`: what follows the flag for an audit; nothing where the flag is
    to be left out. `least` and `most`: the ends of a number, None for no end. `options`: of which one is chosen.
    """

    name: str
    keys: tuple[str, ...]
    flag: str
    label: str
    help: str
    words: Callable[[AuditSpec], Sequence[object]]
    default: Any = None
    least: int | None = None
    most: int | None = None
    options: tuple[str, ...] = ()
    argument: Mapping[str, Any] = field(default_factory=dict)

    def option(self, spec: AuditSpec) -> list[object]:
        """The words of the command line that ask for this; of a switch the flag alone."""
        words = self.words(spec)
        return [] if not words else [self.flag] if isinstance(self.default, bool) else [self.flag, *words]

    def may_be(self, value: float) -> bool:
        """Whether a number lies between the ends."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


_INT: Mapping[str, Any] = {"type": int}
_INTS: Mapping[str, Any] = {"type": int, "nargs": "+"}

FIELDS: Mapping[str, Field] = {
    one.name: one
    for one in (
        Field(
            name="dataset",
            keys=("dataset",),
            flag="--dataset",
            label="Data set",
            help="The images: a data set; on the command line also a folder or zip of class folders, or an .npz. "
            "Without one, the bundled one that fits the network.",
            words=lambda spec: [spec.sample.dataset],
        ),
        Field(
            name="classes",
            keys=("a", "b"),
            flag="--classes",
            label="Classes",
            help="Two or more classes, by their numbers, or all; pairs have no direction. Without them, the data set's "
            "usual pair.",
            words=lambda spec: spec.sample.classes,
            least=0,
            argument={"nargs": "+", "metavar": "CLASS"},
        ),
        Field(
            name="samples",
            keys=("S",),
            flag="--samples",
            label="Sample S",
            help="Images of each class, which make S² pairs. A larger sample contains the smaller one.",
            words=lambda spec: [spec.sample.size],
            default=20,
            least=1,
            argument=_INT,
        ),
        Field(
            name="layers",
            keys=("layers",),
            flag="--layers",
            label="Layers",
            help="Names of layers with commas between them, or all.",
            words=lambda spec: [",".join(spec.search.layers)],
            default="all",
        ),
        Field(
            name="m",
            keys=("m",),
            flag="--m",
            label="m",
            help="Rows of the random projection: the nj features of a layer are read through m random mixtures of "
            "them. A layer with fewer than m features is left out. On the command line several, or none for no "
            "projection.",
            words=lambda spec: ["none" if m is None else m for m in spec.search.m],
            default=10,
            least=1,
            argument={"nargs": "+", "default": ["10"]},
        ),
        Field(
            name="projections",
            keys=("N",),
            flag="--projections",
            label="N",
            help="Random projections of each layer; curves are their means, and 5 or more say how far these can be "
            "trusted.",
            words=lambda spec: [spec.search.projections],
            default=1,
            least=1,
            most=1000,
            argument=_INT,
        ),
        Field(
            name="left_out",
            keys=("left_out",),
            flag="--leave-out",
            label="Images left out",
            help="Numbers of images that the next ones of the sample replace, for example misclassified ones.",
            words=lambda spec: spec.sample.left_out,
            default=(),
            argument=_INTS,
        ),
        Field(
            name="projection_seed",
            keys=("from_projection",),
            flag="--projection-seed",
            label="Seed of the projections",
            help="To draw other projections for the same images, or other images for the same projections.",
            words=lambda spec: [] if spec.search.seed == spec.sample.seed else [spec.search.seed],
            argument=_INT,
        ),
        Field(
            name="seed",
            keys=("seed",),
            flag="--seed",
            label="Seed",
            help="Draws the images of the sample and the first projection; the next projections have the seeds that "
            "follow.",
            words=lambda spec: [spec.sample.seed],
            default=0,
            least=0,
            argument=_INT,
        ),
        Field(
            name="method",
            keys=("method",),
            flag="--method",
            label="Method",
            help="balanced: the project's search, closer and cheaper. algorithm1: the paper's linearise-and-project, "
            "as printed.",
            words=lambda spec: [spec.search.method],
            default="balanced",
            options=tuple(METHODS),
        ),
        Field(
            name="preset",
            keys=("preset",),
            flag="--preset",
            label="Preset",
            help="fast, default or thorough: how long each pair is searched, in passes, which are runs of both images "
            "through the network, forward or backward. With balanced fast takes some 60, default 110 and thorough 270. "
            "A longer search finds closer collisions.",
            words=lambda spec: [spec.search.preset],
            default="default",
            options=PRESETS,
        ),
        Field(
            name="threat",
            keys=("norm",),
            flag="--threat",
            label="Norm",
            help="How a perturbation is measured. l2: the root of the sum of squares of its pixels, the paper's. linf: "
            "the largest change of any pixel.",
            words=lambda spec: [] if spec.search.threat.norm == PAPERS.norm else [spec.search.threat.norm],
            default=PAPERS.norm,
            options=tuple(NORMS),
        ),
        Field(
            name="box",
            keys=("box",),
            flag="--box",
            label="Valid images only",
            help="Perturbed images must stay in [0, 1]. Without it they may leave the pixel range, as in the paper.",
            words=lambda spec: ["true"] if spec.search.threat.box else [],
            default=False,
            argument={"action": "store_true"},
        ),
        Field(
            name="pairs",
            keys=("searched",),
            flag="--pairs",
            label="Pairs",
            help="needed: the pairs that could change a curve, as far as can be guessed; what is left out is said. "
            f"all: every pair, for mean distances and complete matrices. Up to S = {ALL_UP_TO} always all.",
            words=lambda spec: [spec.search.pairs] if spec.sample.size > ALL_UP_TO else [],
            default="needed",
            options=PAIRS,
        ),
        Field(
            name="sets",
            keys=("sets",),
            flag="--sets",
            label="Sets",
            help="Of more than two classes: collisions of up to so many images at once, which pairs cannot tell; 2 for "
            "pairs alone, whose loss is at most log 2.",
            words=lambda spec: [spec.search.sets] if spec.search.sets != 2 else [],
            default=2,
            least=2,
            argument=_INT,
        ),
        Field(
            name="split",
            keys=("split",),
            flag="--split",
            label="Split",
            help="train: images that a network may have been trained on, the bundled ones were. test: images it has "
            "not seen.",
            words=lambda spec: [spec.sample.split],
            default="train",
            options=("train", "test"),
        ),
        Field(
            name="epsilon",
            keys=(),  # those of BUDGETS
            flag="--epsilon",
            label="Range of ε",
            help="The budgets of the curves: start:stop:count. They change what is drawn and nothing that is searched. "
            f"Without it {EpsilonGrid().text}, and in linf what suits the data set.",
            words=lambda spec: [spec.epsilon.text],
            default=EpsilonGrid(),
            argument={"default": None, "metavar": "START:STOP:COUNT"},
        ),
    )
}

# The range of ε, a number each on the screens and in addresses.
BUDGETS: Mapping[str, Field] = {
    one.name: one
    for one in (
        Field("start", ("from",), "", "Smallest ε", "", lambda spec: [spec.epsilon.start], EpsilonGrid().start, 0),
        Field("stop", ("to",), "", "Largest ε", "", lambda spec: [spec.epsilon.stop], EpsilonGrid().stop, 0),
        Field(
            "count",
            ("budgets",),
            "",
            "Number of budgets",
            "",
            lambda spec: [spec.epsilon.count],
            EpsilonGrid().count,
            2,
            MOST_BUDGETS,
        ),
    )
}


def is_usual(spec: AuditSpec, pair: tuple[int, int]) -> bool:
    """Whether screens ask this of a network and its data set unasked, but for the layers and N; `pair`: its classes."""
    usual = AuditSpec.of(
        spec.network,
        dataset=spec.sample.dataset,
        classes=pair,
        samples=FIELDS["samples"].default,
        layers=spec.search.layers,
        projections=spec.search.projections,
    )
    return spec == usual
