"""Prices: never below the physical bound, monotone in work, and what each profile fuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import hardware_names, load_profile, price
from costmodel.pricing import smooth_maximum
from costmodel.table import COLUMNS, DTYPE, KIND, C, intern_name

WORK = ("macs", "vector_flops", "transcendentals", "bytes_read", "bytes_written")


def one_row(kind: str = "matmul", **values: float) -> np.ndarray:
    row = np.zeros((1, len(COLUMNS)))
    row[0, C["kind"]] = KIND[kind]
    for name, value in values.items():
        row[0, C[name]] = value
    row[0, C["macs_executed"]] = values.get("macs_executed", values.get("macs", 0))
    return row


amounts = st.floats(0, 1e12)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(hardware_names()),
    st.sampled_from(sorted(KIND)),
    st.sampled_from(["float32", "float16", "int8"]),
    st.lists(amounts, min_size=5, max_size=5),
    st.lists(st.floats(1, 3), min_size=5, max_size=5),
)
def test_floor_and_monotonicity(name: str, kind: str, dtype: str, work: list[float], more: list[float]) -> None:
    profile = load_profile(name)
    small = one_row(kind, **dict(zip(WORK, work, strict=True)))
    large = one_row(kind, **{w: v * f for w, v, f in zip(WORK, work, more, strict=True)})
    a, b = price(small, profile, dtype), price(large, profile, dtype)
    assert 0 <= a.low[0] <= a.expected[0] <= a.high[0]
    fastest = max(v.value for v in profile.matrix_flop_per_s.values())
    assert a.low[0] >= 2 * work[0] / fastest * (1 - 1e-12) or kind == "depthwise_convolution"
    assert b.low[0] >= a.low[0] * (1 - 1e-12)
    assert b.expected[0] >= a.expected[0] * (1 - 1e-12)
    assert b.energy[0] >= a.energy[0] * (1 - 1e-12)


@settings(deadline=None, derandomize=True)
@given(amounts, amounts)
def test_smooth_maximum(a: float, b: float) -> None:
    got = smooth_maximum(np.array([a]), np.array([b]))[0]
    assert max(a, b) <= got <= max(a, b) * 2**0.25 * (1 + 1e-12)


def test_a_large_product_by_hand() -> None:
    profile = load_profile("h100-sxm")
    n = 8192
    size = 2 * n * n
    row = one_row(
        macs=n**3, bytes_read=2 * 4 * n * n, bytes_written=4 * n * n, weight_bytes=4 * n * n, dtype=DTYPE["float32"]
    )
    priced = price(row, profile, "float16", weight_bytes=size)
    assert priced.low[0] == pytest.approx(2 * n**3 / 989e12)
    compute, memory = 2 * n**3 / 989e12 / 0.8, 3 * size / 3350e9 / 0.8
    assert priced.expected[0] == pytest.approx(3e-6 + (compute**4 + memory**4) ** 0.25)
    assert priced.energy[0] == pytest.approx(2 * n**3 * 0.32e-12 + 3 * size * 31e-12)
    assert priced.bound_name == "compute"


def test_fixed_bytes_do_not_shrink_with_the_precision() -> None:
    profile = load_profile("h100-sxm")
    wide = one_row("gather", bytes_read=8e9, fixed_read=8e9)
    assert price(wide, profile, "int8").low[0] == price(wide, profile, "float32").low[0]
    loose = one_row("gather", bytes_read=8e9)
    assert price(loose, profile, "int8").low[0] == pytest.approx(price(loose, profile, "float32").low[0] / 4)


def region() -> np.ndarray:
    inner = np.concatenate([one_row("batched_matmul", macs=1e9, bytes_read=1e9)] * 3)
    summary = one_row("attention_prefill", macs=3e9, bytes_read=1e6, is_summary=1)
    rows = np.concatenate([inner, summary])
    rows[:, C["region"]], rows[:, C["region_kind"]] = 1, intern_name("attention")
    return rows


def test_the_kernel_list_chooses_between_inside_and_summary() -> None:
    with_kernel, without = load_profile("h100-sxm"), load_profile("stm32f746")
    assert price(region(), with_kernel).rows.tolist() == [3]
    assert price(region(), without).rows.tolist() == [0, 1, 2]


def test_pointwise_fusion_saves_the_round_trip_and_the_launch() -> None:
    rows = np.concatenate(
        [
            one_row("matmul", macs=1e9, bytes_read=4e9, bytes_written=4e9, consumer=1),
            one_row("elementwise", vector_flops=1e9, bytes_read=4e9, bytes_written=4e9, producer=1),
        ]
    )
    profile = load_profile("h100-sxm")
    apart = price(rows, profile.model_copy(update={"pointwise_fusion": False}))
    joined = price(rows, profile)
    assert joined.low.sum() == pytest.approx(apart.low.sum() / 2)
    assert joined.overhead.tolist() == [3e-6, 0.0]
    rows[0, C["consumer"]] = 0
    assert price(rows, profile).expected.sum() == apart.expected.sum()


def test_the_memory_level_follows_the_working_set() -> None:
    profile = load_profile("x86-core")
    rates = [size / price(one_row("copy", bytes_read=size), profile).low[0] for size in (10e3, 500e3, 10e6, 100e6)]
    assert rates == pytest.approx([400e9, 181e9, 30e9, 13e9])


def test_an_empty_table_costs_nothing() -> None:
    priced = price(np.zeros((0, len(COLUMNS))), load_profile("h100-sxm"))
    assert priced.energy_j == 0
    assert priced.expected.sum() == 0
