"""A report: one HTML file that needs nothing else, with live figures, tables, settings and how to repeat it."""

from __future__ import annotations

import hashlib
import html
import json
import re
import shlex
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from pages.parts import export, words
from robustness_core import zoo
from robustness_core.spec import AuditSpec
from robustness_core.spec.fields import FIELDS
from store.records import NetworkRecord

_STYLE = """body{font-family:system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#0f1218;
background:#fff;line-height:1.5}table{border-collapse:collapse;font-size:.9rem}td,th{border:1px solid #d0d0d8;
padding:.3rem .6rem;text-align:right}td:first-child,th:first-child{text-align:left}pre{background:#f4f3f8;padding:1rem;
overflow-x:auto;white-space:pre-wrap;word-break:break-word}"""

# What captions hold beside letters of ASCII, longer formulas before their parts.
_FORMULAS = {
    "√(2/m) Γ((m+1)/2) / Γ(m/2)": r"$\sqrt{2/m}\,\Gamma((m+1)/2) / \Gamma(m/2)$",
    "m‖x−x′‖² / (4n0)": r"$m\|x-x'\|^2 / (4n_0)$",
    "√m‖L(x−x′)‖ / (2‖L‖F)": r"$\sqrt{m}\,\|L(x-x')\| / (2\|L\|_F)$",
    "f(x) = Lx + k": "$f(x) = Lx + k$",
    "‖L‖F": r"$\|L\|_F$",
    "√r4": r"$\sqrt{r_4}$",
    "√m": r"$\sqrt{m}$",
    "S²": "$S^2$",
    "x̃′": r"$\tilde{x}'$",
    "x̃": r"$\tilde{x}$",
    "x′": "$x'$",
    "ℓ2": r"$\ell_2$",
    "ℓ₂": r"$\ell_2$",
    "nj": "$n_j$",
    "r4": "$r_4$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "≪": r"$\ll$",
    "∝": r"$\propto$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "·": r"$\cdot$",
    "−": "$-$",
    "√": r"$\surd$",
    "‖": r"$\|$",
    "′": "$'$",
    "ε½": r"$\varepsilon_{1/2}$",
    "½": r"$\frac{1}{2}$",
    "∞": r"$\infty$",
    "ε": r"$\varepsilon$",
    "ℓ": r"$\ell$",
    "²": "$^2$",
    "₂": "$_2$",
    "–": "--",
    "…": r"\dots{}",
    "→": r"$\to$",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
}
_WORDS = {"nj", "r4"}  # formulas only where they stand alone: not in the name of a network
_LATEX = re.compile(
    "|".join(rf"(?<![^\s(]){text}(?![^\s).,:;])" if text in _WORDS else re.escape(text) for text in _FORMULAS)
    + r"|[^\x00-\x7f][\u0300-\u036f]*|[!-~][\u0300-\u036f]+"
)
_ACCENTS = {  # combining letter -> LaTeX's sign
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0308": '"', "\u030a": "r",
    "\u030c": "v", "\u0327": "c",
}  # fmt: skip
_SUFFIXES = {"torch": "pt", "onnx": "onnx"}  # of files, by the format of a network


def page(
    title: str,
    parts: Sequence[export.Part],
    figures: Sequence[go.Figure],
    tables: Mapping[str, pd.DataFrame],
    caption: str,
    formats: Mapping[str, str] | None = None,
    below: Sequence[str] = (),
) -> str:
    """The report as HTML; plotly's own code is inside, so the figures work offline.

    `tables`: heading -> table; `formats`: name of a column -> format of its numbers, as the screen has them. `below`: a
    caption for each figure, where they have captions of their own.
    """
    written = {name: _writer(form) for name, form in (formats or {}).items()}
    drawn = [
        figure.to_html(full_html=False, include_plotlyjs=number == 0, config={"displaylogo": False, "responsive": True})
        for number, figure in enumerate(figures)
    ]
    shown = [
        f"<h2>{html.escape(heading)}</h2>"
        + '<div style="overflow-x:auto">'
        + table.to_html(
            index=False, escape=True, na_rep="–", float_format="{:.4f}".format, formatters=written, border=0
        )
        + "</div>"
        for heading, table in tables.items()
    ]
    # Lines that are drawn beside the layers may answer a question of their own.
    answers = [next((overlay.answer for overlay in part.overlays if overlay.answer), None) for part in parts]
    beside = [(part, answer) for part, answer in zip(parts, answers, strict=True) if answer is not None]
    settings = [export.settings(part) for part in parts] + [export.settings(part, answer) for part, answer in beside]
    commands = "\n".join(
        [command(part.answer.spec, part.network) for part in parts]
        + [command(answer.spec, part.network, "-no-projection") for part, answer in beside]
    )
    sections = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>Made on {datetime.now(UTC):%Y-%m-%d at %H:%M} UTC.</p>",
        *(
            f"{figure}<p>{html.escape(words)}</p>" if words else figure
            for figure, words in zip_longest(drawn, below, fillvalue="")
        ),
        f"<p>{html.escape(caption)}</p>",
        *shown,
        "<h2>How to repeat it</h2>",
        f"<pre>{html.escape(commands)}</pre>",
        *(f"<p>{html.escape(line)}</p>" for line in made_with(parts)),
        "<h2>Caption for LaTeX</h2>",
        f"<pre>{html.escape(latex(caption))}</pre>",
        "<h2>Settings</h2>",
        f"<pre>{html.escape(json.dumps(settings, indent=1, ensure_ascii=False))}</pre>",
    ]
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!DOCTYPE html><html lang="en"><head>{head}</head><body>{"".join(sections)}</body></html>'


