"""The exact collision of an affine extractor where there is no closed form: ℓ∞, and ℓ2 with images kept in [0, 1].

With orthonormal rows V of what the extractor sees, (r, n), the perturbations of both images, (B, 2n), are to satisfy
(V, -V) δ = -V (x - x'). The midpoint, δ = ∓(x - x') / 2, always does, and lies in the box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from robustness_core.collision.geometry import EXACT_RANK_TOLERANCE, rows_where
from robustness_core.collision.threat import shortest, whitened

ITERATIONS = 60  # of the interior point method; 15 to 25 are usual
GAP = 1e-8  # relative, at which a pair has converged
SHARES = 30  # halvings of the weight between both images
BALANCED = 1e-7  # of the norms: so alike, they count as equal
_RIDGE = 1e-14  # of a system's largest entry: at the optimum it may be singular
_INSIDE = 0.9  # of the way from the middle of the bounds to one of them, where the method may start
_SHORT = 0.99  # of the way to the nearest bound


def least_max(A: Tensor, b: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The δ, (B, K) float64, of least ‖δ‖∞ with A δ = b and low <= δ <= high, one linear program a pair.

    `A` (m, K) with orthogonal rows serves all pairs; `b` (B, m); `low` < `high`, (B, K). Mehrotra's predictor-corrector
    interior point method on min t, |δ| <= t, batched: each step solves an m × m system a pair. Pairs that have
    converged are left alone: at the optimum their systems are singular. The relative gap is at most GAP.
    """
    middle, room = (low + high) / 2, _INSIDE * (high - low) / 2
    delta = middle + ((b - middle @ A.mT) / A.square().sum(dim=1)) @ A  # the nearest that satisfies the equations
    delta = middle + torch.maximum(torch.minimum(delta - middle, room), -room)
    t = 2 * delta.abs().amax(dim=1, keepdim=True)
    count = 4 * delta.shape[1]
    multipliers = torch.zeros_like(b)
    dual = torch.full((4, *delta.shape), 2 / count, dtype=b.dtype, device=b.device)
    rows, apart = torch.arange(len(b), device=b.device), b.norm(dim=1).clamp_min(torch.finfo(b.dtype).tiny)
    for _ in range(ITERATIONS):
        at = _At(A, b[rows] - delta[rows] @ A.mT, multipliers[rows], dual[:, rows], _slack(delta, t, low, high, rows))
        mu = (at.slack * at.dual).sum(dim=(0, 2)) / count
        open_ = (count * mu > GAP * t[rows, 0]) | (at.missing.norm(dim=1) > GAP * apart[rows])
        if not open_.any():
            break
        if not open_.all():
            rows = rows[rows_where(open_)]
            continue
        *_, ds, dz = at.direction(torch.zeros_like(at.slack))
        ahead = (at.slack + _reach(at.slack, ds) * ds) * (at.dual + _reach(at.dual, dz) * dz)
        centre = (ahead.sum(dim=(0, 2)) / count / mu).clamp(0, 1) ** 3 * mu
        dw, dt, step, ds, dz = at.direction(centre[:, None] - ds * dz)
        finite = (torch.isfinite(dw).all(dim=1) & torch.isfinite(dz).all(dim=2).all(dim=0)).unsqueeze(1)
        primal = torch.where(finite, _SHORT * _reach(at.slack, ds), 0)
        other = torch.where(finite, _SHORT * _reach(at.dual, dz), 0)
        delta[rows] += primal * dw.nan_to_num()
        t[rows] += primal * dt.nan_to_num()
        multipliers[rows] += other * step.nan_to_num()
        dual[:, rows] += other * dz.nan_to_num()
    return delta


def _slack(delta: Tensor, t: Tensor, low: Tensor, high: Tensor, rows: Tensor) -> Tensor:
    """How far δ is from each bound, (4, B, K): t - δ, t + δ, δ - low, high - δ."""
    delta, t = delta[rows], t[rows]
    return torch.stack([t - delta, t + delta, delta - low[rows], high[rows] - delta])


