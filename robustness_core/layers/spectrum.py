"""What the √m law of an affine layer needs: the Frobenius norm of its matrix, r4, and lengths of differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EXACT_UP_TO = 4096  # pixels: beyond that random probes take the place of a whole basis
PROBES = 1024
_NUMBERS_AT_ONCE = 2**23  # features of a batch, 64 MB in float64


@dataclass(frozen=True)
class Spectrum:
    """Norms of the matrix L of an affine extractor f(x) = Lx + k.

    `frobenius` is ‖L‖_F, `r4` = ‖L‖_F⁴ / ‖L‖_S4⁴ (paper, Proposition 1; METHOD.md section 2), from 1 to rank(L).
    `exact`: from a whole basis; else from random probes, good to a few per cent.
    """

    frobenius: float
    r4: float
    exact: bool


def spectrum(extractor: nn.Module, shape: Sequence[int], *, exact_up_to: int = EXACT_UP_TO) -> Spectrum:
    """The spectrum of an affine extractor of images of this shape (C, H, W), without its singular values.

    ‖L‖_F² is the sum of ‖L e‖² over a basis and ‖L‖_S4⁴ = ‖LᵀL‖_F² that of ‖LᵀL e‖²: a forward and a backward pass a
    pixel, or of each of PROBES Gaussian probes g, for which both sums are expectations. In float64. Raises ValueError
    for a matrix that is all 0.
    """
    exact_extractor = copy.deepcopy(extractor).double()
    pixels = math.prod(shape)
    exact = pixels <= exact_up_to
    directions = _basis(extractor, pixels) if exact else _probes(extractor, pixels)
    squares = fourth = 0.0
    with torch.enable_grad():
        for part in directions:
            x = part.reshape(-1, *shape).requires_grad_()
            features = exact_extractor(x).flatten(1)
            with torch.no_grad():
                moved = features - exact_extractor(torch.zeros_like(x[:1])).flatten(1)
            (back,) = torch.autograd.grad(features, x, moved)
            squares += float((moved**2).sum())
            fourth += float((back**2).sum())
    if not exact:
        squares, fourth = squares / PROBES, fourth / PROBES
    if not fourth > 0:
        raise ValueError("This layer is constant: its matrix is all 0.")
    return Spectrum(math.sqrt(squares), squares**2 / fourth, exact)


def lengths(extractor: nn.Module, left: Tensor, right: Tensor) -> Tensor:
    """‖L(x − x')‖ of every pair: images (L, C, H, W) and (R, C, H, W) -> (L, R) float64 on the CPU."""
    exact_extractor = copy.deepcopy(extractor).double()
    with torch.no_grad():
        sides = [[exact_extractor(part.double()).flatten(1) for part in images.split(64)] for images in (left, right)]
        rows = [torch.cat([torch.cdist(a, b) for b in sides[1]], dim=1) for a in sides[0]]
    return torch.cat(rows).cpu()


def _basis(extractor: nn.Module, pixels: int) -> Iterator[Tensor]:
    basis = torch.eye(pixels, dtype=torch.float64, device=_device(extractor))
    yield from basis.split(_batch(extractor, pixels))


def _probes(extractor: nn.Module, pixels: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    size = _batch(extractor, pixels)
    for begin in range(0, PROBES, size):
        count = min(size, PROBES - begin)
        yield torch.randn(count, pixels, dtype=torch.float64, generator=generator).to(_device(extractor))


def _batch(extractor: nn.Module, pixels: int) -> int:
    """Images of a batch: a convolution may have some 64 features a pixel."""
    return int(min(max(_NUMBERS_AT_ONCE // (64 * pixels), 1), 256))


def _device(extractor: nn.Module) -> torch.device:
    tensors = [*extractor.parameters(), *extractor.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
