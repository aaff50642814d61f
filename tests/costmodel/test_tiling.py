"""The law of tiles: against loops over its tiles and splits, in both number types, and found again from what it gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from costmodel.calibration.measured import product_rows
from costmodel.calibration.tile_law import fit_law
from costmodel.tiling import ANY, KERNEL_TILES, TERMS, Law, Work, tiled

UNITS, PEAK, BYTES_PER_S = 108, 312e12, 2.0e12
ELEMENTS = {1.0: "float8", 2.0: "float16", 4.0: "float32"}
CENTRE = np.array([centre for centre, _, _ in TERMS.values()])


def work(m: np.ndarray, n: np.ndarray, k: np.ndarray, itemsize: np.ndarray) -> Work:
    one = np.ones(len(m))
    _, shapes = product_rows(m, n, k, [ELEMENTS[size] for size in itemsize])
    moved = itemsize * (m * k + k * n) + 2 * m * n
    rate = np.where(itemsize == 1, 2 * PEAK, PEAK)
    return Work(shapes, 2 * m * n * k / rate, moved / BYTES_PER_S, 3e-6 * one, UNITS, BYTES_PER_S)


def drawn(count: int, seed: int = 0, itemsizes: tuple[float, ...] = (2.0,)) -> Work:
    rng = np.random.default_rng(seed)
    m, n, k = (np.round(2.0 ** rng.uniform(0, 13, count)) for _ in range(3))
    return work(m, n, k, rng.choice(itemsizes, count))


def slowly(m: float, n: float, k: float, itemsize: float) -> float:
    """The law written as loops."""
    terms = dict(zip(TERMS, CENTRE, strict=True))
    rate = (2 if itemsize == 1 else 1) * PEAK / UNITS
    best = math.inf
    for r, c in KERNEL_TILES:
        tiles = math.ceil(m / r) * math.ceil(n / c)
        for parts in {1, int(min(max(UNITS // tiles, 1), max(k // 128, 1), 32))}:
            inner = math.ceil(math.ceil(k / 32) / parts) * 32
            share = terms["arithmetic"] * (1 + terms["small_tiles"])
            share /= 1 + terms["small_tiles"] * (128 * 256 / 384) / (r * c / (r + c))
            arithmetic = 2 * r * c * inner / (rate * share)
            operands = (r + c) * inner * itemsize / (terms["operands"] * BYTES_PER_S / UNITS)
            time = math.ceil(tiles * parts / UNITS) * (terms["start"] + max(arithmetic, operands))
            if parts > 1:
                time += terms["reduction"] + parts * m * n * 8 / (terms["partial_sums"] * BYTES_PER_S)
            best = min(best, time)
    moved = (itemsize * (m * k + k * n) + 2 * m * n) / BYTES_PER_S / terms["traffic"] + terms["start"]
    conversion = 3 * m * k / (terms["conversion"] * BYTES_PER_S) if itemsize < 2 else 0
    return terms["launch"] * 3e-6 + conversion + (best**4 + moved**4) ** 0.25


def test_it_equals_loops_over_tiles_and_splits() -> None:
    some = drawn(200, itemsizes=(1.0, 2.0))
    told = tiled(some.columns(), some, np.repeat(CENTRE[:, None], len(some), axis=1))
    s = some.shapes
    expected = [slowly(*sizes) for sizes in zip(s.m, s.n, s.k, s.itemsize, strict=True)]
    assert told.seconds == pytest.approx(expected, rel=1e-9)


def test_narrow_numbers_give_the_same() -> None:
    some = drawn(5000, itemsizes=(1.0, 2.0))
    terms = np.repeat(CENTRE[:, None], len(some), axis=1)
    wide = tiled(some.columns(), some, terms)
    narrow = tiled(some.columns(kind=np.float32), some, terms.astype(np.float32))
    assert narrow.seconds.dtype == np.float32
    assert narrow.seconds == pytest.approx(wide.seconds, rel=1e-4)


def test_more_work_takes_no_less_time_and_a_new_round_more() -> None:
    m = 128.0 * np.arange(1, 200)
    some = work(m, np.full(len(m), 256.0), np.full(len(m), 8192.0), np.full(len(m), 2.0))
    told = tiled(some.columns(), some, np.repeat(CENTRE[:, None], len(some), axis=1))
    assert (np.diff(told.seconds) >= -1e-12).all()
    # 108 tiles of 128 x 256 are one full round; the 109th starts another.
    assert told.rounds[107] == pytest.approx(1.0)
    assert told.seconds[108] > 1.2 * told.seconds[107]


def test_the_terms_are_found_again() -> None:
    some = drawn(300, itemsizes=(1.0, 2.0))
    real = {ANY: dict(zip(TERMS, CENTRE, strict=True))}
    real["1"] = real[ANY] | {"launch": 3.0, "conversion": 0.3, "arithmetic": 0.7}
    real["2"] = real[ANY] | {"launch": 1.2, "arithmetic": 0.75}
    noise = np.exp(np.random.default_rng(0).normal(0, 0.02, len(some)))
    seconds = tiled(some.columns(), some, Law(real).terms(some.shapes.itemsize)).seconds * noise
    found = fit_law(some, seconds)
    assert np.abs(np.log(found.seconds / seconds)).mean() < 0.03
    assert found.terms["1"]["conversion"] == pytest.approx(0.3, rel=0.1)
    assert found.terms["1"]["launch"] / found.terms["2"]["launch"] == pytest.approx(2.5, rel=0.3)
    other = drawn(300, seed=1, itemsizes=(1.0, 2.0))
    sizes = other.shapes.itemsize
    predicted, true = (tiled(other.columns(), other, Law(law).terms(sizes)).seconds for law in (found.terms, real))
    assert np.abs(predicted / true - 1).mean() < 0.04


def test_slopes_say_how_the_law_moves_with_its_terms() -> None:
    some = drawn(60)
    found = fit_law(
        some,
        tiled(
            some.columns(), some, Law({ANY: dict(zip(TERMS, CENTRE, strict=True))}).terms(some.shapes.itemsize)
        ).seconds,
    )
    assert set(found.terms) == {ANY, "2"}
    assert found.terms[ANY] == found.terms["2"]
    assert found.slopes.shape == (60, len(TERMS))
    # Seconds grow in proportion when launches, blocks' starts and reductions grow, and all rates fall, together.
    signs = np.array([1, 1, -1, 0, -1, -1, 1, -1, -1])
    assert found.slopes @ signs == pytest.approx(np.ones(60), abs=1e-3)


def test_sizes_that_were_not_measured_take_the_shared_terms() -> None:
    law = Law({"1": dict.fromkeys(TERMS, 2.0), ANY: dict.fromkeys(TERMS, 3.0)})
    assert law.terms(np.array([1.0, 2.0, 4.0]))[0].tolist() == [2.0, 3.0, 3.0]
