"""What a report says in words: the command that repeats it, and its caption in LaTeX."""

import argparse
import hashlib
import re
import shlex
from dataclasses import replace

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from pages.parts import report
from robustness_core import zoo
from robustness_core.commands import audit as command
from robustness_core.spec import EpsilonGrid
from testing import synthetic
from testing.synthetic import MADE_UP


def _asked_by(text: str) -> argparse.Namespace:
    """What the command of a report asks, as a shell hands it over."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(shlex.split(text, comments=True)[4:])


def test_command_names_a_bundled_network_by_its_file_whatever_it_is_called_here() -> None:
    sha256 = hashlib.sha256(zoo.find("cifar10-large-pgd0.5").read_bytes()).hexdigest()
    for name, file in (("cifar10-large-pgd0.5", "cifar10-large-pgd0.5.json"), ("njord", "njord.json")):
        network = replace(MADE_UP, name=name, sha256=sha256)
        text = report.command(synthetic.question(name), network)
        assert "#" not in text
        asked = _asked_by(text)
        assert (asked.network, str(asked.json)) == ("cifar10-large-pgd0.5", file)
        assert zoo.find(asked.network).is_file()


def test_command_says_which_file_an_uploaded_network_is() -> None:
    files = set()
    for name in ("mnist-small-pgd2", "../a b", "../a-b", "$(reboot)\nreboot #", "-x", "网络", "网络二"):
        network = replace(MADE_UP, name=name)
        comment, line = report.command(synthetic.question(name), network).split("\n")
        asked = _asked_by(line)
        assert comment.startswith(f"# {asked.network} stands for the file with the SHA-256 {'e' * 64};")
        assert network.sha256 in comment
        assert comment.endswith(" ".join(name.split()))
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", str(asked.json))
        assert asked.network == f"{asked.json.stem}.pt"
        files.add(asked.json)
    assert len(files) == 7


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6), st.integers(2, 2001))
def test_command_of_a_report_asks_for_the_very_same_budgets(start: float, more: float, count: int) -> None:
    grid = EpsilonGrid(start, start + more, count)
    asked = _asked_by(report.command(synthetic.question().replace(epsilon=grid), MADE_UP))
    assert EpsilonGrid.parse(asked.epsilon) == grid


def test_caption_for_latex_escapes_its_letters() -> None:
    assert report.latex("a_b & 5% \\input{x}, S² at ε") == (r"\caption{a\_b \& 5\% input\{x\}, $S^2$ at $\varepsilon$}")
    assert report.latex("10^3 ~ 2 < 3") == r"\caption{10\textasciicircum{}3 \textasciitilde{} 2 $<$ 3}"
    assert report.latex("Müller's čas 网") == r"""\caption{M\"{u}ller's \v{c}as U+7F51}"""


def test_caption_for_latex_has_formulas_where_the_text_has_and_keeps_names() -> None:
    text = report.latex("njord on my-nj-net, ranjit_nj and r48: m ≥ nj; nj = 9, r4 (nj)")
    assert text == r"\caption{njord on my-nj-net, ranjit\_nj and r48: m $\ge$ $n_j$; $n_j$ = 9, $r_4$ ($n_j$)}"
    law = report.latex("the law √m‖L(x−x′)‖ / (2‖L‖F) for 1 ≪ m ≪ √r4, ‖L‖F, √m, x̃′ − x′, ℓ2 and ℓ₂ ∝ 3×3")
    assert law.isascii()
    for formula in (r"$\sqrt{m}\,\|L(x-x')\| / (2\|L\|_F)$", r"$\ll$ m $\ll$ $\sqrt{r_4}$", r"$\|L\|_F$, $\sqrt{m}$",
                    r"$\tilde{x}'$ $-$ $x'$, $\ell_2$ and $\ell_2$ $\propto$ 3$\times$3"):  # fmt: skip
        assert formula in law


def test_the_words_of_scalings_law_are_formulas_in_latex() -> None:
    law = report.latex("c(m) = √(2/m) Γ((m+1)/2) / Γ(m/2), E d² = m‖x−x′‖² / (4n0)")
    expected = r"c(m) = $\sqrt{2/m}\,\Gamma((m+1)/2) / \Gamma(m/2)$, E d$^2$ = $m\|x-x'\|^2 / (4n_0)$"
    assert law == rf"\caption{{{expected}}}"


def test_table_of_a_report_has_the_formats_of_the_screen() -> None:
    table = pd.DataFrame({"layer": ["a", "b"], "passes": [110.5, None], "change": [0.25, -0.5], "loss": [0.5, None]})
    page = report.page("t", [], [], {"Layers": table}, "", {"passes": "%.0f", "change": "%+.4f", "share": "%.1f %%"})
    cells = re.findall("<td>(.*?)</td>", page)
    assert cells == ["a", "110", "+0.2500", "0.5000", "b", "–", "-0.5000", "–"]
