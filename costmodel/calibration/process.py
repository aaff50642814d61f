"""A Gaussian process whose scales have priors, so that 100 samples of a dozen features don't run into noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from costmodel.table import Matrix

Kernel = Callable[[Matrix, Matrix], Matrix]
MOST_STEPS = 100
JITTER = 1e-6


@dataclass(frozen=True)
class Prior:
    """Mean and deviation of the logarithms of length scales (of features of deviation 1), of the variance that is
    learned and of the noise's."""

    length: tuple[float, float]
    amplitude: tuple[float, float]
    noise: tuple[float, float]


OF_PRODUCTS = Prior((1.5, 0.5), (-3.0, 1.5), (-5.5, 1.0))
"""assumption: what is left of a product's time after its law varies by some 20 %, slowly with each feature; repeated
measurements differ by some 6 % (seen in products of A100 and H100)."""
IN_PLACE = Prior((1.0, 0.7), (-1.5, 1.5), (-4.5, 1.0))
"""assumption: times of a CPU's operators vary by some 50 % around their physical base, and by some 10 % from one network
to the next (seen in two calibrations of an AVX-512 cloud CPU)."""


@dataclass(frozen=True)
class Scales:
    """Length scales by feature, variance of what is learned, variance of the noise."""

    lengths: Matrix
    amplitude: float
    noise: float


def rational(a: Matrix, b: Matrix) -> Matrix:
    """Rational quadratic kernel 1 / (1 + d^2 / 2) of points [a, features], [b, features]; Rasmussen & Williams 2006,
    eq. 4.19 with alpha 1. One division where others take an exponential."""
    return 1 / (1 + _squared(a, b) / 2)


def rbf(a: Matrix, b: Matrix) -> Matrix:
    """Squared exponential kernel exp(-d^2 / 2); Rasmussen & Williams 2006, eq. 4.9."""
    return np.exp(-0.5 * _squared(a, b))


def matern(a: Matrix, b: Matrix) -> Matrix:
    """Matern kernel of smoothness 3/2, (1 + r) e^-r with r = sqrt(3) d; Rasmussen & Williams 2006, eq. 4.17."""
    root = np.sqrt(3 * _squared(a, b))
    return (1 + root) * np.exp(-root)


def _squared(a: Matrix, b: Matrix) -> Matrix:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T, 0)


def _bend(kernel: Kernel, points: Matrix, shape: Matrix) -> Matrix:
    """How fast a kernel's logarithm falls with half of the squared distance."""
    return shape if kernel is rational else 3 / (1 + np.sqrt(3 * _squared(points, points)))


def most_likely(inputs: Matrix, target: Matrix, prior: Prior = OF_PRODUCTS, kernel: Kernel = rational) -> Scales:
    """The scales of highest posterior for `target` [samples] of mean zero over `inputs` [samples, features].

    `kernel` is `rational` or `matern`.
    """
    width = inputs.shape[1]
    centre = np.array([prior.length[0]] * width + [prior.amplitude[0], prior.noise[0]])
    spread = np.array([prior.length[1]] * width + [prior.amplitude[1], prior.noise[1]])

    def objective(found: Matrix) -> tuple[float, Matrix]:
        points = inputs / np.exp(found[:width])
        noise = np.exp(found[-1])
        shape = kernel(points, points)
        learned = np.exp(found[-2]) * shape
        factor = cho_factor(learned + (noise + JITTER * np.exp(found[-2])) * np.eye(len(target)), lower=True)
        inverse = cho_solve(factor, np.eye(len(target)))
        weights = inverse @ target
        away = (found - centre) / spread
        value = 0.5 * target @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        # d value / d K, then by each scale (Rasmussen & Williams 2006, eq. 5.9).
        slope = 0.5 * (inverse - np.outer(weights, weights))
        bent = slope * learned * _bend(kernel, points, shape)
        lengths = 2 * ((points**2 * bent.sum(1)[:, None]).sum(0) - (points * (bent @ points)).sum(0))
        return value, np.append(lengths, [(slope * learned).sum(), np.trace(slope) * noise]) + away / spread

    ends = list(zip(centre - 4 * spread, centre + 4 * spread, strict=True))
    found = minimize(objective, centre, jac=True, method="L-BFGS-B", bounds=ends, options={"maxiter": MOST_STEPS}).x
    return Scales(np.exp(found[:width]), float(np.exp(found[-2])), float(np.exp(found[-1])))


def spread_points(gram: Matrix, most: int) -> np.ndarray:
    """Indices of up to `most` samples that say most of the others: each next one is the least certain given those
    before (pivoted Cholesky factorisation of the kernel matrix `gram`)."""
    left, factor = np.diag(gram).copy(), np.zeros((len(gram), 0))
    chosen: list[int] = []
    for _ in range(min(most, len(gram))):
        at = int(left.argmax())
        if left[at] <= JITTER * gram[0, 0]:
            break
        column = (gram[:, at] - factor @ factor[at]) / np.sqrt(left[at])
        factor = np.column_stack([factor, column])
        left = np.maximum(left - column**2, 0)
        chosen.append(at)
        left[chosen] = 0
    return np.array(chosen)


def posterior(gram: Matrix, chosen: np.ndarray, noise: float, target: Matrix) -> tuple[Matrix, Matrix]:
    """Weights of the chosen samples in the posterior mean, and the covariance [samples, samples] that they stand for.

    All samples chosen: the exact Gaussian process. Else its projection (deterministic training conditional,
    Quinonero-Candela & Rasmussen 2005, section 4).
    """
    inner = gram[np.ix_(chosen, chosen)]
    factor = np.linalg.cholesky(inner + JITTER * gram[0, 0] * np.eye(len(chosen)))
    reduced = solve_triangular(factor, gram[chosen], lower=True)
    normal = reduced @ reduced.T + noise * np.eye(len(chosen))
    weights = solve_triangular(factor, np.linalg.solve(normal, reduced @ target), lower=True, trans="T")
    return weights, reduced.T @ reduced


def left_out(covariance: Matrix, noise: float, target: Matrix) -> Matrix:
    """Residuals of each sample predicted without itself, in closed form (Rasmussen & Williams 2006, eq. 5.12)."""
    inverse = np.linalg.inv(covariance + noise * np.eye(len(target)))
    return (inverse @ target) / np.diag(inverse)
