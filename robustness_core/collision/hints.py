"""What single images foretell of the distances of their pairs: first-order guesses that cost no pass a pair."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from robustness_core.collision.constraint import Constraint
from robustness_core.collision.memory import pairs_within
from robustness_core.spec import PAPERS, Threat

MOST_ROWS = 32  # of an extractor whose hints are asked; wider ones are read through so many mixtures
_RIDGE = 1e-6  # of the mean eigenvalue of a Gram matrix: directions that no perturbation moves
_LEAST = 1e-12  # features that already meet are taken to be so far apart, since logarithms follow


def hints(extractor: nn.Module, left: Tensor, right: Tensor, threat: Threat = PAPERS) -> npt.NDArray[np.float64]:
    """Logarithms of three numbers a pair that grow with its distance: (3, L, R).

    `extractor`: (B, C, H, W) -> (B, ...) of m <= MOST_ROWS features. `left` (L, C, H, W), `right` (R, C, H, W): all
    images of both classes, floats in [0, 1]; of more classes both are one tensor, looked at once.

    With D = A f(x) - A f(x'), and G, G' the Gram matrices J J^T of the Jacobians at x and x': the linearisation with
    the mean of both, (D^T (G + G')^-1 D / 2)^(1/2), which is the distance where the extractor is affine; the geometric
    mean of the linearisations with G and with G' alone; and ||D||. For ℓ∞ the first is scaled to the mean of λ·D /
    (||J^T λ||_1 + ||J'^T λ||_1), λ = (G + G')^-1 D, which is of the size of those distances but orders pairs less well
    (rank correlation .95 against .97 at conv4, .69 against .83 at the logits of mnist-medium-pgd2). None is a bound. A
    regression on the distances that were found makes a guess of them (engine.guess). Cost: 1 + m passes of each image
    once, that of a few searches for the whole matrix. A Jacobian at the midpoint of every pair foretells less at
    convolutions and costs a twelfth of a search a pair (benchmarks/RESULTS.md).
    """
    f, G, J = ends = _ends(extractor, left)
    g, H, K = ends if right is left else _ends(extractor, right)
    values, in_linf = np.empty((3, len(f), len(g))), np.empty((len(f), len(g)))
    inverse = np.linalg.inv(H)
    for row in range(len(f)):
        apart = f[row] - g
        mine = ((apart @ np.linalg.inv(G[row])) * apart).sum(axis=1)
        theirs = np.einsum("rm,rmk,rk->r", apart, inverse, apart)
        multipliers = np.linalg.solve(G[row] + H, apart[..., None])[..., 0]
        both = np.einsum("rm,rm->r", apart, multipliers)
        values[0, row] = both / 2
        values[1, row] = np.sqrt(np.maximum(mine * theirs, 0.0)) / 4
        values[2, row] = (apart**2).sum(axis=1)
        if threat.norm != "l2":
            pull = np.abs(multipliers @ J[row]).sum(axis=1) + np.abs((multipliers[:, None] @ K)[:, 0]).sum(axis=1)
            in_linf[row] = both / np.maximum(pull, np.finfo(float).tiny)
    logarithms: npt.NDArray[np.float64] = np.log(np.maximum(np.sqrt(np.maximum(values, 0.0)), _LEAST))
    if threat.norm != "l2":
        logarithms[0] += np.log(np.maximum(in_linf, _LEAST)).mean() - logarithms[0].mean()
    return logarithms


def _ends(extractor: nn.Module, images: Tensor) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Features (K, m) at each image, the Gram matrix J J^T (K, m, m) of the Jacobian there, and that, (K, m, n)."""
    extractor = copy.deepcopy(extractor).eval().float()
    size = 2 * pairs_within(extractor, images[:1])
    features, grams, jacobians = [], [], []
    for part in images.split(size):
        points = part.flatten(1).unsqueeze(1).expand(-1, 2, -1)
        constraint = Constraint(extractor, tuple(part.shape[1:]), points)
        rows = torch.arange(len(part), device=part.device)
        J = constraint.jacobian_at_midpoint(points, rows)[:, :, : points.shape[2]]
        jacobians.append(J.cpu().numpy())
        gram = torch.einsum("bmn,bkn->bmk", J, J).double().cpu().numpy()
        features.append(constraint.features(points, rows)[:, 0].double().cpu().numpy())
        size_of = np.trace(gram, axis1=1, axis2=2)[:, None, None] / gram.shape[1]
        grams.append(gram + (_RIDGE * size_of + np.finfo(np.float64).tiny) * np.eye(gram.shape[1]))
    return np.concatenate(features), np.concatenate(grams), np.concatenate(jacobians)
