"""Least perturbations by published attacks, image by image: FAB, DDN and APGD-t, the references beside the curves.

None is the strongest on every network: compare each with the best found by any. What they find is verified here.
"""

from __future__ import annotations

import copy
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from robustness_core import layers
from robustness_core.errors import NetworkError
from robustness_core.spec.threat import NORMS
from robustness_core.training.attacks import like

# Called with the images done and the images in all.
Progress = Callable[[int, int], None]
# A network, pixels and labels of images that it classifies rightly -> adversarial candidates, (B, C, H, W).
Search = Callable[[nn.Module, Tensor, Tensor], Tensor]

FAB_STEPS = 100
DDN_STEPS = 200
APGD_STEPS = 25  # at each budget
APGD_BUDGETS = 10
APGD_TARGETS = 9  # as many of the other classes as AutoAttack targets
_HALVINGS = 10  # between an image and an adversarial one
_LARGEST_MARGIN = 20.0  # of logits, in nats: the squares of exp(-43) are 0 in float32, and so is the gradient's norm


@dataclass(frozen=True)
class Boundary:
    """An attack's result. `norms`: (N,) float64, the least perturbation in the `norm` found that changes the answer: 0
    where the answer is wrong already, inf where none was found. `adversarial`: (N, C, H, W) in [0, 1], the images that
    it leads to, the image itself where it leads to none. `settings`: in words, with the library and its version.
    `passes`: forward and backward passes through the network, a mean over the images that were attacked."""

    norms: npt.NDArray[np.float64]
    adversarial: Tensor
    norm: str
    settings: str
    passes: float

    def accuracies(self, epsilons: Sequence[float]) -> list[float]:
        """Share of images whose least perturbation is longer than each budget, 0 to 1."""
        return [float((self.norms > epsilon).mean()) for epsilon in epsilons]


def correct(network: nn.Module, pixels: Tensor, labels: Tensor, *, batch: int = 256) -> Tensor:
    """Which images are classified rightly, (N,) bool; pixels (N, C, H, W) float32 in [0, 1], labels (N,) int64."""
    with torch.no_grad():
        parts = [network(part).argmax(1) for part in torch.split(pixels, batch)]
    return torch.cat(parts) == labels if len(labels) else torch.zeros(0, dtype=torch.bool)