class _At:
    """Newton's method for the optimality conditions at one point, its m × m systems factored once."""

    def __init__(self, A: Tensor, missing: Tensor, multipliers: Tensor, dual: Tensor, slack: Tensor):
        self.A, self.missing, self.dual, self.slack = A, missing, dual, slack
        self._open = dual[0] - dual[1] - dual[2] + dual[3] - multipliers @ A
        self._open_top = 1 - dual[:2].sum(dim=(0, 2)).unsqueeze(1)
        self._q = q = dual / slack
        self._inverse = 1 / q.sum(dim=0)
        self._tilt = q[1] - q[0]
        M = (A * self._inverse.unsqueeze(1)) @ A.mT
        self._a = (self._tilt * self._inverse) @ A.mT
        # q0 + q1 - tilt² / Σ q, without the difference of large numbers.
        tau = (4 * q[0] * q[1] + (q[0] + q[1]) * (q[2] + q[3])) * self._inverse
        self._tau = tau.sum(dim=1, keepdim=True)
        M = M + self._a.unsqueeze(2) * self._a.unsqueeze(1) / self._tau.unsqueeze(2)
        ridge = _RIDGE * M.diagonal(dim1=1, dim2=2).amax(dim=1)
        self._factor = torch.linalg.cholesky_ex(M + ridge[:, None, None] * torch.eye(len(A)).to(M)).L

    def direction(self, centre: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Steps of δ, t, the multipliers, slack and dual, towards slack × dual = `centre`, (4, B, K)."""
        c = centre / self.slack - self.dual
        h = self._open + c[0] - c[1] - c[2] + c[3]
        first = self.missing + (self._inverse * h) @ self.A.mT
        second = c[:2].sum(dim=(0, 2)).unsqueeze(1) - self._open_top
        second = second + (self._tilt * self._inverse * h).sum(dim=1, keepdim=True)
        step = torch.cholesky_solve((first + self._a * second / self._tau).unsqueeze(2), self._factor).squeeze(2)
        dt = (second - (self._a * step).sum(dim=1, keepdim=True)) / self._tau
        dw = self._inverse * (step @ self.A - self._tilt * dt - h)
        ds = torch.stack([dt - dw, dt + dw, dw, -dw])
        return dw, dt, step, ds, c - self._q * ds


def _reach(positive: Tensor, step: Tensor) -> Tensor:
    """The longest share of `step`, (4, B, K), at most 1 / _SHORT, that leaves all of a pair at 0 or more: (B, 1)."""
    share = torch.where(step < 0, -positive / step, torch.inf)
    return share.amin(dim=(0, 2)).clamp_max(1 / _SHORT).unsqueeze(1)


def least_larger(A: Tensor, b: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The δ = (u, v), (B, 2n) float64, of least max(‖u‖, ‖v‖) with A δ = b and low <= δ <= high, a cone program a pair.

    `A` (m, 2n); `b` (B, m); bounds (B, 2n). For a weight a, the least a ‖u‖² + (1 - a) ‖v‖² is `shortest` of scaled
    variables, and concave in a with the slope ‖u‖² - ‖v‖²: the weight that makes both alike, by bisection, gives the
    answer, or an end of the weights where one image has the larger norm whatever is done.
    """
    count, n = len(b), low.shape[1] // 2
    below, above = b.new_zeros(count), b.new_ones(count)
    best, value = torch.zeros_like(low), b.new_full((count,), torch.inf)
    rows = torch.arange(count, device=b.device)
    for _ in range(SHARES):
        weight = ((below + above) / 2)[rows]
        root = torch.stack([weight, 1 - weight], dim=1).sqrt().repeat_interleave(n, dim=1)
        J = A / root.unsqueeze(1)
        exactly = whitened(J, -b[rows], EXACT_RANK_TOLERANCE)
        found, _ = shortest(*exactly, root * low[rows], root * high[rows], steps=60)
        found = (found / root).clamp(low[rows], high[rows])
        u, v = found[:, :n].norm(dim=1), found[:, n:].norm(dim=1)
        larger = torch.maximum(u, v)
        closer = larger < value[rows]
        best[rows[closer]], value[rows[closer]] = found[closer], larger[closer]
        below[rows], above[rows] = torch.where(u > v, weight, below[rows]), torch.where(u > v, above[rows], weight)
        rows = rows[rows_where((u - v).abs() > BALANCED * larger)]
        if len(rows) == 0:
            break
    return best