def made_with(parts: Sequence[export.Part]) -> list[str]:
    """What the numbers were computed with, in lines: device with its threads, versions, architectures."""
    devices, versions = export.computed_on(parts)
    lines = [f"Computed on {'; '.join(devices)} with {', '.join(versions)}."] if devices else []
    return lines + [f"Architecture of {part.network.name}: {part.network.architecture}" for part in parts]


def in_text(table: pd.DataFrame, formats: Mapping[str, str]) -> pd.DataFrame:
    """A table as a report shows it, all in text; `formats`: name of a column -> format of its numbers."""
    return pd.DataFrame({name: map(_writer(formats.get(name, "%s")), table[name]) for name in table})


def _writer(form: str) -> Callable[[float], str]:
    """What makes text of the numbers of a column, of those that are missing too."""
    return lambda value: "–" if pd.isna(value) else form % value


def command(spec: AuditSpec, network: NetworkRecord, suffix: str = "") -> str:
    """The command that computes the same without browser and database; `suffix` ends the name of the file it writes.

    A bundled network goes by the name of its file, whatever it is called here. Any other is not known to the
    command: a placeholder stands for its file, and a line above says which file that is.
    """
    bundled = zoo.name_of(network.sha256)
    name = _file_name(network.name)
    file = f"{name}.{_SUFFIXES.get(network.format, 'safetensors')}"
    said: list[Any] = ["python", "-m", "robustness_core", "audit", f"--network={bundled or file}"]
    if not bundled:  # which command and upload would guess each for itself
        mean, std = network.mean or (0.0,), network.std or (1.0,)
        said += ["--mean", *map(_exactly, mean), "--std", *map(_exactly, std)]
    for field in FIELDS.values():
        said += field.option(spec)
    said += ["--json", f"{name}{suffix}.json"]
    line = shlex.join(str(word) for word in said)
    return line if bundled else f"# {file} stands for {_which_file(network)}\n{line}"


def _file_name(name: str) -> str:
    """The name of a network as that of a file that every shell and system takes; two names never give the same."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
    return plain if plain == name else f"{plain or 'network'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _which_file(network: NetworkRecord) -> str:
    """Which file holds a network that is not bundled, in one line."""
    uploaded = words.part(network.card, "inspected").get("sha256", network.sha256)
    copy = "" if uploaded == network.sha256 else f"; that of its copy here is {network.sha256}"
    called = " ".join("".join(letter if letter.isprintable() else " " for letter in network.name).split())
    return f"the file with the SHA-256 {uploaded}{copy}; here the network is called {called}"


def _exactly(number: float) -> str:
    """A number so that it reads back as the same number: 8, 0.1, 0.3333333333333333."""
    return repr(float(number)).removesuffix(".0")


def latex(caption: str) -> str:
    """A caption for LaTeX, in ASCII: its own letters escaped, formulas and symbols of the text as mathematics.

    Accented letters become LaTeX's accents; of any other letter, which only names can hold, stands its number.
    """
    plain = " ".join(unicodedata.normalize("NFC", caption).replace("\\", "").split())
    return rf"\caption{{{_LATEX.sub(lambda found: _in_latex(found[0]), plain)}}}"


def _in_latex(text: str) -> str:
    """A formula, symbol or letter of a caption in LaTeX."""
    if text in _FORMULAS:
        return _FORMULAS[text]
    letter, *accents = list(unicodedata.normalize("NFD", text))
    if letter.isascii() and accents and all(accent in _ACCENTS for accent in accents):
        for accent in accents:
            letter = rf"\{_ACCENTS[accent]}{{{letter}}}"
        return letter
    return "".join(f"U+{ord(letter):04X}" for letter in text)
