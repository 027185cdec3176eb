"""Paper: the figures of the method's paper as live figures of our data, and its claims with their verdicts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from charts import paper
from pages.parts import asking, captions, export, figures, report, screen, take_away, words
from pages.parts.question import BOUND, forget
from robustness_core.claims import stored
from robustness_core.spec import AuditSpec

Claim = Mapping[str, Any]  # an entry of `claims --json`

COLOURS: Mapping[str, Literal["green", "red", "gray"]] = {
    "holds": "green", "does not hold": "red", "undecided": "gray"
}  # fmt: skip
FIRST = "Figure 8"  # of all the one that says most
INTRODUCTION = (
    "Every figure of the paper that Strata's method comes from, drawn from what is computed here, and every claim that "
    "the paper makes from them, judged by the audits that come with Strata. A claim *holds* or *does not hold* if an "
    "interval says so; all verdicts together are right with 95 % confidence (Holm). Intervals are over projections and "
    "images, of these networks, where nothing else is said; *undecided* means that they are too wide, or that an audit "
    "lacks."
)


def main() -> None:
    db, available = screen.begin_with_networks("Paper")
    claims = _claims()
    st.markdown(INTRODUCTION)
    _overview(claims)
    scene = figures.scene(db, available)
    forget("figure", figures.FIGURES)
    name = st.pills("Figure", list(figures.FIGURES), default=FIRST, key="figure", bind=BOUND, required=True)
    chosen = figures.FIGURES[str(name)]
    st.subheader(f"{chosen.name}: {chosen.title}", anchor=False)
    left, right = st.columns([3, 2], gap="large")
    with left:
        drawn = chosen.draw(scene)
        st.markdown(f"**{chosen.see}**")
        _draw(drawn, file_name(chosen))
        if isinstance(drawn, figures.Lacking) and drawn.asked:
            asking.start(db, drawn.asked)
    with right:
        for claim in [one for one in claims if chosen.name in of_figures(one)]:
            _claim(claim)
    if isinstance(drawn, figures.Drawn) and drawn.parts:
        take_away.show(
            f"strata-{file_name(chosen)}",
            lambda: drawn.parts,
            lambda: _report(scene, claims),
            lambda: _panels(scene),
            {"figure": chosen.name},
            {"Claims": lambda: table(claims)},
        )
    else:
        screen.link_button({"figure": chosen.name})


def _claims() -> Sequence[Claim]:
    """The stored verdicts, with a word where they are missing or of other files than those that are here."""
    found = stored()
    if found is None:
        st.warning("The claims are not judged: `python -m robustness_core claims --json > zoo/claims.json` does it.")
        return []
    if found.changed:
        st.warning(
            screen.escape(f"The claims were judged before {', '.join(found.changed)} changed; ")
            + "`python -m robustness_core claims --json > zoo/claims.json` judges them anew."
        )
    return found.claims


def _overview(claims: Sequence[Claim]) -> None:
    """How many claims hold, and all of them in a table."""
    counted = [one for one in claims if not one["closed_form"]]
    count = Counter(one["verdict"] for one in counted)
    apart = len(claims) - len(counted)
    st.markdown(
        f"Of {len(counted)} claims **{count['holds']} hold**, **{count['does not hold']} do not**, and "
        f"**{count['undecided']} are undecided**; {apart} more are mathematics, and only checked."
    )
    with st.expander("All claims"):
        st.table(in_words(claims).map(screen.escape), hide_index=True, alt="Claims of the paper with their verdicts")


def _draw(drawn: figures.Drawn | figures.Lacking, name: str) -> None:
    if isinstance(drawn, figures.Lacking):
        st.info(screen.escape(drawn.sentence))
        return
    screen.show(drawn.make(screen.dark()), f"paper_{name}", f"strata-{name}", drawn.alt)
    captions.show(drawn.caption)
    title = drawn.link.screen.capitalize()
    st.page_link(f"pages/{drawn.link.screen}.py", label=f"Open in {title} →", query_params=drawn.link.query)


def _claim(claim: Claim) -> None:
    """A claim with its verdict, the number that decides it, and how, for whoever unfolds it."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.badge(claim["verdict"], color=COLOURS[claim["verdict"]])
            st.caption(screen.escape(claim["section"]), width="content")
        st.markdown(screen.escape(claim["sentence"]))
        if said := decided_by(claim):
            st.caption(screen.escape(said))
        with st.expander("How it is judged", type="compact"):
            st.caption(
                screen.escape(f"The number: {claim['statistic']}. It would be refuted by {claim['refuted_by']}.")
            )
            st.table(_parts(claim).map(screen.escape), hide_index=True, alt=f"What decides: {claim['sentence']}")
            judged = f"p = {claim['p']:.2g}, {claim['p_adjusted']:.2g} after Holm over all claims. {claim['note']}"
            st.caption(screen.escape(judged.strip()))
            for spec in _questions(claim):
                words.link_to_audit(spec, screen.escape(f"{spec.network}: {words.question(spec)} →"))


