"""Projected gradient ascent in the ℓ2 or ℓ∞ ball (Madry et al. 2017): finds wrongly classified neighbours of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

# Logits (B, classes) -> one loss an image (B,), to be made large.
Objective = Callable[[Tensor], Tensor]


def norms(perturbation: Tensor) -> Tensor:
    """L2 norm of each image, (B, ...) -> (B,)."""
    return perturbation.flatten(1).square().sum(1).sqrt()


def unit(direction: Tensor) -> Tensor:
    """Each image scaled to L2 norm 1, (B, ...) -> (B, ...); an all-zero image stays zero."""
    return direction / like(norms(direction).clamp_min(1e-30), direction)


def project_ball(perturbation: Tensor, radius: float, norm: str = "l2") -> Tensor:
    """The closest point of the ball of `radius`, image by image; what lies inside stays as it is."""
    if norm == "linf":
        return perturbation.clamp(-radius, radius)
    factor = (radius / norms(perturbation).clamp_min(1e-30)).clamp_max(1.0)
    return perturbation * like(factor, perturbation)


def half(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """The context in which passes run in `precision`; float32 leaves everything as it is."""
    enabled = precision != torch.float32
    return torch.autocast(device.type, precision if enabled else torch.bfloat16, enabled)


def random_start(pixels: Tensor, epsilon: float, generator: torch.Generator, norm: str = "l2") -> Tensor:
    """A perturbation (B, C, H, W) of norm epsilon in a random direction, cut so that pixels stay in [0, 1].

    In ℓ∞ it is uniform in the ball.
    """
    if norm == "linf":
        return _into_box(pixels, epsilon * (2 * torch.rand(pixels.shape, generator=generator).to(pixels) - 1))
    direction = torch.randn(pixels.shape, generator=generator).to(pixels)
    return _into_box(pixels, epsilon * unit(direction))


def pgd(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    steps: int,
    generator: torch.Generator,
    norm: str = "l2",
    step_size: float | None = None,
    shrink: bool = True,
    objective: Objective | None = None,
    keep_best: bool = True,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Adversarial images (B, C, H, W) in [0, 1], each within `epsilon` of its original in the `norm`, l2 or linf.

    Madry et al. 2017, one random start; the steps are along the gradient in ℓ2, along its signs in ℓ∞; differs: unless
    `shrink` is False, steps shrink linearly (constant ones circle around the worst place or creep towards it), and with
    `keep_best` the best of all iterates is returned (a wrongly classified one before any other, then the one with the
    largest loss), without it the last.
    `pixels`: (B, C, H, W) float32 in [0, 1]; `labels`: (B,) int64. `epsilon` 0 returns the pixels.
    `step_size`: length in the norm of the first step, epsilon unless given; step i of n has (1 - i/n) of it, with
    `shrink` False the whole.
    `objective`: the loss to make large, cross-entropy with `labels` unless given.
    `precision`: bfloat16 halves the cost of a pass where the processor has it; iterates stay float32.
    Cost: steps forward and backward passes, and one more forward pass with `keep_best`.
    Raises ValueError if epsilon < 0 or steps < 1.
    """
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"The budget ε is {epsilon:g}; it must be 0 or more.")
    if steps < 1:
        raise ValueError(f"The number of attack steps is {steps}; it must be 1 or more.")
    if epsilon == 0:
        return pixels.clone()
    first_step = epsilon if step_size is None else step_size
    loss_of: Objective = objective or (lambda logits: functional.cross_entropy(logits, labels, reduction="none"))

    perturbation = random_start(pixels, epsilon, generator, norm)
    best, best_loss, best_wrong = perturbation, None, None
    for iteration in range(steps + keep_best):
        last = iteration == steps  # only looks at the final iterate
        adversarial = (pixels + perturbation).requires_grad_(not last)
        with (
            torch.set_grad_enabled(not last),
            torch.autocast(pixels.device.type, precision, precision != torch.float32),
        ):
            logits = network(adversarial)
        losses = loss_of(logits.float())
        if keep_best:
            wrong, values = logits.argmax(1) != labels, losses.detach()
            if best_loss is None or best_wrong is None:
                best, best_loss, best_wrong = perturbation, values, wrong
            else:
                better = (wrong & ~best_wrong) | ((wrong == best_wrong) & (values > best_loss))
                best = torch.where(like(better, best), perturbation, best)
                best_loss, best_wrong = torch.where(better, values, best_loss), wrong | best_wrong
        if not last:
            (gradient,) = torch.autograd.grad(losses.sum(), adversarial)
            step = first_step * (1 - iteration / steps) if shrink else first_step
            along = unit(gradient) if norm == "l2" else gradient.sign()
            perturbation = project_ball(perturbation + step * along, epsilon, norm)
            perturbation = _into_box(pixels, perturbation)  # shrinks every entry, so the ball is kept
    return pixels + (best if keep_best else perturbation)


def _into_box(pixels: Tensor, perturbation: Tensor) -> Tensor:
    return (pixels + perturbation).clamp(0.0, 1.0) - pixels


def like(values: Tensor, images: Tensor) -> Tensor:
    """A number an image, (B,), in the shape that goes with images, (B, 1, 1, 1)."""
    return values.view(-1, *[1] * (images.dim() - 1))
