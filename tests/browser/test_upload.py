"""Uploads in a real browser: a good file becomes a network to audit, a bad one a sentence; rename, note, remove."""

from __future__ import annotations

import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

import store
from robustness_core.datasets import REGISTRY
from robustness_core.spec import AuditSpec
from store import audits, image_sets, networks
from store.database import PROJECT
from testing import hostile_files as hostile
from testing import synthetic
from testing.browser import served, settled, shoot
from testing.processes import until

BUNDLED = PROJECT / "zoo" / "mnist-small-pgd2.safetensors"


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[store.Database, str]]:
    """An empty store of this module's own, and the dashboard over it."""
    with served(tmp_path_factory.mktemp("dashboard")) as (db, address):
        yield db, address


def state_dict(file: Path = BUNDLED, layers: Sequence[str] = ("conv1", "conv2", "fc1", "logits")) -> bytes:
    """The weights of a bundled network as its authors would have saved them: an nn.Sequential's, in a wrapper."""
    first = next(i for i, name in enumerate(layers) if not name.startswith("conv"))  # after it stands the flatten
    places = {name: str(2 * i + (i >= first)) for i, name in enumerate(layers)}
    state = OrderedDict()
    for name, tensor in sorted(load_file(file).items(), key=lambda item: [*places].index(item[0].split(".")[0])):
        layer, _, key = name.partition(".")
        state[f"module.{places[layer]}.{key}"] = tensor.float()
    target = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 3}, target)
    return target.getvalue()


def drop(page: Page, address: str, name: str, content: bytes) -> None:
    page.goto(f"{address}/networks")
    settled(page)
    expander = page.get_by_test_id("stExpander").filter(has_text="Add a network of your own")
    expander.wait_for()
    if expander.locator("details").get_attribute("open") is None:  # it is open where there is no network
        expander.locator("summary").click()
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


def test_a_good_file_becomes_a_network_that_can_be_audited(page: Page, dashboard) -> None:
    db, address = dashboard
    drop(page, address, "my <b>first</b>.pth", state_dict())
    expect(page.get_by_text(re.compile(r"parameters, 10 classes, 1×28×28 images"))).to_be_visible(timeout=120_000)
    expect(page.get_by_text(re.compile("conv 16 4x4/2 p1, relu, .*, fc 100, relu, fc 10")).first).to_be_visible()
    right = page.get_by_text(re.compile(r"right on 1000 test images of mnist-5k"))
    expect(right).to_be_visible()
    assert float(re.search(r"([\d.]+)%", right.inner_text())[1]) > 95
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    page.get_by_role("textbox", name="Name").fill("mine")
    page.get_by_role("textbox", name="Name").press("Enter")
    settled(page)
    page.get_by_role("button", name="Add this network").click()
    expect(page.get_by_text("mine is added.")).to_be_visible()
    (added,) = networks.all(db)
    assert (added.name, added.source, added.format) == ("mine", "upload", "torch")
    assert b"module." not in networks.weights(db, added.id)  # a clean copy, nothing of the upload
    page.get_by_role("link", name="Audit it in Explore →").first.click()
    expect(page.get_by_role("heading", name="Explore", exact=True)).to_be_visible()
    settled(page)
    shoot(page, "upload-to-explore")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    (asked,) = audits.recent(db)
    audits.cancel(db, asked.id)
    assert (asked.spec.network, asked.spec.sample.dataset) == ("mine", "mnist-5k")
    assert set(asked.spec.search.layers) <= {layer.name for layer in added.layers}


PHOTOGRAPHS = PROJECT / "zoo" / "cifar10-medium-pgd0.5.safetensors"


