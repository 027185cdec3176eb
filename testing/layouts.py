"""Networks under the key names of public repositories, written as their authors have them, in plain torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_VGG = {
    "vgg11": (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg13": (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M"),
    "vgg16": (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"),
    "vgg19": (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512, 512, 512, 512, "M"),
}


class VGG(nn.Module):
    """torchvision's VGG (`pool` 7) and those for CIFAR-10; `head` is the classifier."""

    def __init__(self, name: str, norm: bool, head: nn.Module, pool: int = 0, average: bool = False):
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for item in _VGG[name]:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers.append(nn.Conv2d(width, item, 3, padding=1))
            layers += [nn.BatchNorm2d(item)] if norm else []
            layers.append(nn.ReLU(True))
            width = item
        layers += [nn.AvgPool2d(1, 1)] if average else []  # kuangliu's
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(pool) if pool else nn.Identity()
        self.classifier = head

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))  # type: ignore[no-any-return]


def three_layers(first: int, width: int) -> nn.Sequential:
    """torchvision's classifier: two hidden layers, each with ReLU and dropout."""
    return nn.Sequential(
        nn.Linear(first, width), nn.ReLU(True), nn.Dropout(), nn.Linear(width, width), nn.ReLU(True), nn.Dropout(),
        nn.Linear(width, 10),
    )  # fmt: skip


class TorchvisionBlock(nn.Module):
    """BasicBlock and, with `wide` 4, Bottleneck."""

    def __init__(self, inputs: int, planes: int, stride: int, wide: int):
        super().__init__()
        self.wide = wide
        if wide == 1:
            self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.relu = nn.ReLU(inplace=True)
            self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
        else:
            self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(planes)
            self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(planes)
            self.conv3 = nn.Conv2d(planes, wide * planes, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(wide * planes)
            self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != planes * wide:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, wide * planes, 1, stride, bias=False), nn.BatchNorm2d(wide * planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.wide > 1:
            out = self.bn3(self.conv3(self.relu(out)))
        out += identity
        return self.relu(out)  # type: ignore[no-any-return]


class TorchvisionResNet(nn.Module):
    """torchvision's ResNet; `stem` is (kernel, stride, padding, pool) of its first convolution."""

    def __init__(
        self, blocks: Sequence[int], wide: int = 1, stem: tuple[int, int, int, bool] = (7, 2, 3, True),
        channels: int = 3, width: int = 64,
    ):  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, *stem[:3], bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if stem[3] else nn.Identity()
        inputs = width
        for i, count in enumerate(blocks, 1):
            planes, stage = width * 2 ** (i - 1), []
            for j in range(count):
                stage.append(TorchvisionBlock(inputs, planes, 2 if i > 1 and j == 0 else 1, wide))
                inputs = planes * wide
            self.add_module(f"layer{i}", nn.Sequential(*stage))
        self.stages = len(blocks)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for i in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{i}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


class PreActBlock(nn.Module):
    """As kuangliu and Rice et al. have it: the shortcut starts from the activated features."""

    def __init__(self, inputs: int, planes: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        if stride != 1 or inputs != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, planes, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(F.relu(self.bn2(self.conv1(out)))) + shortcut  # type: ignore[no-any-return]


class RicePreAct(nn.Module):
    """PreActResNet-18 of robust_overfitting (Rice et al. 2020): with a last batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        inputs = 64
        for i, planes in enumerate((64, 128, 256, 512), 1):
            stage = [PreActBlock(inputs, planes, 1 if i == 1 else 2), PreActBlock(planes, planes, 1)]
            self.add_module(f"layer{i}", nn.Sequential(*stage))
            inputs = planes
        self.bn = nn.BatchNorm2d(512)
        self.linear = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        for i in range(1, 5):
            out = self.get_submodule(f"layer{i}")(out)
        out = F.avg_pool2d(F.relu(self.bn(out)), 4)
        return self.linear(out.view(out.size(0), -1))  # type: ignore[no-any-return]


class Tutorial(nn.Module):
    """The networks of PyTorch's tutorials: conv1, pool, conv2, pool, fc1, fc2, fc3."""

    def __init__(self, channels: int, flat: int, padding: int = 0):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=padding)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(flat, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = torch.flatten(self.pool(F.relu(self.conv2(x))), 1)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))  # type: ignore[no-any-return]


class Example(nn.Module):
    """The network of pytorch/examples for MNIST, without its log_softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 1), nn.Conv2d(32, 64, 3, 1)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        return self.fc2(F.relu(self.fc1(torch.flatten(x, 1))))  # type: ignore[no-any-return]


class OldExample(nn.Module):
    """The older one: conv 10 and 20 of 5×5, each with a pool, fc 50."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 10, 5), nn.Conv2d(10, 20, 5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1, self.fc2 = nn.Linear(320, 50), nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2)).view(-1, 320)
        return self.fc2(F.relu(self.fc1(x)))  # type: ignore[no-any-return]


