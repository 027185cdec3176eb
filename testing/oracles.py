"""Exact answers that the searches are held against, each computed in a way of its own."""

import itertools
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Floats = npt.NDArray[np.float64]
cvxpy: Any = import_module("cvxpy")  # it has no types


def affine_distance(H: Floats, difference: Floats) -> float:
    """1/2 ||V V^T (x - x')|| with V an orthonormal basis of the row space of H (METHOD.md section 2)."""
    _, sigma, Vt = np.linalg.svd(H, full_matrices=False)
    V = Vt[sigma > 1e-10 * sigma[0]]
    return float(np.linalg.norm(V @ difference) / 2)


def program_distance(H: Floats, x: Floats, y: Floats, order: float = 2.0, box: bool = False) -> float:
    """The distance of two points under x -> Hx in an ℓ_p norm, with `box` among points of [0, 1], by a solver.

    Clarabel for ℓ2, a cone program; HiGHS for ℓ∞, a linear one.
    """
    u, v = cvxpy.Variable(len(x)), cvxpy.Variable(len(y))
    apart = H @ (u - v) / np.abs(H).max() == 0
    within = [u >= 0, u <= 1, v >= 0, v <= 1] if box else []
    far = cvxpy.maximum(cvxpy.norm(u - x, order), cvxpy.norm(v - y, order))
    problem = cvxpy.Problem(cvxpy.Minimize(far), [apart, *within])
    return float(problem.solve(solver=cvxpy.CLARABEL if order == 2 else cvxpy.HIGHS))


def tiny_relu(generator: torch.Generator, n0: int = 4, hidden: int = 4, m: int = 2) -> nn.Sequential:
    """x -> A relu(H x + k) with standard normal entries: the smallest network with local minima."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(n0, hidden), nn.ReLU(), nn.Linear(hidden, m, bias=False))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network.eval()


def tiny_relu_distance(network: nn.Sequential, x: Floats, y: Floats, order: float = 2.0) -> float:
    """The true distance of two points under `tiny_relu` in an ℓ_p norm: one cone program for each pair of patterns.

    In a pair of activation patterns the collision constraint is linear, so min max(||u - x||, ||v - y||) is a cone
    program; the least of all pairs is exact up to the solver's 1e-8. Pairs that cannot beat the best so far are left
    out: moving x into a pattern alone costs at least its distance to that cell.
    """
    H, k, A = (p.detach().double().numpy() for p in network.parameters())
    patterns = [np.array(p, dtype=float) for p in itertools.product((0, 1), repeat=len(k))]
    to_x, to_y = (
        sorted((_distance_to_cell(H, k, p, point, order), i) for i, p in enumerate(patterns)) for point in (x, y)
    )
    best = float(np.linalg.norm(x - y, order) / 2)
    for near, i in to_x:
        for also, j in to_y:
            if max(near, also) < best:
                best = min(best, _collision_in(H, k, A, patterns[i], patterns[j], x, y, order))
    return best


def _cell(H: Floats, k: Floats, pattern: Floats, point: Any) -> Any:
    return cvxpy.multiply(2 * pattern - 1, H @ point + k) >= 0


def _distance_to_cell(H: Floats, k: Floats, pattern: Floats, point: Floats, order: float) -> float:
    u = cvxpy.Variable(len(point))
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(u - point, order)), [_cell(H, k, pattern, u)])
    problem.solve(solver=cvxpy.CLARABEL)
    return float(problem.value) if problem.status == "optimal" else np.inf


def _collision_in(H: Floats, k: Floats, A: Floats, p: Floats, q: Floats, x: Floats, y: Floats, order: float) -> float:
    u, v = cvxpy.Variable(len(x)), cvxpy.Variable(len(y))
    meet = (A * p) @ (H @ u + k) == (A * q) @ (H @ v + k)
    far = cvxpy.maximum(cvxpy.norm(u - x, order), cvxpy.norm(v - y, order))
    problem = cvxpy.Problem(cvxpy.Minimize(far), [meet, _cell(H, k, p, u), _cell(H, k, q, v)])
    problem.solve(solver=cvxpy.CLARABEL)
    return float(problem.value) if problem.status in ("optimal", "optimal_inaccurate") else np.inf


def grid_distance(f: nn.Module, x: Floats, y: Floats, radius: float, steps: int = 401) -> float:
    """The distance of two points under f: R^2 -> R^1, from all points of two grids (Figure 2 of the paper).

    Two discs of radius r meet in feature space when the intervals of f over them do, f being continuous. The interval
    of each disc is read off the grid, so the answer is right to about one grid step.
    """
    axis = torch.linspace(-radius, radius, steps, dtype=torch.float64)
    offsets = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    norms = offsets.norm(dim=1)
    order = norms.argsort()
    with torch.no_grad():
        near, far = (f((torch.from_numpy(p) + offsets[order]).view(-1, 1, 1, 2)).flatten() for p in (x, y))
    lows, highs = [torch.cummin(v, 0).values for v in (near, far)], [torch.cummax(v, 0).values for v in (near, far)]
    meet = (lows[0] <= highs[1]) & (lows[1] <= highs[0])
    return float(norms[order][meet.to(torch.int8).argmax()]) if meet.any() else np.inf
