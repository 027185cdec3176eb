"""Layers: names, sizes, affinity, and that prefix and suffix make the network again."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustness_core.errors import NetworkError
from robustness_core.layers import cuts, extractor, is_affine, main_layers
from robustness_core.networks import build


class Residual(nn.Module):
    """Two blocks with skips, batch norm, an in-place ReLU and a reshape by size: what uploads look like."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 4, 3, 1, 1), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(Block(), Block())
        self.fc = nn.Linear(4, 10)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer1(self.relu(self.bn1(self.conv1(x))))
        x = F.avg_pool2d(x, x.size(3))
        return self.fc(x.view(x.size(0), -1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


@pytest.mark.parametrize(
    ("architecture", "shape", "layers"),
    [
        ("small", (1, 28, 28), {"conv1": 3136, "conv2": 6272, "fc1": 100, "logits": 10}),
        (
            "medium",
            (1, 28, 28),
            {"conv1": 25088, "conv2": 6272, "conv3": 12544, "conv4": 3136, "fc1": 512, "fc2": 512, "logits": 10},
        ),
        (
            "large",
            (3, 32, 32),
            {
                "conv1": 65536,
                "conv2": 65536,
                "conv3": 32768,
                "conv4": 32768,
                "conv5": 32768,
                "fc1": 512,
                "logits": 10,
            },
        ),
    ],
)
def test_the_papers_networks_have_the_papers_layers(
    architecture: str, shape: tuple[int, ...], layers: dict[str, int]
) -> None:
    found = cuts(build(architecture, shape), shape)
    assert {cut.name: cut.features for cut in found if cut.main} == layers
    assert [cut.name for cut in found if not cut.main] == [f"{name}.pre" for name in list(layers)[:-1]]


def test_only_the_first_linear_step_is_affine() -> None:
    network = build("conv 2 3x3/1, bn, relu, avgpool 2, flatten, fc 10", (1, 8, 8))
    affine = {cut.name: cut.affine for cut in cuts(network, (1, 8, 8))}
    assert affine == {"conv1.conv": True, "conv1.pre": True, "conv1": False, "pool1": False, "logits": False}


def test_a_network_without_activation_is_affine_to_the_end() -> None:
    network = build("conv 2 3x3/2, avgpool 2, flatten, fc 5, fc 10", (1, 12, 12), mean=[0.1], std=[0.3])
    found = cuts(network, (1, 12, 12))
    assert all(cut.affine for cut in found)
    f, x = extractor(network, "logits").double(), torch.rand(3, 1, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(f(x[:1] + x[1:2] - x[2:]), f(x[:1]) + f(x[1:2]) - f(x[2:]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("module", [Residual, lambda: build("medium", (1, 28, 28), mean=[0.1], std=[0.3])])
def test_every_extractor_gives_what_the_whole_network_passes_on(module: object) -> None:
    torch.manual_seed(0)
    network = module().eval()  # type: ignore[operator]
    images, seen = torch.rand(4, 1, 28, 28), {}
    for cut in cuts(network, (1, 28, 28)):
        features = extractor(network, cut.name, (1, 28, 28))(images)
        assert features.shape[1:] == cut.shape
        seen[cut.name] = features
    torch.testing.assert_close(seen["logits"], network(images), rtol=0, atol=0)


def test_a_residual_network_is_cut_only_where_every_path_passes() -> None:
    names = [cut.name for cut in cuts(Residual(), (1, 28, 28))]
    assert names == [
        "conv1.conv",
        "conv1.pre",
        "conv1",
        "layer1.0.pre",
        "layer1.0",
        "layer1.1.pre",
        "layer1.1",
        "avg_pool2d",
        "logits",
    ]
    assert main_layers(Residual(), (1, 28, 28)) == ["conv1", "layer1.0", "layer1.1", "avg_pool2d", "logits"]


def test_an_extractor_asks_no_gradients_of_weights_and_holds_no_later_layer() -> None:
    network = build("medium", (1, 28, 28))
    f = extractor(network, "conv2")
    assert not any(parameter.requires_grad for parameter in f.parameters())
    assert sum(p.numel() for p in f.parameters()) == 32 * 9 + 32 + 32 * 32 * 16 + 32
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_mode_of_the_network_is_left_as_it_was() -> None:
    network = build("conv 2 3x3/1, bn, relu, flatten, fc 10", (1, 8, 8)).train()
    before = network.body.bn1.running_mean.clone()  # type: ignore[union-attr, operator]
    cuts(network, (1, 8, 8))
    assert network.training
    torch.testing.assert_close(network.body.bn1.running_mean, before)  # type: ignore[arg-type, union-attr]


def test_affinity_of_foreign_modules() -> None:
    assert is_affine(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    assert not is_affine(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh()))
    assert is_affine(nn.BatchNorm2d(4))
    assert not is_affine(nn.GroupNorm(2, 4))  # its attribute `affine` says that it has weights
    assert not is_affine(nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True)))

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x

    class Choice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    assert not is_affine(Square())
    assert not is_affine(Choice())  # cannot be traced, so nothing is known


def test_unknown_layers_and_untraceable_networks_are_refused_in_one_sentence() -> None:
    with pytest.raises(NetworkError, match=r"no layer 'conv9'; it has conv1\.pre"):
        extractor(build("small", (1, 28, 28)), "conv9")
    with pytest.raises(NetworkError, match="cannot be cut"):
        cuts(build("small", (1, 28, 28)), (3, 28, 28))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conv 3 4x4/2, rleu, flatten, fc 3", "'rleu'"),
        ("conv 3 40x40/2, flatten, fc 3", "does not fit an input of 1×28×28"),
        ("conv 3 4x4/2, fc 3", "flatten"),
        ("conv 3 4x4/2, relu", "no fc layer"),
        ("conv 3 4x4/0, flatten, fc 3", "1 or more"),
        ("conv 3 4x4/2 same, flatten, fc 3", "same padding needs stride 1"),
        ("flatten, fc 99999999999", "at most"),
        ("flatten,, fc 3", "empty place"),
        ("flatten, fc", r"write fc UNITS"),
    ],
)
def test_an_architecture_text_that_cannot_be_built_points_at_the_word(text: str, says: str) -> None:
    with pytest.raises(NetworkError, match=says) as caught:
        build(text, (1, 28, 28))
    assert "\n" not in str(caught.value)


def test_an_architecture_text_builds_the_same_network_again() -> None:
    network = build("medium", (3, 32, 32), mean=[0.5] * 3, std=[0.2] * 3)
    again = build(network.architecture, (3, 32, 32), mean=network.mean, std=network.std)
    again.load_state_dict(network.state_dict())
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(images), network(images), rtol=0, atol=0)
