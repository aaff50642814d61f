"""How far predictions are from measurements, and whether they rank as measurements do."""

from __future__ import annotations

import math

import numpy as np

from costmodel.table import Matrix

MOST_FOR_TAU = 4000
"""Beyond so many rows Kendall's tau is taken of an even sample (it compares every pair)."""
FEWEST_IN_BAND = 8


def accuracy(measured: Matrix, predicted: Matrix) -> dict[str, float | None]:
    """`n`, `mape`, `median_ape` and `within_10` as shares, Kendall's `tau`, and `band_tau`.

    `band_tau` is the mean of tau inside bands of measured time that span a factor of two, weighted by rows; bands of
    fewer than FEWEST_IN_BAND rows are left out. None where there is too little to rank.
    """
    error = np.abs(predicted / measured - 1)
    bands = np.floor(np.log2(measured))
    inside = [
        (len(at), kendall(measured[at], predicted[at])) for at in (np.flatnonzero(bands == b) for b in np.unique(bands))
    ]
    told = [(n, tau) for n, tau in inside if n >= FEWEST_IN_BAND and tau is not None]
    return {
        "n": len(measured),
        "mape": float(error.mean()),
        "median_ape": float(np.median(error)),
        "within_10": float((error <= 0.1).mean()),
        "tau": kendall(measured, predicted),
        "band_tau": sum(n * tau for n, tau in told) / sum(n for n, _ in told) if told else None,
    }


def kendall(a: Matrix, b: Matrix) -> float | None:
    """Kendall's tau-b; None where one of both is constant."""
    if len(a) > MOST_FOR_TAU:
        at = np.linspace(0, len(a) - 1, MOST_FOR_TAU).astype(int)
        a, b = a[at], b[at]
    if len(a) < 2:
        return None
    x, y = np.sign(a[:, None] - a[None]), np.sign(b[:, None] - b[None])
    scale = math.sqrt(float((x != 0).sum()) * float((y != 0).sum()))
    return float((x * y).sum()) / scale if scale else None
