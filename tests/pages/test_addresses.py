"""What an address names that there is not is said, in a sentence."""

import ast
from pathlib import Path

from pages.parts import filters
from store.database import PROJECT
from testing import synthetic
from testing.screens import words


def bound(path: Path) -> set[str]:
    """The keys of the widgets of a file that stand in the address."""
    keys = set()
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call):
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            if "bind" in given and isinstance(key := given.get("key"), ast.Constant):
                keys.add(str(key.value))
    return keys


def test_every_name_that_a_widget_writes_into_an_address_is_known() -> None:
    written = set().union(*(bound(path) for path in (PROJECT / "pages").rglob("*.py")))
    assert {"network", "idea", "minus"} < written  # those of the fields of a question come from their table
    assert written <= filters.NAMES


def test_an_unknown_setting_of_an_address_is_named(db, open_screen) -> None:
    synthetic.network(db)
    for name in ("home", "explore", "audits", "learn"):
        assert "which no screen knows" not in words(open_screen(name, network="small-made-up", S="20"))
        said = words(open_screen(name, network="small-made-up", sample="20", budget="1", **{"*x*": "1"}))
        assert "The address names sample, \\*x\\*, which no screen knows" in said.replace("\\,", ",")


def test_points_of_the_plane_stand_in_the_address_and_are_known(open_screen) -> None:
    """Their sliders take their keys from a table, where the reading above does not see them."""
    screen = open_screen("learn", idea="Distance", x1="-0.5", y2="1.2")
    assert "which no screen knows" not in words(screen)
    assert [screen.slider(key=key).value for key in ("x1", "x2", "y1", "y2")] == [-0.5, -0.5, 0.9, 1.2]


def test_screens_are_those_of_the_navigation() -> None:
    assert set(filters.SCREENS) == {path.stem for path in (PROJECT / "pages").glob("*.py")} - {"__init__"}