def test_an_upload_for_photographs_is_measured_and_its_normalisation_corrected(page: Page, dashboard) -> None:
    """Without CIFAR-10 on the machine: measured on the bundled images, in doubt everywhere, then settled."""
    db, address = dashboard
    drop(
        page,
        address,
        "photos.pth",
        state_dict(PHOTOGRAPHS, ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2", "logits"]),
    )
    right = page.get_by_text(re.compile(r"right on 1000 test images of cifar10-2k"))
    expect(right).to_be_visible(timeout=120_000)
    assert float(re.search(r"([\d.]+)%", right.inner_text())[1]) > 50
    doubt = page.get_by_text(re.compile(r"^The normalisation \(.*\) is not settled: others answer as well"))
    expect(doubt).to_be_visible()
    page.get_by_role("button", name="Add this network").click()
    expect(page.get_by_text("photos is added.")).to_be_visible()
    first = networks.by_name(db, "photos")
    assert first is not None

    page.goto(f"{address}/explore?network=photos&layers=logits&S=2")
    settled(page)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    (asked,) = [one for one in audits.recent(db) if one.spec.network == "photos"]
    assert (asked.spec.sample.dataset, asked.spec.sample.split) == ("cifar10-2k", "train")
    audits.cancel(db, asked.id)
    synthetic.finish(db, asked.spec)
    page.goto(f"{address}/explore?network=photos&layers=logits&S=2")
    says = page.get_by_text(re.compile(r"The normalisation of photos \(.*\) is not settled: others answer as well"))
    expect(says.first).to_be_visible()

    page.goto(f"{address}/networks?show=photos")
    settled(page)
    shoot(page, "normalisation-in-doubt")
    page.get_by_role("button", name="Confirm or correct the normalisation").click()
    page.get_by_role("textbox", name="Mean", exact=True).fill("0.4914 0.4822 0.4465")
    page.get_by_role("textbox", name="Standard deviation", exact=True).fill("0.2471 0.2435 0.2617")
    page.get_by_role("textbox", name="Standard deviation", exact=True).press("Enter")
    settled(page)
    shoot(page, "normalisation-typed")
    page.get_by_role("button", name="Add the corrected network").click()
    expect(page.get_by_text("photos, mean 0.4914 0.4822 0.4465 is added.")).to_be_visible(timeout=120_000)
    corrected = networks.by_name(db, "photos, mean 0.4914 0.4822 0.4465")
    assert corrected is not None
    assert corrected.sha256 != first.sha256
    assert corrected.std == (0.2471, 0.2435, 0.2617)
    expect(page.get_by_text(re.compile("is not settled"))).to_have_count(0)
    shoot(page, "normalisation-corrected")
    page.get_by_role("link", name="Audit it in Explore →").first.click()
    settled(page)
    expect(page.get_by_text("Nothing is known yet").first).to_be_visible()  # nothing of the first one is taken over


def test_a_file_of_ours_and_the_same_file_again(page: Page, dashboard) -> None:
    db, address = dashboard
    drop(page, address, BUNDLED.name, BUNDLED.read_bytes())
    expect(page.get_by_role("button", name="Add this network")).to_be_visible(timeout=120_000)
    page.get_by_role("button", name="Add this network").click()
    expect(page.get_by_text(f"{BUNDLED.stem} is added.")).to_be_visible()
    before = [one.id for one in networks.all(db)]
    drop(page, address, "again.bin", BUNDLED.read_bytes())
    known = page.get_by_text(f"This network is here already, as {BUNDLED.stem}.")
    expect(known).to_be_visible(timeout=120_000)
    expect(page.get_by_role("button", name="Add this network")).to_have_count(0)
    assert [one.id for one in networks.all(db)] == before


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.pkl"])
def test_a_file_that_runs_code_is_one_sentence_and_nothing_else(page: Page, dashboard, name: str) -> None:
    db, address = dashboard
    before = [one.id for one in networks.all(db)]
    drop(page, address, name, hostile.zipped({**hostile.state(), "extra": hostile.Payload()}))
    alert = page.get_by_test_id("stAlert")
    expect(alert).to_be_visible(timeout=120_000)
    assert re.fullmatch(r"The file asks to call posix\.mkdir, .* safetensors\.", alert.inner_text().strip())
    assert not hostile.WITNESS.exists()
    expect(page.get_by_role("button", name="Add this network")).to_have_count(0)
    assert [one.id for one in networks.all(db)] == before


def test_a_network_is_renamed_annotated_and_removed_with_what_depends_on_it(page: Page, dashboard) -> None:
    db, address = dashboard
    content = hostile.zipped(hostile.chain().state_dict())
    drop(page, address, "chain.pt", content)
    page.get_by_role("button", name="Add this network").click(timeout=120_000)
    expect(page.get_by_text("chain is added.")).to_be_visible()
    audits.submit(db, AuditSpec.of("chain", dataset="mnist-5k", classes=(3, 7), samples=4, layers=("logits",), m=(2,)))
    page.goto(f"{address}/networks?show=chain")
    settled(page)
    page.get_by_role("textbox", name="Name", exact=True).fill("chain <i>two</i>")
    page.get_by_role("textbox", name="Name", exact=True).press("Enter")
    expect(page.get_by_role("heading", name="chain <i>two</i>")).to_be_visible()
    page.get_by_role("textbox", name="Note").fill("from a friend")
    page.get_by_role("textbox", name="Note").press("Enter")
    network = networks.by_name(db, "chain <i>two</i>")
    assert network is not None
    until(lambda: networks.by_id(db, network.id).note == "from a friend")  # the browser tells of Enter in its own time
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text(re.compile("With it go 1 audits and 0 distances"))).to_be_visible()
    page.get_by_role("button", name="Remove it").click()
    until(lambda: networks.by_id(db, network.id) is None)


def test_pictures_and_arrays_become_data_sets(page: Page, dashboard) -> None:
    """A zip of a small folder, then an .npz whose images have another size than the network's."""
    db, address = dashboard
    synthetic.network(db, name="for digits")
    pictures, arrays = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(pictures, "w") as archive:
        for number, name in enumerate(("stop", "go")):
            content = io.BytesIO()
            Image.new("L", (28, 28), 200 * number).save(content, "PNG")
            archive.writestr(f"signs/{name}/1.png", content.getvalue())
    np.savez(arrays, x=np.zeros((4, 40, 30, 3), np.uint8), y=np.arange(4) % 2)
    page.goto(f"{address}/images")
    settled(page)
    page.get_by_text("Add images of your own").click()
    for name, content, says in (
        ("signs.zip", pictures, "2 images of 2 classes, 1×28×28."),
        ("arrays.npz", arrays, "No network here takes 3×40×30 images"),
    ):
        page.locator("input[type=file]").set_input_files(
            {"name": name, "mimeType": "application/octet-stream", "buffer": content.getvalue()}
        )
        expect(page.get_by_text(says)).to_be_visible(timeout=60_000)
        shoot(page, f"images-{PurePath(name).stem}")
        page.get_by_role("button", name="Add these images").click()
        expect(page.get_by_text("is added.")).to_be_visible()
    assert [name.rpartition("-")[0] for name in image_sets.enter(db)] == ["signs", "arrays"]
    assert REGISTRY[image_sets.enter(db)[0]].class_names == ("go", "stop")