def fab(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = FAB_STEPS,
    seed: int = 0,
    batch: int = 100,
    progress: Progress | None = None,
) -> Boundary:
    """Projections on the linearised boundary (Croce & Hein 2020, pyautoattack, no restart).

    Cost: steps · (2 forward passes and one backward pass a class).
    """
    from pyautoattack.fab_pt import FABAttack_PT  # imported here: only this function needs it

    def search(network: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
        # Its `eps` cuts off larger perturbations; none can be longer than the diagonal of the pixel box.
        longest, theirs = _longest(images, norm), _AUTOATTACK[norm]
        attack = FABAttack_PT(network, theirs, n_restarts=1, n_iter=steps, eps=longest, seed=seed, device=images.device)
        found: Tensor = attack.perturb(images, truth)
        return found

    settings = f"{steps} steps, no restart; pyautoattack {version('pyautoattack')}"
    return _attacked(search, network, pixels, labels, norm, settings, seed, batch, progress)


def ddn(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = DDN_STEPS,
    seed: int = 0,
    batch: int = 100,
    progress: Progress | None = None,
) -> Boundary:
    """Gradient steps on a sphere that shrinks by 5 % where the answer is wrong, else grows (Rony et al. 2019, foolbox).

    Differs: logits are divided by one number a batch, so that no margin is so large that the gradient of the
    cross-entropy vanishes in float32; with two classes that changes no direction. ℓ2 only.
    Cost: steps forward and backward passes.
    """
    foolbox = _foolbox()

    def search(network: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
        with torch.no_grad():
            answers = network(images)
        margin = float((answers.amax(1) - answers.amin(1)).max())
        tempered = _Tempered(network, max(1.0, margin / _LARGEST_MARGIN)).eval()
        model = foolbox.PyTorchModel(tempered, bounds=(0.0, 1.0), device=images.device)
        found: Tensor = foolbox.attacks.DDNAttack(steps=steps).run(model, images, foolbox.Misclassification(truth))
        return found

    settings = f"{steps} steps, first norm 1, factor 1.05; foolbox {version('foolbox')}"
    return _attacked(search, network, pixels, labels, norm, settings, seed, batch, progress)


def apgd(
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    *,
    norm: str = "l2",
    steps: int = APGD_STEPS,
    budgets: int = APGD_BUDGETS,
    targets: int = APGD_TARGETS,
    seed: int = 0,
    batch: int = 100,
    progress: Progress | None = None,
) -> Boundary:
    """APGD-t (Croce & Hein 2020, pyautoattack), an attack within a budget, at `budgets` budgets of each image's own.

    The first budget is the distance to the linearised boundary, the next are twice the last until one suffices, then
    the geometric means of the largest that did not and the least that did. Where a budget suffices, the segment from
    the image to what was found is halved ten times, and the point nearest to the image that is still wrong is taken.
    Every walk of `steps` steps starts from the nearest adversarial image so far, drawn into the ball, else at random.
    At each budget up to `targets` other classes are tried, likeliest first, until one suffices. The loss is the
    targeted DLR, a margin over a scale; it needs four classes, and with fewer it is the margin.
    Cost: at most budgets · targets · (steps + 1 forward and backward passes, 12 forward passes).
    """

    def search(network: nn.Module, images: Tensor, truth: Tensor) -> Tensor:
        return _apgd_over_budgets(network, images, truth, norm, steps, budgets, targets)

    settings = f"{budgets} budgets an image, {steps} steps each; pyautoattack {version('pyautoattack')}"
    return _attacked(search, network, pixels, labels, norm, settings, seed, batch, progress)


# Norm -> the attacks that find least perturbations in it.
REFERENCES: dict[str, dict[str, Callable[..., Boundary]]] = {
    "l2": {"FAB": fab, "DDN": ddn, "APGD-t": apgd},
    "linf": {"FAB": fab, "APGD-t": apgd},
}
_AUTOATTACK = {"l2": "L2", "linf": "Linf"}


def losses_along(
    network: nn.Module, pixels: Tensor, labels: Tensor, boundary: Boundary, epsilons: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Cross-entropy (E, N), in nats, where each image is moved by each budget along the attack's direction (Figure 5).

    Past the boundary the walk goes on, so the loss can exceed log 2; images that the attack left alone stay where they
    are. Moved images are cut to [0, 1].
    """
    move = boundary.adversarial - pixels
    direction = _unit(move, boundary.norm)
    with torch.no_grad():
        losses = [
            functional.cross_entropy(network((pixels + epsilon * direction).clamp(0.0, 1.0)), labels, reduction="none")
            for epsilon in epsilons
        ]
    return torch.stack(losses).double().numpy()


def before_softmax(network: nn.Module, pixels: Tensor) -> nn.Module:
    """The network up to the logits if it ends in a softmax, where gradients vanish; else the network itself.

    It is taken only where it answers the `pixels` (N, C, H, W) as the whole network does.
    """
    shape = tuple(pixels.shape[1:])
    try:
        last = layers.cuts(network, shape)[-1].name
        logits = layers.extractor(network, "logits", shape) if last.startswith("softmax") else network
    except NetworkError:
        return network
    with torch.no_grad():
        same = torch.equal(logits(pixels).argmax(1), network(pixels).argmax(1))
    return logits if same else network


def remark(network: nn.Module, pixels: Tensor, labels: Tensor) -> str:
    """Why the attacks may say little of these images, as one sentence; empty where nothing speaks against them."""
    right = correct(network, pixels, labels).nonzero().flatten()
    if len(right) == 0:
        return "The network errs on every image without any attack, so that there is nothing to attack."
    flat = sum(
        int((_slope(network, pixels[part], labels[part])[1].flatten(1) == 0).all(1).sum())
        for part in torch.split(right, 100)
    )
    if flat == 0:
        return ""
    return (
        f"At {flat} of the {len(right)} images that the network classifies rightly its gradient is exactly zero: "
        "attacks that follow it find little there, which shows no robustness."
    )


def size(perturbation: Tensor, norm: str) -> Tensor:
    """The norm of each image in float64, (B, ...) -> (B,)."""
    found: Tensor = torch.linalg.vector_norm(perturbation.double().flatten(1), ord=NORMS[norm], dim=1)
    return found


def _unit(direction: Tensor, norm: str) -> Tensor:
    """Each image scaled to norm 1; an all-zero image stays zero."""
    return direction / like(size(direction, norm).clamp_min(1e-30), direction).float()


def _attacked(
    search: Search,
    network: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    norm: str,
    settings: str,
    seed: int,
    batch: int,
    progress: Progress | None,
) -> Boundary:
    """Run a search on the images that are right, in batches, and keep of what it finds what is verified."""
    frozen = copy.deepcopy(network).eval().requires_grad_(False)  # the libraries would fill the weights' gradients
    counted = _Counted(frozen).eval()
    right = correct(frozen, pixels, labels)
    adversarial = pixels.clone()
    with torch.random.fork_rng(devices=[]):  # the libraries seed and use torch's global generator
        torch.manual_seed(seed)
        for members in torch.split(right.nonzero().flatten(), batch):
            if len(members):
                adversarial[members] = search(counted, pixels[members], labels[members]).detach()
            if progress is not None and len(members):
                progress(int(members[-1]) + 1, len(labels))
    wrong = ~correct(frozen, adversarial, labels)
    valid = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)  # not of NaN
    fooled = right & wrong & valid
    adversarial = torch.where(like(fooled, pixels), adversarial, pixels)
    found = torch.where(fooled, size(adversarial - pixels.double(), norm), torch.inf)
    norms = torch.where(right, found, 0.0).numpy()
    return Boundary(norms, adversarial, norm, settings, round(counted.passes / max(1, int(right.sum())), 1))


class _Counted(nn.Module):
    """A network that counts the images that pass through it, forward and backward."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.passes = 0

    def forward(self, pixels: Tensor) -> Tensor:
        answers: Tensor = self.network(pixels)
        self.passes += len(pixels)
        if pixels.requires_grad and not answers.requires_grad:  # a constant, of which the libraries want a gradient
            answers = answers + 0 * pixels.flatten(1).sum(1, keepdim=True)
        if answers.requires_grad:
            answers.register_hook(self._backward)
        return answers

    def _backward(self, gradient: Tensor) -> None:
        self.passes += len(gradient)


class _Tempered(nn.Module):
    """A network whose logits are divided by a number."""

    def __init__(self, network: nn.Module, temperature: float):
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels)
        return logits / self.temperature


def _foolbox() -> Any:
    """foolbox, of which `import foolbox` also loads what is not used here: its model zoo wants a git, which need not
    be there, and its blur attack an old name of SciPy's."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import foolbox
    return foolbox


def _slope(network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """How far the likeliest other class is behind the true one, (B,), and the gradient of that, (B, C, H, W)."""
    images = pixels.clone().requires_grad_()
    with torch.enable_grad():
        logits = network(images)
        others = logits.scatter(1, labels[:, None], -torch.inf)
        behind = logits.gather(1, labels[:, None]).squeeze(1) - others.amax(1)
        if not behind.requires_grad:  # a constant
            return behind, torch.zeros_like(pixels)
        (gradient,) = torch.autograd.grad(behind.sum(), images, allow_unused=True)
    return behind.detach(), torch.zeros_like(pixels) if gradient is None else gradient


def _apgd_over_budgets(
    network: nn.Module, images: Tensor, labels: Tensor, norm: str, steps: int, budgets: int, targets: int
) -> Tensor:
    """What `apgd` says, of images that are right: the nearest adversarial ones, an image itself where none is found."""
    attack = _apgd_attack(network, norm, steps)
    attack.init_hyperparam(images)
    with torch.no_grad():
        order = network(images).scatter(1, labels[:, None], -torch.inf).argsort(1, descending=True)
    targets = min(targets, order.shape[1] - 1)
    behind, gradient = _slope(network, images, labels)
    steepest = torch.linalg.vector_norm(gradient.flatten(1), ord={"l2": 2, "linf": 1}[norm], dim=1)
    longest = _longest(images, norm)
    budget = (behind / steepest.clamp_min(1e-30)).clamp(1e-6 * longest, longest / 4)
    most, least = torch.zeros_like(budget), torch.full_like(budget, torch.inf)  # that failed, that sufficed
    best = images.clone()
    for _ in range(budgets):
        noise = torch.randn_like(images) if norm == "l2" else 2 * torch.rand_like(images) - 1
        towards = torch.where(like(least.isinf(), images), noise, best - images)
        start = images + like(budget, images) * _unit(towards, norm)
        fooled = torch.zeros_like(labels, dtype=torch.bool)
        found = images.clone()
        for rank in range(targets):
            left = (~fooled).nonzero().flatten()
            if len(left) == 0:
                break
            attack.eps, attack.y_target = like(budget[left], images), order[left, rank]
            reached = attack.attack_single_run(images[left], labels[left], x_init=start[left])[3].detach()
            found[left] = _pulled_back(network, images[left], reached, labels[left])
            fooled[left] = ~correct(network, found[left], labels[left])
        norms = size(found - images, norm).float()
        nearer = fooled & (norms < least)
        best = torch.where(like(nearer, images), found, best)
        least = torch.where(nearer, norms, least)
        most = torch.where(fooled, most, torch.maximum(most, budget))
        # A budget that failed is no proof: where a smaller one sufficed since, the next is 0.9 of that.
        between = (torch.where(most < least, torch.maximum(most, least / 4), 0.81 * least) * least).sqrt()
        budget = torch.where(least.isinf(), 2 * budget, between).clamp(1e-6 * longest, longest)
    return best


def _apgd_attack(network: nn.Module, norm: str, steps: int) -> Any:
    """pyautoattack's APGD-t, whose loss is the margin where its own needs more classes than there are."""
    from pyautoattack.autopgd_base import APGDAttack_targeted

    class Targeted(APGDAttack_targeted):  # type: ignore[misc]  # the library has no types
        def dlr_loss_targeted(self, logits: Tensor, labels: Tensor) -> Tensor:
            if logits.shape[1] > 3:
                loss: Tensor = super().dlr_loss_targeted(logits, labels)
                return loss
            rows = torch.arange(len(logits))
            return logits[rows, self.y_target] - logits[rows, labels]

    silent = logging.Logger("apgd", logging.CRITICAL)  # `remark` says where gradients vanish
    return Targeted(network, n_iter=steps, norm=_AUTOATTACK[norm], eps=1.0, logger=silent)


def _pulled_back(network: nn.Module, images: Tensor, reached: Tensor, labels: Tensor) -> Tensor:
    """The points nearest to the images that halving the segment to what was reached finds wrong, as `reached` is."""
    near, far = torch.zeros(len(images)), torch.ones(len(images))
    nearest = reached
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        points = (images + like(middle, images) * (reached - images)).clamp(0.0, 1.0)
        wrong = ~correct(network, points, labels)
        nearest = torch.where(like(wrong, images), points, nearest)
        near, far = torch.where(wrong, near, middle), torch.where(wrong, middle, far)
    return nearest


def _longest(images: Tensor, norm: str) -> float:
    """The diagonal of the pixel box: no perturbation within it is longer."""
    return 1.0 if norm == "linf" else float(images[0].numel()) ** 0.5
