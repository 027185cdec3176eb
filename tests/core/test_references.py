"""Tests of the reference attacks: classifiers whose least perturbations are known, and cases that break attacks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustness_core.training import references
from robustness_core.training.evaluation import ClassPair
from robustness_core.training.references import REFERENCES, Boundary, before_softmax, losses_along, remark

EVERY = [(norm, name) for norm, attacks in REFERENCES.items() for name in attacks]
IN_L2 = list(REFERENCES["l2"])


def run(norm: str, name: str, network: nn.Module, pixels: Tensor, labels: Tensor, **settings: int) -> Boundary:
    """An attack's result, after checking what holds of every one."""
    found = REFERENCES[norm][name](network, pixels, labels, norm=norm, **settings)
    answers = network(pixels + (found.adversarial - pixels)).argmax(1)
    assert found.norm == norm
    assert ((found.adversarial >= 0) & (found.adversarial <= 1)).all()
    np.testing.assert_array_equal(found.norms == 0, (network(pixels).argmax(1) != labels).numpy())
    there = np.isfinite(found.norms) & (found.norms > 0)
    move = (found.adversarial.double() - pixels.double()).flatten(1)
    stated = torch.linalg.vector_norm(move, ord=2 if norm == "l2" else math.inf, dim=1)
    np.testing.assert_allclose(found.norms[there], stated[there], rtol=1e-12)
    assert (stated[~there] == 0).all()
    assert (answers != labels)[there].all()
    return found


def linear(classes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, classes))
    with torch.no_grad():
        network[1].weight.mul_(100)  # margins of some nats
        network[1].bias.copy_(-network[1].weight.sum(1) / 2)  # so that every boundary passes through mid-grey
    return network


def greys(count: int = 12) -> Tensor:
    return 0.5 + 0.04 * torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize(("norm", "name"), EVERY)
def test_least_norms_of_a_linear_classifier(norm: str, name: str, classes: int) -> None:
    """|Δ logits| over the dual norm of the Δ weights, of the nearest class; the box is far."""
    network, pixels = linear(classes), greys()
    logits = network(pixels).detach()
    labels = logits.argmax(1)
    weights = network[1].weight.detach()
    dual = torch.linalg.vector_norm(weights[labels][:, None] - weights, ord=2 if norm == "l2" else 1, dim=2)
    gaps = (logits.gather(1, labels[:, None]) - logits) / dual.clamp_min(1e-30)
    distance = gaps.scatter(1, labels[:, None], math.inf).amin(1).numpy()
    labels[3] = (labels[3] + 1) % classes
    found = run(norm, name, network, pixels, labels)
    right = np.arange(len(pixels)) != 3
    # The gradient of DDN's loss is one of all classes, and so is the one of APGD-t's with more than three.
    np.testing.assert_allclose(
        found.norms[right], distance[right], rtol={"FAB": 0.01, "APGD-t": 0.07, "DDN": 0.12}[name]
    )
    assert (found.norms[right] >= distance[right] * (1 - 1e-3)).all()


@pytest.mark.parametrize("name", IN_L2)
def test_least_norms_where_the_box_is_active(name: str) -> None:
    """The least step to a half-space within the box is clip(x + λ w) - x: λ by halving, image by image."""
    network = linear(2)
    torch.manual_seed(2)
    pixels = torch.rand(12, 3, 4, 4).round(decimals=1).clamp(0, 1)
    labels = network(pixels).argmax(1)
    difference = (network[1].weight[1] - network[1].weight[0]).detach().double()
    offset = (network[1].bias[1] - network[1].bias[0]).item()
    least = []
    for image, label in zip(pixels.double().flatten(1), labels.tolist(), strict=True):
        towards = difference if label == 0 else -difference
        low, high = 0.0, 1e4
        for _ in range(100):
            middle = (low + high) / 2
            there = (image + middle * towards).clamp(0, 1)
            crossed = (float(there @ difference) + offset > 0) != (label == 1)
            low, high = (low, middle) if crossed else (middle, high)
        least.append(float(((image + high * towards).clamp(0, 1) - image).norm()))
    found = run("l2", name, network, pixels, labels)
    assert ((found.adversarial == 0) | (found.adversarial == 1)).any()
    np.testing.assert_allclose(found.norms, least, rtol=0.05)
    assert (found.norms >= np.array(least) * (1 - 1e-3)).all()