class AlexNet(nn.Module):
    """AlexNet for CIFAR-10 (bearpaw/pytorch-classification)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 5), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(),
            nn.MaxPool2d(2, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2),
        )  # fmt: skip
        self.classifier = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).view(x.size(0), -1))  # type: ignore[no-any-return]


class Mlp(nn.Module):
    """Full connections, registered under names that sort in another order than they are used."""

    def __init__(self, bias: bool = True):
        super().__init__()
        self.fc1, self.fc2, self.out = nn.Linear(784, 100, bias), nn.Linear(100, 50, bias), nn.Linear(50, 10, bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.fc2(F.relu(self.fc1(x.view(-1, 784))))))  # type: ignore[no-any-return]


def small(channels: int = 3, flat: int = 2048) -> nn.Sequential:
    """Conv, batch norm, ReLU, pool, twice, dropout between, one hidden layer: gaps in the numbers of the keys."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(flat, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(), nn.Linear(64, 10),
    )  # fmt: skip


# name -> (module, (C, H, W)); the name's first part is what the network must be recognised as, where that is fixed.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "vgg11 of torchvision, narrow head": (lambda: VGG("vgg11", False, three_layers(512 * 49, 64), 7), (3, 32, 32)),
    "vgg13-bn of torchvision, narrow head": (lambda: VGG("vgg13", True, three_layers(512 * 49, 64), 7), (3, 32, 32)),
    "vgg16-bn of kuangliu": (lambda: VGG("vgg16", True, nn.Linear(512, 10), average=True), (3, 32, 32)),
    "vgg19 of chengyangfu": (lambda: VGG("vgg19", False, three_layers(512, 512)), (3, 32, 32)),
    "resnet18 of torchvision": (lambda: TorchvisionResNet((2, 2, 2, 2)), (3, 32, 32)),
    "resnet18 of torchvision, 3×3 stem": (
        lambda: TorchvisionResNet((2, 2, 2, 2), stem=(3, 1, 1, False)), (3, 32, 32),
    ),
    "resnet18 of torchvision, 3×3 stem and pool": (
        lambda: TorchvisionResNet((2, 2, 2, 2), stem=(3, 1, 1, True)), (3, 32, 32),
    ),
    "resnet18 of torchvision, 7×7 stem, no pool": (
        lambda: TorchvisionResNet((2, 2, 2, 2), stem=(7, 2, 3, False)), (3, 32, 32),
    ),
    "resnet18 of torchvision on MNIST": (lambda: TorchvisionResNet((2, 2, 2, 2), channels=1), (1, 28, 28)),
    "resnet34 of torchvision": (lambda: TorchvisionResNet((3, 4, 6, 3)), (3, 32, 32)),
    "resnet50 of torchvision": (lambda: TorchvisionResNet((3, 4, 6, 3), wide=4), (3, 32, 32)),
    "resnet20 of chenyaofo": (
        lambda: TorchvisionResNet((3, 3, 3), stem=(3, 1, 1, False), width=16), (3, 32, 32),
    ),
    "preactresnet18 of robust_overfitting": (RicePreAct, (3, 32, 32)),
    "alexnet of bearpaw": (AlexNet, (3, 32, 32)),
    "lenet of the tutorial, CIFAR-10": (lambda: Tutorial(3, 400), (3, 32, 32)),
    "lenet of the tutorial, MNIST": (lambda: Tutorial(1, 256), (1, 28, 28)),
    "lenet of the tutorial, MNIST, padded": (lambda: Tutorial(1, 400, 2), (1, 28, 28)),
    "the example for MNIST": (Example, (1, 28, 28)),
    "the old example for MNIST": (OldExample, (1, 28, 28)),
    "full connections": (Mlp, (1, 28, 28)),
    "full connections without biases": (lambda: Mlp(False), (1, 28, 28)),
    "a sequence with gaps, CIFAR-10": (small, (3, 32, 32)),
    "a sequence with gaps, MNIST": (lambda: small(1, 1568), (1, 28, 28)),
}  # fmt: skip


def ready(make: Callable[[], nn.Module]) -> nn.Module:
    """The network in evaluation mode, the same every time, its batch norms as after some training."""
    torch.manual_seed(0)
    network = make().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
    return network


def prefixed(state: OrderedDict[str, Tensor] | dict[str, Tensor], prefix: str) -> OrderedDict[str, Tensor]:
    return OrderedDict((prefix + name, tensor) for name, tensor in state.items())
