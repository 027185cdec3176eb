"""`python -m robustness_core selftest`: search, verification and loss on this device against known truth."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
import torch

from robustness_core import planted
from robustness_core.collision import find_collisions
from robustness_core.collision.precision import fastest
from robustness_core.engine.compute import choose_device, device_name
from robustness_core.errors import StrataError
from robustness_core.layers import extractor
from robustness_core.optimal_loss import loss_curve
from robustness_core.planted import Planted
from robustness_core.projection import project
from robustness_core.spec import TOLERANCE

# Architecture, input shape, layers: grey with max-pooling, and coloured as the paper's medium network.
NETWORKS = {
    "grey": (
        "conv 32 3x3/1 p1, relu, maxpool 2, conv 64 3x3/1 p1, relu, conv 64 4x4/2 p1, relu, "
        "flatten, fc 512, relu, fc 10",
        (1, 28, 28),
        ("conv2", "fc1", "logits"),
    ),
    "coloured": (
        "conv 32 3x3/1 p1, relu, conv 32 4x4/2 p1, relu, conv 64 3x3/1 p1, relu, conv 64 4x4/2 p1, relu, "
        "flatten, fc 512, relu, fc 512, relu, fc 10",
        (3, 16, 16),
        ("conv4", "logits"),
    ),
}
PAIRS, M, SEED = 6, 10, 1
FARTHER = 1.005  # of the truth a search may end; it never ends nearer but for the tolerance of a collision
LOSS_WITHIN = 1e-9  # nats


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, its true and its found value, and whether they agree."""

    subject: str
    truth: float
    found: float
    passed: bool
    note: str = ""

    def __str__(self) -> str:
        ratio = f"{self.found / self.truth:>10.6f}" if self.truth else f"{'':>10}"
        verdict = "ok" if self.passed else "FAILED"
        return f"{self.subject:<46}{self.truth:>11.6f}{self.found:>11.6f}{ratio}  {verdict:<8}{self.note}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")


def run(args: argparse.Namespace) -> None:
    device, began = choose_device(args.device), time.perf_counter()
    print(f"{device_name(device)}, torch {torch.__version__}; the fastest precision here is {fastest(device)}")
    print(f"{'':<46}{'truth':>11}{'found':>11}{'ratio':>10}")
    failed = 0
    for name, (architecture, shape, layers) in NETWORKS.items():
        network = planted.plant(architecture, shape, layers, SEED)
        for check in [*searches(name, network, layers, device), *losses(name, network, device)]:
            print(check, flush=True)
            failed += not check.passed
    print(f"{time.perf_counter() - began:.0f} s")
    if failed:
        raise SelfTestFailed(f"{failed} of the checks failed; distances of this device cannot be trusted.")


class SelfTestFailed(StrataError):
    """What was found is not the truth."""

    status = 1


def searches(name: str, network: Planted, layers: tuple[str, ...], device: torch.device) -> list[Check]:
    """At each layer, in each precision: mean distance, and the verification held against the closed form."""
    left, right = network.images(PAIRS, SEED), network.images(PAIRS, SEED + 1)
    precisions = ("float32", "bfloat16", *(["tfloat32"] if device.type == "cuda" else []))
    checks = []
    for layer in layers:
        truth = network.truth(layer, M, SEED, left, right)
        H, _ = network.seen(layer, M, SEED)
        f = project(extractor(network.network.to(device), layer), len(network.slopes[layer]), M, SEED)
        for precision in precisions:
            found = find_collisions(f, left.to(device), right.to(device), precision=precision)
            distance = found.distance.cpu().numpy()
            ratio = distance / truth
            near = bool((ratio >= 1 - TOLERANCE).all() and (ratio <= FARTHER).all())
            moved = np.linalg.norm(planted.flat(found.left - found.right) @ H.T, axis=1)
            apart = np.linalg.norm(planted.flat(left - right) @ H.T, axis=1)
            collides = bool(found.collided.all()) and bool((moved <= 2 * TOLERANCE * apart).all())
            note = "" if collides else "some pairs do not collide"
            if found.precision != precision:
                note += f"in {found.precision}"
            subject = f"{name} {layer}, distance, {precision}"
            checks.append(Check(subject, float(truth.mean()), float(distance.mean()), near and collides, note))
    return checks


def losses(name: str, network: Planted, device: torch.device, size: int = 6, near: int = 2) -> list[Check]:
    """The optimal loss of planted classes: left images alike, `near` right ones at distance d, the others at 2 d.

    From d on all left images conflict with the near ones: they get q = size / (size + near) and those the rest; from
    2 d on all conflict with all (METHOD.md section 3).
    """
    layer = "logits"
    _, basis = network.seen(layer, M, SEED)
    way = torch.from_numpy(basis[0]).float().view(network.centre.shape)
    d = network.radius / 16
    left = network.centre.repeat(size, 1, 1, 1)
    far = torch.full((size,), 4 * d).index_fill(0, torch.arange(near), 2 * d)
    right = left + far[:, None, None, None] * way
    f = project(extractor(network.network.to(device), layer), len(network.slopes[layer]), M, SEED)
    places = torch.cartesian_prod(torch.arange(size), torch.arange(size)).T
    found = find_collisions(f, left[places[0]].to(device), right[places[1]].to(device), preset="fast").distance
    curve = loss_curve(found.cpu().numpy().reshape(size, size), [0.9 * d, 1.1 * d, 2.2 * d])
    both = size + near
    some = (size * np.log(both / size) + near * np.log(both / near)) / (2 * size)
    return [
        Check(f"{name} {layer}, optimal loss, {case}", float(truth), float(loss), abs(loss - truth) <= LOSS_WITHIN)
        for case, truth, loss in zip(("no conflict", "some", "all"), (0.0, some, np.log(2)), curve, strict=True)
    ]