@pytest.mark.parametrize("name", IN_L2)
def test_least_norms_inside_a_sphere(name: str) -> None:
    """The network tells whether an image lies within 1 of mid-grey: the least norm is 1 minus its distance from it."""

    class Sphere(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            excess = (pixels - 0.5).flatten(1).square().sum(1) - 1
            return torch.stack([-excess, excess], 1)

    pixels = greys()
    distance = 1 - (pixels - 0.5).flatten(1).norm(dim=1).numpy()
    found = run("l2", name, Sphere(), pixels, torch.zeros(12, dtype=torch.long))
    np.testing.assert_allclose(found.norms, distance, rtol=0.02)
    assert (found.norms >= distance * (1 - 1e-4)).all()


@pytest.mark.parametrize(("norm", "name"), EVERY)
def test_hard_cases_are_answered(norm: str, name: str) -> None:
    network, pixels = linear(2), greys(3)
    labels = network(pixels).argmax(1)
    one = run(norm, name, network, pixels[:1], labels[:1])
    assert 0 < one.norms[0] < math.inf
    assert (run(norm, name, network, pixels, 1 - labels).norms == 0).all()
    assert run(norm, name, network, pixels[:0], labels[:0]).norms.shape == (0,)

    class Fixed(nn.Module):
        def forward(self, pixels: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(pixels), 2)

    np.testing.assert_array_equal(
        run(norm, name, Fixed(), pixels, torch.tensor([0, 1, 0])).norms, [math.inf, 0, math.inf]
    )


@pytest.mark.parametrize(("norm", "name"), EVERY)
def test_an_attack_leaves_the_callers_network_and_generator_alone(norm: str, name: str) -> None:
    network, pixels = linear(3), greys(3)
    before = torch.get_rng_state()
    shown: list[tuple[int, int]] = []
    REFERENCES[norm][name](
        network, pixels, network(pixels).argmax(1), norm=norm, steps=3, batch=2, progress=lambda *at: shown.append(at)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert shown == [(2, 3), (3, 3)]


def test_passes_are_counted() -> None:
    network, pixels = linear(2), greys(4)
    labels = network(pixels).argmax(1)
    labels[0] = 1 - labels[0]  # of those that are attacked
    assert run("l2", "DDN", network, pixels, labels, steps=7).passes == 2 * 7 + 1
    assert run("l2", "FAB", network, pixels, labels, steps=7).passes == pytest.approx((2 + 2) * 7, abs=4)
    assert run("l2", "APGD-t", network, pixels, labels, steps=5, budgets=3).passes <= 3 * (2 * 6 + 12) + 4


@pytest.mark.parametrize("name", IN_L2)
def test_logits_of_any_scale_are_attacked(name: str) -> None:
    """The cross-entropy of logits that are 1,000 times as large has a gradient of exactly zero in float32."""
    network, pixels = linear(2), greys()
    labels = network(pixels).argmax(1)
    before = run("l2", name, network, pixels, labels).norms
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1e3)
    assert remark(network, pixels, labels) == ""
    np.testing.assert_allclose(run("l2", name, network, pixels, labels).norms, before, rtol=0.02)


def test_a_softmax_at_the_end_is_taken_away_and_else_its_flat_gradient_is_said() -> None:
    network, pixels = linear(3), greys()
    with torch.no_grad():
        network[1].weight.mul_(1e3), network[1].bias.mul_(1e3)
    labels = network(pixels).argmax(1)
    whole = nn.Sequential(*network, nn.Softmax(1))
    logits = before_softmax(whole, pixels)
    torch.testing.assert_close(logits(pixels), network(pixels))
    assert before_softmax(network, pixels) is network
    turned = nn.Sequential(*network, nn.Softmin(1))  # answers the opposite of its logits
    assert before_softmax(turned, pixels) is turned
    assert remark(logits, pixels, labels) == ""
    assert remark(whole, pixels, labels).startswith(
        "At 12 of the 12 images that the network classifies rightly its gra"
    )
    for name in IN_L2:
        run("l2", name, whole, pixels, labels, steps=5)  # a number or inf
        pair = ClassPair(logits, (0, 1))
        assert np.isfinite(run("l2", name, pair, pixels, pair(pixels).argmax(1)).norms).all()


def test_the_remark_on_a_network_that_is_always_wrong() -> None:
    network, pixels = linear(2), greys()
    labels = 1 - network(pixels).argmax(1)
    assert remark(network, pixels, labels).startswith("The network errs on every image without any attack")


def test_accuracies_and_losses_along_the_direction() -> None:
    network, pixels = linear(2), greys()
    labels = network(pixels).argmax(1)
    for norm in REFERENCES:
        found = references.fab(network, pixels, labels, norm=norm)
        order = np.sort(found.norms)
        assert found.accuracies([0.0, float(order[5]), 10.0]) == [1.0, 0.5, 0.0]
        losses = losses_along(network, pixels, labels, found, [0.0, *found.norms.tolist()])
        expected = nn.functional.cross_entropy(network(pixels), labels, reduction="none").detach().numpy()
        np.testing.assert_allclose(losses[0], expected, rtol=1e-5)
        # Moved by its own norm an image is where the attack led it.
        there = nn.functional.cross_entropy(network(found.adversarial), labels, reduction="none").detach().numpy()
        np.testing.assert_allclose(np.diag(losses[1:]), there, rtol=1e-3)
        assert (there > math.log(2) - 1e-3).all()
        assert losses.shape == (13, 12)
