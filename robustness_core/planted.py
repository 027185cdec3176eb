"""Networks of realistic size whose distances are known: ReLU and max-pooling, yet affine where it matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustness_core.errors import StrataError
from robustness_core.mixtures import gaussian
from robustness_core.networks import Network, build

Floats = npt.NDArray[np.float64]
ROOM = 1.3  # radius within which activations are fixed / distance of the images from the centre
DEAD = 0.25  # share of the channels and units that are inactive
_MARGIN = 1.02  # of every bound, so that rounding to float32 breaks none
_PATTERN = 3.5  # height of the centre's bright pixels / radius, so that they win each window of a max-pooling


@dataclass(frozen=True, eq=False)
class Planted:
    """A network that is affine within `radius` of `centre`, (C, H, W), although it has activations.

    `slopes`: its Jacobian there at each of its asked layers, (nj, n). Images lie within `radius` / ROOM of the centre.
    A colliding pair nearer than `truth` would lie within the radius too, where the closed form of affine maps says
    that there is none; so `truth` is the distance, not a bound.
    """

    network: Network
    centre: Tensor
    radius: float
    slopes: Mapping[str, Floats]

    def images(self, count: int, seed: int) -> Tensor:
        """Images in random directions from the centre, (count, C, H, W) float32; pixels outside [0, 1] too."""
        way = torch.randn((count, *self.centre.shape), generator=torch.Generator().manual_seed(seed))
        away = self.radius / ROOM / way.flatten(1).norm(dim=1)
        images: Tensor = self.centre + away[:, None, None, None] * way
        return images

    def seen(self, layer: str, m: int, seed: int) -> tuple[Floats, Floats]:
        """H = A J, (m, n), and an orthonormal basis of its row space, (m, n)."""
        slope = self.slopes[layer]
        H = gaussian(len(slope), m, seed).astype(np.float64) @ slope
        sigma, Vt = np.linalg.svd(H, full_matrices=False)[1:]
        if sigma[-1] < 1e-9 * sigma[0]:
            raise StrataError(f"The planted network sees fewer than {m} directions at {layer}.")
        return H, Vt

    def truth(self, layer: str, m: int, seed: int, left: Tensor, right: Tensor) -> Floats:
        """The distance of each pair, (B,): half the length of x - x' in the row space of H (METHOD.md section 2)."""
        distance: Floats = np.linalg.norm(flat(left - right) @ self.seen(layer, m, seed)[1].T, axis=1) / 2
        reach = [np.linalg.norm(flat(side - self.centre), axis=1) for side in (left, right)]
        if (np.maximum(*reach) + distance > self.radius).any():
            raise StrataError("A planted image lies too far from the centre for its distance to be known.")
        return distance


def plant(architecture: str, shape: Sequence[int], layers: Sequence[str], seed: int, radius: float = 5.0) -> Planted:
    """A network of this architecture (networks.build: conv, relu, maxpool, flatten, fc) with a planted region.

    Layer after layer, biases are chosen so large that no unit within `radius` of the centre changes sign: what a unit
    can change there is the radius times the length of its row of the Jacobian. DEAD of the channels are inactive.
    The first layer's kernels have a strong middle and the centre has bright pixels, so that these win every window of
    a max-pooling behind it. Weights are drawn from `seed`. Raises StrataError where a window's winner is not certain.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(architecture, shape).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    centre = torch.zeros(tuple(shape))
    centre[:, ::2, ::2] = _PATTERN * radius
    steps = list(network.body.named_children())
    first = steps[0][1]
    if isinstance(first, nn.Conv2d):
        first.weight /= 4
        first.weight[:, :, first.kernel_size[0] // 2, first.kernel_size[1] // 2] += 1 / first.in_channels
    network.double()
    at = centre.double().unsqueeze(0)
    rows = torch.eye(centre.numel(), dtype=torch.float64).view(-1, *shape)  # the Jacobian, transposed
    reach, slopes = torch.zeros_like(at), {}
    for place, (name, module) in enumerate(steps):
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None
            module.bias.zero_()
            at, rows = module(at), module(rows)
            reach = radius * rows.norm(dim=0, keepdim=True)
            if place + 1 < len(steps):
                alive = torch.rand(at.shape[1], generator=generator) >= DEAD
                up, down = (_channels(_MARGIN * reach + sign * at) for sign in (-1, 1))
                module.bias.copy_(torch.where(alive, up, -down).float())
                at = at + module.bias.view(1, -1, *[1] * (at.ndim - 2))
        elif isinstance(module, nn.ReLU):
            if not (at.abs() >= reach).all():
                raise StrataError("A unit of the planted network can change its sign.")
            rows, at = rows * (at > 0), at.relu()
        elif isinstance(module, nn.MaxPool2d):
            at, rows = _pooled(module, at, rows, radius)
        else:
            at, rows = module(at), module(rows)
        layer = name.removesuffix("_relu")
        if layer in layers and not (place + 1 < len(steps) and isinstance(steps[place + 1][1], nn.ReLU)):
            slopes[layer] = rows.flatten(1).T.numpy()
    return Planted(network.float(), centre, radius, slopes)


def _channels(least: Tensor) -> Tensor:
    """What a bias must be at least, channel by channel: (1, C, ...) -> (C,)."""
    return least.reshape(least.shape[1], -1).amax(dim=1)


def _pooled(module: nn.MaxPool2d, at: Tensor, rows: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The winners of a max-pooling without padding: values (1, C, h, w), rows (n, C, h, w)."""
    size, channels = module.kernel_size[0], at.shape[1]  # type: ignore[index]

    def windows(images: Tensor) -> Tensor:  # (N, C, size * size, windows)
        return nn.functional.unfold(images, size, stride=size).view(len(images), channels, size * size, -1)

    values, moves = windows(at), windows(rows)
    winner = values.argmax(dim=2, keepdim=True)
    best, move = values.gather(2, winner), moves.gather(2, winner.expand(len(rows), -1, -1, -1))
    if not (best - values >= radius * (move - moves).norm(dim=0, keepdim=True)).all():
        raise StrataError("A window of the planted network's max-pooling can change its winner.")
    height, width = at.shape[2] // size, at.shape[3] // size
    return best.view(1, channels, height, width), move.view(-1, channels, height, width)


def flat(images: Tensor) -> Floats:
    """(B, C, H, W) -> (B, n) float64."""
    values: Floats = images.detach().cpu().flatten(1).double().numpy()
    return values
