"""A caption states everything that a reader needs to repeat the figure."""

from charts.captions import caption

FIELDS = {
    "network": "small-pgd", "dataset": "mnist", "split": "train", "classes": (3, 7), "samples": 20,
    "layers": ["conv1", "logits"], "features": {"conv1": 3136, "logits": 10}, "m": [10], "projections": 2,
    "method": "balanced", "preset": "default", "version": 4, "seed": 5, "known": 800, "total": 800,
}  # fmt: skip


def test_caption_names_every_setting() -> None:
    text = caption(**FIELDS)
    for part in ("small-pgd", "mnist (train)", "class 3 against 7", "S = 20", "conv1 (3,136)", "logits (10)", ": 10",
                 "2 projections", "balanced", "default", "version 4", "seed 5", "lower bound"):  # fmt: skip
        assert part in text
    assert "unknown" not in text


def test_caption_says_how_much_is_known() -> None:
    assert "400 of 800 pairs are known" in caption(**{**FIELDS, "known": 400})
    without = caption(**{**FIELDS, "m": [None], "projections": 1})
    assert "No projection, all features of a layer (m ≥ nj); method" in without
    assert "N = " not in without
