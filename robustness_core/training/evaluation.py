"""Measures a network: clean accuracy, accuracy under PGD over budgets, and FAB's least perturbations, all L2."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustness_core.training.attacks import norms, pgd, unit

# Called with the images done and the images in all.
Progress = Callable[[int, int], None]

FAB_STEPS = 100
PGD_STEPS = 40
USUAL_STEP = 2.5  # constant steps of 2.5 ε / steps, as in the code of Madry et al.


class ClassPair(nn.Module):
    """A network that is asked only which of two classes an image shows: (B, C, H, W) -> two logits (B, 2)."""

    def __init__(self, network: nn.Module, classes: tuple[int, int]):
        super().__init__()
        self.network = network
        self.classes = list(classes)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels)
        return logits[:, self.classes]


@dataclass(frozen=True)
class Boundary:
    """FAB's result. `norms`: (N,) float64, the least L2 perturbation found that changes the answer: 0 where the answer
    is wrong already, inf where none was found. `adversarial`: (N, C, H, W), the images that it leads to."""

    norms: npt.NDArray[np.float64]
    adversarial: Tensor


def correct(network: nn.Module, pixels: Tensor, labels: Tensor, *, batch: int = 256) -> Tensor:
    """Which images are classified rightly, (N,) bool; pixels (N, C, H, W) float32 in [0, 1], labels (N,) int64."""
    with torch.no_grad():
        parts = [network(part).argmax(1) for part in torch.split(pixels, batch)]
    return torch.cat(parts) == labels if parts else torch.zeros(0, dtype=torch.bool)


def accuracy(network: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """Share of images that are classified rightly, 0 to 1."""
    return float(correct(network, pixels, labels).double().mean())


def pgd_accuracies(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    steps: int = PGD_STEPS,
    seed: int = 0,
    norm: str = "l2",
    batch: int = 128,
    precision: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> list[float]:
    """Share of images that stay right under PGD at each budget, as listed; 0 to 1. Otherwise as `pgd_budgets`."""
    least = pgd_budgets(
        network, pixels, labels, epsilons,
        steps=steps, seed=seed, norm=norm, batch=batch, precision=precision, progress=progress,
    )  # fmt: skip
    return [float((least > epsilon).mean()) for epsilon in epsilons]


def pgd_budgets(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    steps: int = PGD_STEPS,
    seed: int = 0,
    norm: str = "l2",
    batch: int = 128,
    precision: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """The least of the budgets at which PGD fools each image, (N,): 0 where it is wrong without, inf where at none.

    Every budget is tried with a short walk of steps / 8 and, where that fails, with the whole one. The budgets are
    tried from the smallest up, and what was fooled once is not attacked again, since the smaller perturbation serves
    the larger budget too. `precision` concerns the search only: the verdict is
    float32. Cost: at most 9/8 · steps · N forward and backward passes a budget.
    Raises ValueError for a budget below 0 or steps < 1.
    """
    network = network.eval()
    standing = correct(network, pixels, labels)
    least = np.where(standing.cpu().numpy(), np.inf, 0.0)
    search = partial(pgd, network, generator=torch.Generator().manual_seed(seed), norm=norm, precision=precision)
    walks = [(epsilon, walk) for epsilon in sorted(set(epsilons)) for walk in (max(1, steps // 8), steps)]
    for index, (epsilon, walk) in enumerate(walks):
        attack = partial(search, epsilon=epsilon, steps=walk)
        shown = _part_of(progress, index, len(walks))
        standing = _still_right(network, pixels, labels, standing, attack, batch, shown)
        least[np.isinf(least) & ~standing.cpu().numpy()] = epsilon
    return least


def usual_pgd_accuracies(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    epsilons: Sequence[float],
    *,
    steps: int = PGD_STEPS,
    seed: int = 0,
    norm: str = "l2",
    batch: int = 128,
    precision: torch.dtype = torch.float32,
    progress: Progress | None = None,
) -> list[float]:
    """Share of images that stay right under PGD as most papers run it, at each budget, as listed; 0 to 1.

    Madry et al. 2017: one random start (in ℓ2 of norm ε), `steps` constant steps of 2.5 ε / steps, the last iterate
    judged. Weaker than `pgd_accuracies` on networks whose gradients lead astray; it is there to compare with published
    figures. Every budget is measured by itself. Cost: steps · N forward and backward passes a budget.
    Raises ValueError for a budget below 0 or steps < 1.
    """
    network = network.eval()
    right = correct(network, pixels, labels)
    search = partial(pgd, network, generator=torch.Generator().manual_seed(seed), norm=norm, precision=precision)
    shares = []
    for index, epsilon in enumerate(epsilons):
        step = USUAL_STEP * epsilon / steps
        attack = partial(search, epsilon=epsilon, steps=steps, step_size=step, shrink=False, keep_best=False)
        shown = _part_of(progress, index, len(epsilons))
        standing = _still_right(network, pixels, labels, right, attack, batch, shown)
        shares.append(float(standing.double().mean()))
    return shares


def _still_right(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    standing: Tensor,
    attack: Callable[[Tensor, Tensor], Tensor],
    batch: int,
    progress: Progress | None,
) -> Tensor:
    """Which of the `standing` images, (N,) bool, are right after `attack`(pixels, labels) too; the others stay out."""
    chosen, standing = standing.nonzero().flatten(), standing.clone()
    for start in range(0, len(chosen), batch):
        members = chosen[start : start + batch]
        attacked = attack(pixels[members], labels[members])
        standing[members] = correct(network, attacked, labels[members])
        if progress is not None:
            progress(int(members[-1]) + 1, len(labels))
    return standing


def _part_of(progress: Progress | None, index: int, parts: int) -> Progress | None:
    """A progress of part `index` of equally long `parts`."""
    return progress and (lambda done, total: progress(index * total + done, parts * total))


def fab(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    steps: int = FAB_STEPS,
    seed: int = 0,
    batch: int = 100,
    progress: Progress | None = None,
) -> Boundary:
    """The least L2 perturbation that changes the answer, image by image (Croce & Hein 2020, pyautoattack, no restart).

    Cost: steps · (2 forward passes and one backward pass a class) over the images.
    """
    from pyautoattack.fab_pt import FABAttack_PT  # imported here: only this function needs it

    frozen = copy.deepcopy(network).eval().requires_grad_(False)  # pyautoattack would fill the weights' gradients
    if len(labels) == 0:
        return Boundary(np.zeros(0), pixels)
    # Its `eps` cuts off larger perturbations; none can be longer than the diagonal of the pixel box.
    largest = float(pixels[0].numel()) ** 0.5
    attack = FABAttack_PT(frozen, norm="L2", n_restarts=1, n_iter=steps, eps=largest, seed=seed, device=pixels.device)
    parts = []
    with torch.random.fork_rng(devices=[]):  # pyautoattack seeds torch's global generator
        for start in range(0, len(labels), batch):
            chosen = slice(start, start + batch)
            parts.append(attack.perturb(pixels[chosen], labels[chosen]))
            if progress is not None:
                progress(min(start + batch, len(labels)), len(labels))
    adversarial = torch.cat(parts)
    found = norms(adversarial.double() - pixels.double()).numpy()
    before, after = correct(frozen, pixels, labels).numpy(), correct(frozen, adversarial, labels).numpy()
    return Boundary(np.where(before, np.where(after, np.inf, found), 0.0), adversarial)


def fab_accuracies(boundary: Boundary, epsilons: Sequence[float]) -> list[float]:
    """Share of images whose least perturbation is longer than each budget, 0 to 1."""
    return [float((boundary.norms > epsilon).mean()) for epsilon in epsilons]


def fab_losses(
    network: nn.Module, pixels: Tensor, labels: Tensor, boundary: Boundary, epsilons: Sequence[float]
) -> list[float]:
    """Mean cross-entropy, in nats, where each image is moved by each budget along FAB's direction (Figure 5).

    Past the boundary the walk goes on, so the loss can exceed log 2; images that FAB left alone stay where they are.
    """
    direction = unit(boundary.adversarial - pixels)
    losses = []
    with torch.no_grad():
        for epsilon in epsilons:
            moved = (pixels + epsilon * direction).clamp(0.0, 1.0)
            losses.append(float(functional.cross_entropy(network(moved), labels)))
    return losses
