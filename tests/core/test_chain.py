"""Plain chains inferred from shapes: the text that made the weights must be among the guesses, and early."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustness_core import checkpoints
from robustness_core.checkpoints import CheckpointError, chain, load, save
from robustness_core.checkpoints.containers import Contents, State
from robustness_core.errors import NetworkError
from robustness_core.layers import main_layers
from robustness_core.networks import build


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {k: t.detach().clone() for k, t in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def guesses(tensors: dict[str, Tensor]) -> list[chain.Guess]:
    order = chain.in_order(chain.parts(tensors))
    assert order is not None
    return chain.guesses(order)


TEXTS = {
    "Wong & Kolter": "conv 16 4x4/2 p1, relu, conv 32 4x4/2 p1, relu, flatten, fc 100, relu, fc 10",
    "LeNet-5": "conv 6 5x5/1 p2, relu, maxpool 2/2, conv 16 5x5/1, relu, maxpool 2/2, flatten, fc 120, relu, fc 10",
    "tutorial": "conv 32 3x3/1, relu, conv 64 3x3/1, relu, maxpool 2/2, flatten, fc 128, relu, fc 10",
    "small": "conv 16 4x4/2 p1, relu, conv 32 4x4/1 same, relu, flatten, fc 100, relu, fc 10",
    "batch norm": "conv 8 3x3/1 p1, bn, relu, maxpool 2/2, conv 16 3x3/1 p1, bn, relu, maxpool 2/2, flatten, fc 10",
    "global average": "conv 8 3x3/1 p1, relu, maxpool 2/2, conv 16 3x3/1 p1, relu, gap, flatten, fc 10",
    "fully connected": "flatten, fc 50, relu, fc 20, relu, fc 10",
    "linear": "flatten, fc 10",
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_usual_chains_are_among_the_first_guesses(name: str, shape: tuple[int, int, int]) -> None:
    found = guesses(weights(build(TEXTS[name], shape).body))
    texts = [(guess.architecture, guess.input_shape) for guess in found]
    assert (TEXTS[name], shape) in texts[:8]
    assert [guess.cost for guess in found] == sorted(guess.cost for guess in found)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize(
    "text",
    [
        "maxpool 2/2, conv 8 3x3/1 p1, relu, conv 16 3x3/1 p1, relu, flatten, fc 10",
        "avgpool 2/2, flatten, fc 10",
        "conv 8 3x3/1 p1, relu, maxpool 3/3, conv 16 3x3/1 p1, relu, maxpool 3/3, flatten, fc 10",
        "conv 8 4x4/1, relu, maxpool 2/2 ceil, conv 16 3x3/1, relu, maxpool 2/2 ceil, flatten, fc 10",
    ],
)
def test_pools_before_the_first_layer_and_unusual_ones_are_among_the_guesses(
    text: str, shape: tuple[int, int, int]
) -> None:
    found = guesses(weights(build(text, shape).body))
    assert (text, shape) in [(guess.architecture, guess.input_shape) for guess in found]


def test_the_numbers_of_an_nn_sequential_tell_where_pools_are() -> None:
    pooled = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(784, 10),
    )  # fmt: skip
    wanted = (
        "conv 8 3x3/1 p1, relu, conv 8 3x3/1 p1, relu, maxpool 2/2, conv 16 3x3/1 p1, relu, maxpool 2/2, flatten, fc 10"
    )
    assert guesses(weights(pooled))[0].architecture == wanted


step = st.builds(
    lambda channels, kernel, rest: f"conv {channels} {kernel}x{kernel}/{rest}, relu",
    st.sampled_from([4, 6, 8]),
    st.sampled_from([2, 3, 4, 5]),
    st.sampled_from(["1", "1 p1", "2", "2 p1"]),
)
plain = st.lists(st.tuples(step, st.sampled_from(["", "maxpool 2/2", "avgpool 2/2"])), min_size=1, max_size=3)


@settings(max_examples=30)
@given(plain)
def test_every_guess_fits_and_gives_a_network_of_the_same_shapes(steps: list[tuple[str, str]]) -> None:
    text = ", ".join(word for pair in steps for word in pair if word) + ", flatten, fc 10"
    try:
        network = build(text, (1, 28, 28))
    except NetworkError:
        assume(False)
    tensors = weights(network.body)
    order = chain.in_order(chain.parts(tensors))
    assert order is not None
    for guess in chain.guesses(order, (1, 28, 28), most=10):
        filled = chain.fill(guess.architecture, guess.input_shape, order)
        assert filled(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
        assert [t.shape for t in filled.body.state_dict().values()] == [
            t.shape for t in network.body.state_dict().values()
        ]


def test_filling_gives_back_the_network() -> None:
    text = "conv 8 4x4/2 p1, bn, relu, flatten, fc 20, relu, fc 10"
    network = build(text, (1, 28, 28)).eval()
    images = torch.rand(3, 1, 28, 28)
    filled = chain.fill(text, (1, 28, 28), chain.parts(weights(network.body)), mean=[0.1], std=[0.3])
    with torch.no_grad():
        assert torch.equal(filled(images), network((images - 0.1) / 0.3))


SHORTCUTS = "conv 4 3x3/2 p1, bn, relu, conv 4 3x3/1 p1, bn, relu, conv 4 3x3/1 p1, bn, add 5, relu, flatten, fc 10"


def test_a_shortcut_adds_what_came_into_the_words_before_it(tmp_path: Path) -> None:
    """Against the same modules called by hand; the layers within the shortcut are none that every path passes."""
    torch.manual_seed(0)
    body = build(SHORTCUTS.replace("add 5, ", ""), (1, 28, 28)).body.eval()
    images = torch.rand(3, 1, 28, 28)
    stem, block, head = body[:3], body[3:8], body[8:]
    filled = chain.fill(SHORTCUTS, (1, 28, 28), chain.parts(weights(body)))
    with torch.no_grad():
        wanted = head(stem(images) + block(stem(images)))
        assert torch.equal(filled(images), wanted)
    assert main_layers(filled, (1, 28, 28)) == ["conv1", "add1", "logits"]
    path = tmp_path / "own.safetensors"
    save(filled, path)
    with torch.no_grad():
        assert torch.equal(load(path)(images), wanted)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv 4 3x3/2 p1, add 1, flatten, fc 10", "4×14×14 was reached, and what it adds has 1×28×28"),
        ("conv 4 3x3/2 p1, add 2, flatten, fc 10", "what it adds is not there"),
        ("conv 4 3x3/2 p1, add 0, flatten, fc 10", "what it adds is not there"),
        ("conv 4 3x3/2 p1, add, flatten, fc 10", "`add` cannot be read; write add WORDS"),
    ],
)
def test_a_shortcut_that_does_not_fit_is_named(text: str, says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        build(text, (1, 28, 28))


@pytest.mark.parametrize("pool", ["maxpool 2/2", "maxpool 3/2", "avgpool 3/2 p1", "maxpool 2/3", "maxpool 3/4 p1"])
@pytest.mark.parametrize("size", [6, 7, 8, 9, 11])
def test_pools_that_round_up_have_the_size_that_torch_gives(pool: str, size: int) -> None:
    """`build` computes the size by itself, from which the full connection is made."""
    network = build(f"{pool} ceil, flatten, fc 10", (1, size, size)).eval()
    assert network(torch.rand(2, 1, size, size)).shape == (2, 10)


def test_a_convolution_without_bias_gets_zeros() -> None:
    tensors = weights(build("conv 8 4x4/2 p1, relu, flatten, fc 10", (1, 28, 28)).body)
    del tensors["conv1.bias"]
    filled = chain.fill("conv 8 4x4/2 p1, relu, flatten, fc 10", (1, 28, 28), chain.parts(tensors))
    assert not filled.body.get_parameter("conv1.bias").any()


@pytest.mark.parametrize(
    "names",
    [["b.weight", "a.weight", "c.weight"], ["c.weight", "b.weight", "a.weight"], ["a.weight", "c.weight", "b.weight"]],
)
def test_the_order_of_the_file_does_not_matter(names: list[str]) -> None:
    shapes = {"a.weight": (8, 1, 4, 4), "b.weight": (16, 8, 4, 4), "c.weight": (10, 784)}
    order = chain.in_order(chain.parts({name: torch.zeros(shapes[name]) for name in names}))
    assert order is not None
    assert [part.name for part in order] == ["a", "b", "c"]


def parts_of(*shapes: tuple[str, tuple[int, ...]]) -> list[chain.Part]:
    """Layers of random numbers; a name with bn has running statistics."""
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes:
        tensors |= {f"{name}.{key}": torch.rand(shape) for key in ("running_mean", "running_var") if "bn" in name}
        tensors[f"{name}.weight"] = torch.rand(shape)
    return chain.parts(tensors)


CONVS = [("conv1", (8, 1, 3, 3)), ("conv2", (8, 8, 3, 3)), ("fc", (10, 8 * 49))]
NORMS, SLOPES = [("bn1", (8,)), ("bn2", (8,))], [("act1", (8,)), ("act2", (8,))]


@pytest.mark.parametrize(
    ("layers", "order"),
    [
        ([*CONVS[:2], *NORMS, CONVS[2]], "conv1 bn1 conv2 bn2 fc"),
        ([*NORMS, *CONVS], "conv1 bn1 conv2 bn2 fc"),  # as safetensors sorts them
        ([*CONVS, *SLOPES], "conv1 act1 conv2 act2 fc"),
        ([*NORMS, *CONVS, *SLOPES], "conv1 bn1 act1 conv2 bn2 act2 fc"),
        ([*CONVS[:2], ("act", (1,)), CONVS[2]], "conv1 act conv2 act fc"),  # one module called twice
        ([("bn0", (1,)), *CONVS], "bn0 conv1 conv2 fc"),
        ([("bn0", (1,)), ("fc1", (9, 784)), ("fc2", (10, 9))], "bn0 fc1 fc2"),
    ],
)
def test_norms_and_slopes_of_equal_width_go_to_layers_of_their_own(
    layers: list[tuple[str, tuple[int, ...]]], order: str
) -> None:
    """Where all widths are equal, the order of the file fits too, with two norms in a row."""
    found = chain.in_order(parts_of(*layers))
    assert found is not None
    assert " ".join(part.name for part in found) == order


def test_a_module_with_two_names_is_one_layer() -> None:
    parts = parts_of(*CONVS)
    again = [chain.Part(f"layers.{place}", part.kind, part.tensors) for place, part in enumerate(parts)]
    assert chain.in_order([*parts, *again]) == parts
    assert chain.in_order([*parts, *again[:2], *parts_of(("other", (10, 8 * 49)))]) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv 16 4x4/2 p1, relu, flatten, fc 10", "has 2 layers with weights .conv1, logits., but the file has 4"),
        ("conv 16 4x4/2 p1, relu, conv 32 4x4/2 p1, relu, flatten, fc 99, relu, fc 10", "fc1 .* 99×1568.* 100×1568"),
        ("conv 16 4x4/2, relu, conv 32 4x4/2 p1, relu, flatten, fc 100, relu, fc 10", "wants a weight of 100×1152"),
        ("conv 16 4x4/2 p1, relu, konv 32 4x4/2 p1, flatten, fc 10", "konv"),
        ("flatten, fc 100, relu, fc 100, relu, fc 100, relu, fc 10", "conv|fc1 .* wants"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused_with_the_layer(text: str, says: str) -> None:
    tensors = weights(build(TEXTS["Wong & Kolter"], (1, 28, 28)).body)
    with pytest.raises(CheckpointError, match=says):
        checkpoints.candidates(Contents("torch", "zip", (State("", tensors),)), architecture=text)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"a.weight": torch.zeros(8, 1, 4, 4), "b.weight": torch.zeros(10, 785)}, "b .10×785. does not take what a"),
        ({"a.weight": torch.zeros(8, 1, 4, 4)}, "no full connection at its end"),
        ({"a.weight": torch.zeros(8, 1, 4, 4), "b.weight": torch.zeros(10, 8 * 1000)}, "No strides, paddings"),
        ({"a.weight": torch.zeros(10, 783)}, "No strides, paddings"),
        (
            {"a.weight_orig": torch.zeros(10, 784), "a.weight_mask": torch.zeros(10, 784)},
            "belongs to no layer that is known",
        ),
        ({"a.weight": torch.zeros(10, 784, 3)}, "none of those that are known"),
        (
            {"a.in_proj_weight": torch.zeros(10, 784)},
            "a transformer, whose attention is not .* .it has a.in_proj_weight",
        ),
        ({"cls_token": torch.zeros(1, 1, 8), "a.weight": torch.zeros(10, 784)}, "transformer, .* .it has cls_token"),
        ({"b.0.mlp_tokens.fc1.weight": torch.zeros(9, 9)}, "an MLP-Mixer, whose mixing of places is not supported"),
        ({"a.embedding": torch.zeros(10, 784)}, "The tensor a.embedding belongs to no layer"),
        ({"a.lora_A.weight": torch.zeros(4, 784), "a.lora_B.weight": torch.zeros(10, 4)}, "an adapter .LoRA. of a"),
    ],
)
def test_weights_of_no_chain_are_refused_with_the_reason(tensors: dict[str, Tensor], says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        checkpoints.candidates(Contents("torch", "zip", (State("", tensors),)))
