"""Errors that carry a sentence have one base, and a command says that sentence and nothing else."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest

from robustness_core import checkpoints, errors, spec
from robustness_core.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]
BUILT_IN = {name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)}


def test_only_the_base_stands_alone() -> None:
    """These say nothing to a user: a worker leaves its audit by `Stopped`, a pass ends at a layer by `_Reached`."""
    found = {
        node.name
        for folder in ("robustness_core", "store", "worker", "charts", "pages")
        for path in (PROJECT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and BUILT_IN & {base.id for base in node.bases if isinstance(base, ast.Name)}
    }
    assert found == {"StrataError", "Stopped", "_Reached"}


def test_names_that_other_programs_catch_are_where_they_were() -> None:
    assert spec.SpecError is errors.SpecError
    assert checkpoints.CheckpointError is errors.CheckpointError


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "/nowhere/net.pt"], "The file cannot be read: No such file or directory."),
        (["evaluate", "/nowhere/net.pt"], "The folder of '/nowhere/net.json' does not exist; name a file in a folder "),
        (["audit", "--network", "nobody"], "There is no network 'nobody': give a file, or one of "),
    ],
)
def test_a_command_says_one_line(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"strata: {sentence}")
    assert said.err.count("\n") == 1
