"""Errors and rankings against scipy and against cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau

from costmodel.calibration.judge import accuracy, kendall


def test_tau_equals_scipy_s() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 20, 60).astype(float), rng.integers(0, 20, 60).astype(float)
    assert kendall(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert kendall(np.ones(3), np.arange(3.0)) is None


def test_accuracy_by_hand() -> None:
    told = accuracy(np.array([1.0, 2.0, 4.0, 10.0]), np.array([1.05, 2.0, 6.0, 5.0]))
    assert told["n"] == 4
    assert told["mape"] == pytest.approx((0.05 + 0 + 0.5 + 0.5) / 4)
    assert told["median_ape"] == pytest.approx(0.275)
    assert told["within_10"] == 0.5
    assert told["band_tau"] is None


def test_tau_in_bands_looks_inside_a_factor_of_two() -> None:
    measured = np.concatenate([np.linspace(1, 1.9, 10), np.linspace(4, 7.9, 10)])
    upside_down = np.concatenate([np.linspace(1.9, 1, 10), np.linspace(7.9, 4, 10)])
    told = accuracy(measured, upside_down)
    assert told["band_tau"] == -1
    assert told["tau"] is not None
    assert told["tau"] > 0
