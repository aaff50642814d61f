"""Calibrated prices: Gaussian processes as numbers, bounds, the floor at peak, speed-ups that change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from costmodel import load_profile, price
from costmodel.calibration.fit import MOST_POINTS, fit_classes
from costmodel.calibration.measured import Measured, attention_rows, product_rows
from costmodel.correction import Calibration, ClassModel, Part, evaluator, fade
from costmodel.features import Features, Physical, features_of
from costmodel.hardware import Profile
from costmodel.learned import FEWEST_TO_SORT
from costmodel.table import KIND
from costmodel.tiling import ANY, TERMS


def products(count: int, seed: int = 0) -> Measured:
    """Products whose seconds follow a law of their own: half the peak, 5 us to start, more for narrow results."""
    rng = np.random.default_rng(seed)
    m, n, k = (2.0 ** rng.integers(4, 12, count) for _ in range(3))
    rows, shapes = product_rows(m, n, k, ["float16"] * count)
    seconds = 5e-6 + 2 * m * n * k / (0.5 * 989e12) + 2 * (m * k + k * n + m * n) / 2e12 * (1 + 1 / np.log2(n))
    return Measured(rows, shapes, seconds, np.full(count, KIND["matmul"]))


def calibrated(count: int = 80) -> Profile:
    base = load_profile("h100-sxm")
    made = Calibration(base="h100-sxm", source="a made-up law", classes=fit_classes(products(count), base))
    return base.model_copy(update={"calibration": made})


def test_a_law_is_learned_from_80_samples_and_holds_on_others() -> None:
    profile, other = calibrated(), products(400, seed=1)
    priced = price(other.rows, profile, shapes=other.shapes)
    error = np.abs(priced.expected / other.seconds - 1)
    assert error.mean() < 0.05
    assert (
        np.abs(price(other.rows, load_profile("h100-sxm"), shapes=other.shapes).expected / other.seconds - 1).mean()
        > 0.15
    )
    assert (priced.low <= priced.expected).all()
    assert (priced.expected <= priced.high).all()


def test_the_closed_form_of_a_gaussian_process() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0]])
    weights = np.array([0.3, -0.2])
    lines = [" ".join(str(x) for x in (*p, w)) for p, w in zip(points, weights, strict=True)]
    model = ClassModel(
        features=["b", "a"],
        centre=[1.0, 2.0],
        mean=0.5,
        bounds={"a": [0.0, 4.0]},
        low=-0.1,
        high=0.1,
        error={},
        parts=[
            Part(kernel="rbf", length=[2.0, 4.0], samples=lines),
            Part(kernel="matern32", length=[2.0, 4.0], samples=lines),
            Part(kernel="rational", length=[2.0, 4.0], samples=lines),
        ],
    )
    found = Features(("a", "b"), np.array([[6.0, 3.0]], dtype=np.float32), np.ones(1), 1)
    z = np.array([(3.0 - 1.0) / 2.0, (6.0 - 2.0) / 4.0])
    distance = np.sqrt(((points - z) ** 2).sum(1))
    smooth = (np.exp(-0.5 * distance**2) * weights).sum()
    rough = ((1 + np.sqrt(3) * distance) * np.exp(-np.sqrt(3) * distance) * weights).sum()
    rational = (weights / (1 + distance**2 / 2)).sum()
    ratio, beyond = evaluator(model).ratio(found)
    assert ratio[0] == pytest.approx(0.5 + (smooth + rough + rational) / 3, rel=1e-5)
    assert beyond[0] == pytest.approx(2.0)


def test_a_calibration_without_a_law_still_stands_on_the_plain_time() -> None:
    one, some = np.ones(3), products(3).shapes
    physical = Physical(np.array([1e-6, 4e-6, 9e-6]), 2e-6 * one, 3e-6 * one, 132, 3.35e12)
    found = features_of("matmul", some, physical, many_units=True)
    plain = 3e-6 + (physical.compute**4 + physical.memory**4) ** 0.25
    waves = np.ceil(some.m / 128) * np.ceil(some.n / 128) / 132
    points = np.stack([np.log2(waves), np.log2(plain), np.log2(physical.compute / 2e-6)], axis=1)
    model = ClassModel(
        features=["waves_128x128", "base", "intensity"],
        centre=[0.0, -18.0, 0.0],
        mean=0.25,
        bounds={},
        low=0,
        high=0,
        error={},
        parts=[Part(kernel="rbf", length=[3.0, 2.0, 4.0], samples=["0 0 0 0.5"])],
    )
    expected = 0.25 + 0.5 * np.exp(-0.5 * (((points - [0, -18, 0]) / [3, 2, 4]) ** 2).sum(axis=1))
    assert found.base == pytest.approx(plain, rel=1e-6)
    assert evaluator(model).ratio(found)[0] == pytest.approx(expected, rel=1e-4)


def test_products_keep_so_many_samples_and_no_more() -> None:
    made = fit_classes(products(MOST_POINTS + 20), load_profile("h100-sxm"))["matmul"]
    assert len(made.parts) == 1
    assert MOST_POINTS // 2 < len(made.parts[0].samples) <= MOST_POINTS
    assert set(made.law) == {ANY, "2"}
    assert set(made.features) > {"m", "n", "k", "waves"}
    assert made.error["mape"] is not None
    assert made.error["mape"] < 0.05


@pytest.mark.parametrize("count", [4, 9])
def test_a_few_samples_or_one_again_and_again_are_no_trouble(count: int) -> None:
    base, one, other = load_profile("h100-sxm"), products(1), products(50, seed=1)
    for samples in (products(count), one.take(np.zeros(count, dtype=np.int64))):
        made = Calibration(base="h100-sxm", source="made up", classes=fit_classes(samples, base))
        profile = base.model_copy(update={"calibration": made})
        again = price(samples.rows, profile, shapes=samples.shapes).expected
        assert again == pytest.approx(samples.seconds, rel=0.1)
        far = price(other.rows, profile, shapes=other.shapes).expected
        assert np.abs(np.log(far / other.seconds)).mean() < 0.5


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"2": dict.fromkeys(TERMS, 1.0)}, "law needs an entry `any`"),
        ({ANY: dict.fromkeys(TERMS, 1.0), "3": {}}, "law.3: expected `any` or bytes an element"),
        ({ANY: {"launch": 1.0}}, "law.any needs the terms launch, start"),
        ({ANY: dict.fromkeys(TERMS, 0.0)}, "greater than 0"),
    ],
)
def test_a_law_with_missing_terms_is_refused(law: dict[str, dict[str, float]], message: str) -> None:
    made = fit_classes(products(20), load_profile("h100-sxm"))["matmul"].model_dump()
    with pytest.raises(ValidationError, match=message):
        ClassModel.model_validate(made | {"law": law})


def test_far_from_the_samples_the_profile_s_own_estimate_stays_and_says_so() -> None:
    profile, plain = calibrated(), load_profile("h100-sxm")
    size = np.array([64.0, 2.0**24])
    rows, shapes = product_rows(size, size, size, ["float16"] * 2)
    learned, bare = price(rows, profile, shapes=shapes), price(rows, plain, shapes=shapes)
    assert learned.extrapolated.tolist() == [False, True]
    assert learned.expected[1] == pytest.approx(bare.expected[1], rel=0.05)
    assert learned.high[1] / learned.expected[1] > learned.high[0] / learned.expected[0]
    assert bare.extrapolated.all()
    assert fade(np.array([0.0, 3.0])).tolist() == [1.0, 0.5]


def test_no_estimate_lies_below_the_bound_at_peak() -> None:
    samples = products(40)
    fast = Measured(samples.rows, samples.shapes, samples.seconds / 20, samples.kind)
    base = load_profile("h100-sxm")
    classes = fit_classes(fast, base)
    assert classes["matmul"].floor < 1
    strict = {"matmul": classes["matmul"].model_copy(update={"floor": 1.0})}
    profile = base.model_copy(update={"calibration": Calibration(base="h100-sxm", source="made up", classes=strict)})
    bound = price(samples.rows, base, shapes=samples.shapes).low
    assert (price(samples.rows, profile, shapes=samples.shapes).expected >= bound * (1 - 1e-12)).all()


def test_sorting_equal_operators_out_changes_nothing() -> None:
    profile, few = calibrated(), products(50, seed=2)
    many = few.take(np.tile(np.arange(50), FEWEST_TO_SORT // 50 + 1))
    one = price(few.rows, profile, shapes=few.shapes).expected
    assert price(many.rows, profile, shapes=many.shapes).expected[:50] == pytest.approx(one, rel=1e-5)


def test_decoding_groups_up_to_32_query_heads_share_their_keys() -> None:
    base = load_profile("h100-sxm")
    n = 60
    rng = np.random.default_rng(0)
    length, batch = 2.0 ** rng.integers(6, 14, n), 2.0 ** rng.integers(0, 7, n)
    kv = rng.choice([1.0, 2.0, 4.0, 8.0], n)
    args = (batch, length, np.full(n, 32.0), kv, np.full(n, 128.0), ["float16"] * n, ["float16"] * n)
    rows, shapes = attention_rows(*args, decode=True)
    assert shapes.groups.tolist() == (batch * kv).tolist()
    seconds = 8e-6 + 4 * batch * kv * length * 128 / 3e12
    measured = Measured(rows, shapes, seconds, np.full(n, KIND["attention_decode"]))
    classes = fit_classes(measured.take(np.arange(40)), base)
    profile = base.model_copy(update={"calibration": Calibration(base="h", source="made up", classes=classes)})
    held = measured.take(np.arange(40, n))
    assert np.abs(price(held.rows, profile, shapes=held.shapes).expected / held.seconds - 1).mean() < 0.1


@pytest.mark.parametrize("line", ["1 2", "1 2 x", "1 2 nan"])
def test_samples_that_are_no_numbers_are_refused(line: str) -> None:
    with pytest.raises(ValidationError, match="samples"):
        ClassModel(
            features=["a", "b"],
            centre=[0, 0],
            mean=0,
            bounds={},
            low=0,
            high=0,
            error={},
            parts=[Part(kernel="rbf", length=[1, 1], samples=[line])],
        )
