"""The upload screen, its child replaced: what is offered is asked again, and what is known is recognised."""

from __future__ import annotations

import tomllib
from io import BytesIO
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper

from pages.parts import upload
from robustness_core import checkpoints
from robustness_core.sandbox import parent as sandbox
from store import networks
from store.database import PROJECT
from store.records import LayerRecord
from testing.hostile_files import linear

LAYERS = (LayerRecord("logits", (10,), 10, True, True),)


def candidate(architecture: str, mean: list[float] | None) -> dict[str, Any]:
    return {
        "architecture": architecture, "input_shape": [1, 28, 28], "accuracy": 0.9, "images": 400,
        "normalisation": mean and {"mean": mean, "std": [0.3]}, "normalisation_name": "MNIST" if mean else "none",
    }  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The hints of every look at the file; each look finds two candidates and two state dicts."""
    seen: list[dict[str, Any]] = []

    def inspect(path: Any, hints: dict[str, Any]) -> upload.Inspected:
        seen.append(dict(hints))
        found = [candidate("flatten, fc 10", [0.1]), candidate("flatten, fc 9", None)]
        report = {
            **found[0], "parameters": 7850, "classes": 10, "dataset": "mnist-5k", "warnings": [], "format": "torch",
            "sha256": "f" * 64, "stages": ["state_dict", "ema"], "candidates": found,
        }  # fmt: skip
        return upload.Inspected(report, LAYERS, b"weights")

    monkeypatch.setattr(upload, "inspect", inspect)
    return seen


def drop(screen: Any) -> Any:
    return screen.file_uploader[0].set_value([("file.pth", b"x", "application/octet-stream")]).run()


def test_a_graph_and_the_file_of_its_weights_go_together(open_screen, asked) -> None:
    graph, data = linear(), BytesIO(linear().graph.initializer[0].raw_data)
    onnx.external_data_helper.set_external_data(graph.graph.initializer[0], "w.bin")
    graph.graph.initializer[0].ClearField("raw_data")
    with upload.on_disk(BytesIO(graph.SerializeToString()), "onnx", {"w.bin": data}) as path:
        network = checkpoints.load(path, mean=[0.0], std=[1.0])
    (wanted,) = (torch.from_numpy(numpy_helper.to_array(one).copy()) for one in linear().graph.initializer)
    assert torch.equal(network.body.logits.weight, wanted)
    two = [(name, b"x", "application/octet-stream") for name in ("w.bin", "graph.onnx")]
    open_screen("networks").file_uploader[0].set_value(two).run()
    assert asked == [{}]
    wrong = open_screen("networks").file_uploader[0].set_value([two[0], ("other.pt", *two[0][1:])]).run()
    assert "Drop one checkpoint at a time" in wrong.error[0].value
    assert asked == [{}]


def test_another_candidate_and_the_way_back(db, open_screen, asked) -> None:
    screen = drop(open_screen("networks"))
    assert not screen.exception
    assert asked == [{}]
    other = next(box for box in screen.selectbox if box.label == "Take another")
    other.select("1: flatten, fc 9, none").run()
    assert asked[-1] == {"architecture": "flatten, fc 9", "input_shape": [1, 28, 28], "mean": [0.0], "std": [1.0]}
    next(button for button in screen.button if button.label == "Go back to the guess").click().run()
    assert asked[-1] == {}


def test_other_weights_and_a_normalisation_of_ones_own(db, open_screen, asked) -> None:
    screen = drop(open_screen("networks"))
    next(box for box in screen.selectbox if box.label == "Take other weights of the file").select("ema").run()
    assert asked[-1] == {"stage": "ema"}
    next(box for box in screen.text_input if box.label == "Mean of the normalisation").input("0.5, .25").run()
    assert asked[-1] == {"stage": "ema", "mean": [0.5, 0.25]}
    assert not screen.exception


def test_what_is_registered_is_recognised(db, open_screen, asked) -> None:
    screen = drop(open_screen("networks"))
    next(button for button in screen.button if button.label == "Add this network").click().run()
    assert [one.name for one in networks.all(db)] == ["file"]
    again = drop(open_screen("networks"))
    assert any("here already, as **file**" in info.value for info in again.info)
    assert "Add this network" not in [button.label for button in again.button]


def test_a_name_typed_just_before_the_click_is_taken(db, open_screen, asked) -> None:
    screen = drop(open_screen("networks"))
    screen.text_input(key="new_name").set_value("mine")  # no run in between: both reach the server together
    next(button for button in screen.button if button.label == "Add this network").click().run()
    assert [one.name for one in networks.all(db)] == ["mine"]


def test_web_server_takes_files_as_large_as_are_looked_at() -> None:
    """One limit: a larger one here would send a file that is refused, a smaller one would refuse a good file."""
    settings = tomllib.loads((PROJECT / ".streamlit" / "config.toml").read_text())
    assert settings["server"]["maxUploadSize"] * 2**20 == sandbox.Limits().largest