def _questions(claim: Claim) -> Sequence[AuditSpec]:
    """The audits that a claim is judged by."""
    specs = [AuditSpec.from_json(audit["question"]) for part in claim["parts"] for audit in part["audits"]]
    return list({spec.key: spec for spec in specs}.values())


def decided_by(claim: Claim) -> str:
    """The part that a claim hangs on, with its number; nothing where there is none."""
    part = next((one for one in claim["parts"] if one["name"] == claim["decisive"]), None)
    return "" if part is None else f"{part['name']}: {number(part, claim['unit'])}"


def number(part: Mapping[str, Any], unit: str) -> str:
    """The estimate of a part with its interval of 95 %, in words."""
    if part["estimate"] is None:
        return "not known"
    within = ", ".join(words for words in (_within(part["interval"]), part["units"]) if words)
    return f"{part['estimate']:.3g}{f' {unit}' if unit else ''}{f' ({within})' if within else ''}"


def _within(interval: Sequence[float | None]) -> str:
    low, high = interval
    return "" if low is None or high is None else f"{low:.3g} to {high:.3g}"


def _parts(claim: Claim) -> pd.DataFrame:
    """A row a part: its number, the interval of 95 % by itself, and the wider one that the verdict is read from."""
    return pd.DataFrame(
        {
            "of": [one["name"] for one in claim["parts"]],
            "number (95 %)": [number(one, claim["unit"]) for one in claim["parts"]],
            "with all claims": [_within(one["joint_interval"]) or "–" for one in claim["parts"]],
            "verdict": [one["verdict"] for one in claim["parts"]],
        }
    )


def in_words(claims: Sequence[Claim]) -> pd.DataFrame:
    """A row a claim, in text."""
    return pd.DataFrame(
        {
            "claim": [one["sentence"] for one in claims],
            "section": [one["section"] for one in claims],
            "verdict": [one["verdict"] for one in claims],
            "decided by": [decided_by(one) or "–" for one in claims],
        }
    )


def table(claims: Sequence[Claim]) -> pd.DataFrame:
    """A row a part of a claim, with all its numbers."""
    return pd.DataFrame(
        [
            {
                "claim": claim["name"],
                "claim's verdict": claim["verdict"],
                "adjusted p": claim["p_adjusted"],
                "of": export.plain(part["name"]),
                "estimate": part["estimate"],
                "low": part["interval"][0],
                "high": part["interval"][1],
                "joint low": part["joint_interval"][0],
                "joint high": part["joint_interval"][1],
                "verdict": part["verdict"],
            }
            for claim in claims
            for part in claim["parts"]
        ]
    )


def of_figures(claim: Claim) -> set[str]:
    """The figures beside which a claim stands: those that its section names, else that of its section."""
    text = claim["section"]
    found = {name for name in figures.FIGURES if name in text}
    if "Figure" not in text:
        found |= {name for name, one in figures.FIGURES.items() if text.partition(",")[0] in one.sections}
    for first, last in re.findall(r"\b(\d+)(?: (?:to|–) (\d+))?", text.partition("Figure")[2]):
        found |= {f"Figure {number}" for number in range(int(first), int(last or first) + 1)}
    return found


def file_name(figure: figures.PaperFigure) -> str:
    return figure.name.lower().replace(" ", "-")


def _all(scene: figures.Scene) -> list[tuple[str, figures.Drawn]]:
    found = [(f"{one.name}: {one.title}", one.draw(scene)) for one in figures.FIGURES.values()]
    return [(name, one) for name, one in found if isinstance(one, figures.Drawn)]


def _panels(scene: figures.Scene) -> list[paper.Panel]:
    """All figures of data; the pictures of ideas are those of Learn."""
    return [(name, one.make(False)) for name, one in _all(scene) if one.link.screen != "learn"]


def _report(scene: figures.Scene, claims: Sequence[Claim]) -> str:
    """All figures and claims in one file."""
    drawn = _all(scene)
    parts = [part for _, one in drawn for part in one.parts]
    made: list[go.Figure] = [one.make(False).update_layout(title=name) for name, one in drawn]
    tables = {"Claims": in_words(claims), "Numbers": table(claims)}
    caption = INTRODUCTION.replace("*", "")
    below = [str(one.caption) for _, one in drawn]
    return report.page("The paper's figures and claims", parts, made, tables, caption, below=below)


main()
