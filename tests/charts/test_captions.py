"""A caption states everything that a reader needs to repeat the figure, the figure's subject first."""

from dataclasses import replace

import numpy as np

from charts.captions import Caption, caption
from charts.curves import Curve
from robustness_core.spec import AuditSpec

SPEC = AuditSpec.of(
    "small-pgd", dataset="mnist", classes=(3, 7), samples=20, layers=("conv1", "logits"), m=(10,), projections=2, seed=5
)
CURVES = [
    Curve(name, features, 10, np.zeros((2, 81)), 400, 800) for name, features in (("conv1", 3136), ("logits", 10))
]


def of(spec: AuditSpec, curves: list[Curve]) -> Caption:
    return caption(spec, curves, 4, drawn="mean")


def test_caption_names_every_setting() -> None:
    whole = of(SPEC, [replace(curve, known=800) for curve in CURVES])
    assert whole.first == (
        "Optimal loss of small-pgd on mnist (train), class 3 against 7, S = 20 images a class, all S² pairs."
    )
    for part in ("conv1 (3,136)", "logits (10)", ": 10", "2 projections (mean)", "balanced", "default", "version 4",
                 "seed 5", "lower bound"):  # fmt: skip
        assert part in whole.more
    assert "unknown" not in whole.more
    assert str(whole) == f"{whole.first} {whole.more}"


def test_caption_says_how_much_is_known() -> None:
    assert "800 of 1,600 pairs are known" in of(SPEC, CURVES).more
    one = [replace(curve, m=None, losses=np.zeros((1, 81)), known=400, total=400) for curve in CURVES]
    without = of(SPEC.replace(m=(None,), projections=1), one).more
    assert "No projection, all features of a layer (m ≥ nj); method" in without
    assert "N = " not in without
