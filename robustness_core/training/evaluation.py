"""Measures a network: clean accuracy, and accuracy under PGD over budgets; least perturbations are in `references`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustness_core.training.attacks import pgd
from robustness_core.training.references import Progress, correct

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
