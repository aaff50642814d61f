"""Models of operators timed in place: samples astray, equal sizes, and what comes with the regions of whole networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from costmodel import load_profile, price, trace_module
from costmodel.calibration.fit import far_apart
from costmodel.calibration.measured import Measured, product_rows
from costmodel.calibration.operators import MOST_OF_OPERATOR, fit_operators
from costmodel.calibration.whole import fit_scales, parts_of
from costmodel.correction import Calibration, ClassModel, Scales
from costmodel.hardware import Profile
from costmodel.table import KIND, C, Matrix, intern_name, operator_name
from space import deploy
from space.block import instantiate
from space.shape import Shape

BASE = load_profile("x86-core")
SCAN = {"selective_ssm": {"state": 4}}


def products(count: int, seed: int = 0) -> Measured:
    """Products of the operator `mm`: 5 us and 20 GMAC/s."""
    rng = np.random.default_rng(seed)
    m, n, k = (2.0 ** rng.uniform(3, 9, count) for _ in range(3))
    rows, shapes = product_rows(m, n, k, ["float32"] * count)
    shapes = replace(shapes, name=np.full(count, float(intern_name("mm"))))
    return Measured(rows, shapes, 5e-6 + m * n * k / 20e9, np.full(count, KIND["matmul"]))


def calibrated(measured: Measured, whole: Scales | None = None) -> Profile:
    classes, operators = fit_operators(measured, BASE)
    made = Calibration(base=BASE.name, source="made up", classes=classes, operators=operators, whole=whole)
    return BASE.model_copy(update={"calibration": made})


def error(profile: Profile) -> float:
    other = products(300, seed=1)
    return float(np.abs(price(other.rows, profile, shapes=other.shapes).expected / other.seconds - 1).mean())


def model(profile: Profile) -> ClassModel:
    assert profile.calibration is not None
    return profile.calibration.operators["matmul.mm"]


def test_samples_astray_are_left_out_and_told_in_the_error() -> None:
    measured, strays = products(120), np.arange(3, 120, 17)
    plain = calibrated(measured)
    seconds = measured.seconds.copy()
    seconds[strays] *= 6
    astray = calibrated(replace(measured, seconds=seconds))
    assert error(plain) < 0.03
    assert error(astray) < 0.04
    assert len(model(plain).parts[0].samples) == 120
    assert len(model(astray).parts[0].samples) == 120 - len(strays)
    assert model(astray).error["n"] == 120
    assert model(astray).error["mape"] == pytest.approx(5 / 6 * len(strays) / 120, abs=0.03)


def test_of_equal_operators_the_median_counts() -> None:
    measured = products(40)
    thrice = measured.take(np.tile(np.arange(40), 3))
    slow = replace(thrice, seconds=thrice.seconds * np.repeat([1.0, 5.0, 0.99], 40))
    assert model(calibrated(slow)) == model(calibrated(measured))


def test_of_many_operators_those_far_apart_are_kept() -> None:
    assert len(model(calibrated(products(MOST_OF_OPERATOR + 150))).parts[0].samples) == MOST_OF_OPERATOR
    line = np.array([[0.0], [0.1], [0.2], [5.0], [9.9], [10.0]])
    assert far_apart(line, 3).tolist() == [0, 3, 5]


def runs() -> list[Matrix]:
    """Tables of a scan over 4 to 40 positions of 8 to 64 channels, as x86-core runs it."""
    found = []
    for length, width in [(n, d) for n in (4, 8, 16, 40) for d in (8, 16, 32, 64)]:
        shape = Shape("sequence", width, length, causal=True)
        table = trace_module(deploy(instantiate(SCAN, shape)), torch.randn(shape.size(1)))
        found.append(table.matrix[table.select(BASE.kernels)])
    return found


def test_whole_networks_tell_what_an_operator_of_a_region_adds() -> None:
    tables = runs()
    priced = [(rows, price(rows, BASE)) for rows in tables]
    steps = np.array([sum(operator_name(code) == "selective_scan" for code in r[:, C["region_kind"]]) for r in tables])
    seconds = np.array([one.expected.sum() for _, one in priced]) + 3e-6 * steps
    told = fit_scales(parts_of(priced, list(seconds), in_place=True))
    assert told.regions["selective_scan"] == pytest.approx(3e-6, rel=0.2)
    assert (told.error["mape"] or 1) < 0.02
    assert fit_scales(parts_of(priced, list(seconds))).regions == {}
    held = np.arange(len(tables)) % 4 == 0
    apart = fit_scales(parts_of(priced, list(seconds), in_place=True), held)
    assert apart.n == held.sum()
    assert apart.regions == told.regions
    for seconds_each in (2e-6, -1.0):
        whole = Scales(run_s=0.0, regions={"selective_scan": seconds_each})
        profile = BASE.model_copy(update={"calibration": Calibration(base="x86-core", source="made up", whole=whole)})
        for rows, plain in priced:
            more = price(rows, profile).expected - plain.expected
            inside = np.array([operator_name(code) == "selective_scan" for code in rows[:, C["region_kind"]]])
            assert (more[~inside] == 0).all()
            if seconds_each > 0:
                assert more[inside] == pytest.approx(np.full(inside.sum(), seconds_each))
            assert (price(rows, profile).expected >= plain.low).all()
