"""Cosine and wavelet transforms against their closed forms, their inverses and energy."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from space.ops import transforms as tr

ODD_AND_EVEN = [1, 2, 3, 4, 5, 8, 63, 100]


def rand(*size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def same(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


def cosine_matrix(n: int) -> Tensor:
    k, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * k * (2 * j + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


@pytest.mark.parametrize("n", ODD_AND_EVEN)
def test_dct_is_the_orthonormal_cosine_matrix(n) -> None:
    x, matrix = rand(3, n, 2), cosine_matrix(n)
    same(matrix @ matrix.T, torch.eye(n, dtype=torch.float64))
    same(tr.dct(x, 1), matrix @ x)
    same(tr.inverse_dct(x, 1), matrix.T @ x)
    same(tr.dct(x.mT), (matrix @ x).mT)


@pytest.mark.parametrize("n", ODD_AND_EVEN)
def test_dct_round_trip_keeps_energy(n) -> None:
    x = rand(4, n)
    same(tr.inverse_dct(tr.dct(x)), x)
    same(tr.dct(x).square().sum(), x.square().sum())


@pytest.mark.parametrize("n", [5, 8])
def test_dct_gradient(n) -> None:
    x = rand(2, n).requires_grad_()
    assert torch.autograd.gradcheck(tr.dct, (x,))
    assert torch.autograd.gradcheck(tr.inverse_dct, (x,))


def test_resampling_keeps_a_constant_and_the_low_coefficients() -> None:
    same(tr.dct_resample(torch.ones(2, 9, 3, dtype=torch.float64), 4, 1), torch.ones(2, 4, 3, dtype=torch.float64))
    x = rand(2, 9, 3)
    assert tr.dct_resample(x, 9, 1) is x
    same(tr.dct(tr.dct_resample(x, 4, 1), 1), tr.dct(x, 1)[:, :4] * math.sqrt(4 / 9))


@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_haar(axis) -> None:
    x = rand(3, 6, 8)
    low, high = tr.haar(x, axis)
    even, odd = (
        x.transpose(axis, -1)[..., ::2].transpose(axis, -1),
        x.transpose(axis, -1)[..., 1::2].transpose(axis, -1),
    )
    same(low, (even + odd) / math.sqrt(2))
    same(high, (even - odd) / math.sqrt(2))
    same(tr.inverse_haar(low, high, axis), x)
    same(low.square().sum() + high.square().sum(), x.square().sum())


def test_haar_2d_of_a_plane_and_its_inverse() -> None:
    x = rand(2, 3, 6, 4)
    bands = tr.haar_2d(x)
    assert [b.shape for b in bands] == [(2, 3, 3, 2)] * 4
    same(bands[0], x.unflatten(3, (2, 2)).unflatten(2, (3, 2)).sum((3, 5)) / 2)
    same(tr.inverse_haar_2d(bands), x)
    rows_only = torch.arange(6.0, dtype=torch.float64)[:, None].expand(1, 1, 6, 4)
    assert [b.abs().max().item() > 0 for b in tr.haar_2d(rows_only)] == [True, False, True, False]
    moved = x.movedim(1, 3)
    same(tr.inverse_haar_2d(tr.haar_2d(moved, 1, 2), 1, 2), moved)


@pytest.mark.parametrize("size", [(4, 4), (6, 4), (10, 14)])
def test_dual_tree_inverts(size) -> None:
    x = rand(2, 3, *size)
    low, real, imaginary = tr.dual_tree(x)
    assert low.shape == x.shape
    assert real.shape == imaginary.shape == (2, 3, 6, size[0] // 2, size[1] // 2)
    same(tr.inverse_dual_tree(low, real, imaginary), x)


def test_dual_tree_filters_reconstruct() -> None:
    low, dual = torch.tensor(tr.DUAL_TREE_LOW).double(), torch.tensor(tr.DUAL_TREE_DUAL).double()
    sign = torch.tensor([(-1.0) ** (i - 3) for i in range(7)]).double()

    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.nn.functional.conv1d(a.view(1, 1, -1), b.flip(0).view(1, 1, -1), padding=6).flatten()

    whole = product(low, dual) + product(dual * sign, low * sign)
    delta = torch.zeros(13, dtype=torch.float64)
    delta[6] = 1
    torch.testing.assert_close(whole, delta, rtol=0, atol=1e-7)
    assert abs(low.sum() - 1) < 1e-7
    assert abs(dual.sum() - 1) < 1e-7


def test_dual_tree_splits_constants_and_orientations() -> None:
    low, real, imaginary = tr.dual_tree(torch.ones(1, 1, 8, 8, dtype=torch.float64))
    same(low, torch.ones_like(low))
    assert real.abs().max() < 1e-12
    assert imaginary.abs().max() < 1e-12
    at = torch.arange(32.0, dtype=torch.float64)
    falling = torch.cos(2.2 * (at[:, None] + at))[None, None]
    rising = torch.cos(2.2 * (at[:, None] - at))[None, None]

    def strength(x: Tensor) -> Tensor:
        _, re, im = tr.dual_tree(x)
        return (re.square() + im.square()).sum((0, 1, 3, 4))

    # Both diagonals fill the third pair of bands; which of the two tells the direction.
    one, other = strength(falling), strength(rising)
    assert one.argmax() % 3 == other.argmax() % 3 == 2
    assert min(one[2] / one[5], other[5] / other[2]) > 3
