"""Colours: in order, readable on both backgrounds, the same for the same layer; text: nothing is read as HTML."""

from pathlib import Path

import pytest

from charts import style

BACKGROUND = {False: "#ffffff", True: "#0e1117"}


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2.1."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("count", [1, 2, 7, 24])
def test_palette_is_ordered_by_lightness_and_readable(count: int, dark: bool) -> None:
    colours = style.palette(count, dark)
    assert len(set(colours)) == count
    assert [luminance(c) for c in colours] == sorted(luminance(c) for c in colours)
    assert min(contrast(c, BACKGROUND[dark]) for c in colours) >= 3.0  # WCAG AA for graphics


@pytest.mark.parametrize("dark", [False, True])
def test_network_and_reference_colours_are_readable(dark: bool) -> None:
    looks = style.network_looks(list("abcdef"), dark).values()
    colours = [*(colour for colour, _ in looks), style.reference_colour(dark)]
    assert len(set(colours)) == 7
    assert len({dash for _, dash in looks}) == 6
    assert min(contrast(c, BACKGROUND[dark]) for c in colours) >= 3.0


def test_a_network_keeps_its_look_wherever_it_stands() -> None:
    for dataset in ("mnist", "cifar10"):
        bundled = sorted(path.stem for path in Path("zoo").glob(f"{dataset}-*.safetensors"))
        alone = {name: style.network_looks([name])[name] for name in bundled}
        assert style.network_looks(bundled[::-1]) == alone
        assert len(set(alone.values())) == len(bundled) > 2


def test_layer_before_its_activation_has_the_colour_of_the_layer() -> None:
    colours = style.layer_colours(["conv1.pre", "conv1", "fc1.pre", "fc1", "logits"])
    assert colours["conv1.pre"] == colours["conv1"] == style.palette(3)[0]
    assert colours["logits"] == style.palette(3)[2]


def test_text_of_users_is_escaped_and_cut() -> None:
    assert style.safe("<a href='x'>&") == "&lt;a href='x'&gt;&amp;"
    assert len(style.safe("x" * 500)) == 60


def test_translucent_keeps_the_colour() -> None:
    assert style.translucent("#0102ff", 0.25) == "rgba(1,2,255,0.25)"
