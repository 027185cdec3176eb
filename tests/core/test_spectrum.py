"""The spectrum of affine layers against singular values, and lengths against the matrix itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustness_core import theory
from robustness_core.layers import extractor
from robustness_core.layers.spectrum import lengths, spectrum
from robustness_core.networks import build

SHAPE = (2, 6, 6)


def first_layer() -> tuple[torch.nn.Module, np.ndarray]:
    """A convolution with bias behind a normalisation, and its matrix column by column."""
    torch.manual_seed(3)
    text = "conv 5 3x3/2, relu, flatten, fc 3"
    layer = extractor(build(text, SHAPE, classes=3, mean=(0.2, 0.4), std=(0.5, 0.3)), "conv1.pre")
    exact = extractor(build(text, SHAPE, classes=3, mean=(0.2, 0.4), std=(0.5, 0.3)), "conv1.pre")
    exact.load_state_dict(layer.state_dict())
    exact = exact.double()
    eye = torch.eye(72, dtype=torch.float64).reshape(72, *SHAPE)
    with torch.no_grad():
        columns = exact(eye).flatten(1) - exact(torch.zeros_like(eye[:1])).flatten(1)
    return layer, columns.T.numpy()


def test_frobenius_norm_and_r4_are_those_of_the_singular_values() -> None:
    layer, matrix = first_layer()
    found = spectrum(layer, SHAPE)
    sigma = np.linalg.svd(matrix, compute_uv=False)
    assert found.exact
    assert found.frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-9)
    assert found.r4 == pytest.approx(theory.r4(sigma), rel=1e-9)


def test_identity_has_the_rank_of_the_pixels() -> None:
    found = spectrum(torch.nn.Flatten(), SHAPE)
    assert found.frobenius == pytest.approx(np.sqrt(72), rel=1e-12)
    assert found.r4 == pytest.approx(72, rel=1e-12)


def test_probes_come_close_where_a_basis_is_too_large() -> None:
    layer, matrix = first_layer()
    found = spectrum(layer, SHAPE, exact_up_to=10)
    assert not found.exact
    sigma = np.linalg.svd(matrix, compute_uv=False)
    # each sum of 1024 probes strays by about sqrt(2 / (1024 r4)), here r4 is above 10
    assert found.frobenius == pytest.approx(np.linalg.norm(matrix), rel=0.03)
    assert found.r4 == pytest.approx(theory.r4(sigma), rel=0.06)


def test_lengths_are_those_of_the_matrix() -> None:
    layer, matrix = first_layer()
    generator = torch.Generator().manual_seed(1)
    left, right = torch.rand(70, *SHAPE, generator=generator), torch.rand(3, *SHAPE, generator=generator)
    differences = (left[:, None] - right[None]).flatten(2).double().numpy()
    truth = np.linalg.norm(differences @ matrix.T, axis=2)
    np.testing.assert_allclose(lengths(layer, left, right).numpy(), truth, rtol=1e-6)  # cdist subtracts squares


def test_constant_layer_is_refused() -> None:
    layer = torch.nn.Linear(72, 3)
    torch.nn.init.zeros_(layer.weight)
    with pytest.raises(ValueError, match="constant"):
        spectrum(torch.nn.Sequential(torch.nn.Flatten(), layer), SHAPE)
