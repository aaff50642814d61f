"""Checks of the catalogue rows puma, lean-attention and fpga-transformers."""

from __future__ import annotations

import functools
import random

import numpy as np
import pytest
import torch

from costmodel import Screen, cost, load_profile
from costmodel.fpga import fpga_profile
from costmodel.occupancy import decode_occupancy, decode_rounds
from nas.loading import load_space
from space import Architecture, InputError, SearchSpace, parse_measure
from space.ops.partial_attention import finish, merge, partial_attention
from space.ops.polynomial import exp_poly, gelu_poly, softmax_poly

MIXERS = """
input: {kind: series, channels: 32, length: 128, causal: false}
architecture:
  sequence:
    - repeat:
        times: 4
        block: {layer: {mixer: {choice: [{attention: {heads: 4}}, {depthwise_conv: {kernel: 7}}, fourier_mixer]}, channel: {mlp: {ratio: 2, activation: relu}}}}
    - classifier: {classes: 2}
"""


def document(blocks: list, length: int, dim: int, causal: bool = True) -> Architecture:
    given = {"kind": "series", "channels": dim, "length": length, "causal": causal}
    return Architecture.from_document(
        {"blockwright": 1, "input": given, "architecture": {"sequence": {"blocks": blocks}}}
    )


@pytest.mark.paper("puma")
def test_polynomials_stay_near_what_they_stand_for() -> None:
    x = torch.linspace(-10, 10, 20001, dtype=torch.float64)
    assert float((gelu_poly(x) - torch.nn.functional.gelu(x)).abs().max()) < 0.02
    low = torch.linspace(-20, 0, 20001, dtype=torch.float64)
    assert float((exp_poly(low) - low.exp()).abs().max()) < 0.01
    scores = torch.randn(64, 33, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    approximate = softmax_poly(scores)
    # With every exponential d off at most, a share s of n is d (1 + n s) / (sum of the approximate ones) off at most.
    exact = scores.softmax(-1)
    total = exp_poly(scores - scores.amax(-1, keepdim=True)).sum(-1, keepdim=True)
    assert bool(((approximate - exact).abs() <= 0.01 * (1 + 33 * exact) / total).all())
    assert torch.allclose(approximate.sum(-1), torch.ones(64, dtype=torch.float64))


@pytest.mark.paper("puma")
def test_dear_nonlinear_operations_shift_the_search_away_from_softmax() -> None:
    screen = Screen(SearchSpace.from_text(MIXERS))
    words = screen.automaton.draw(2000, 0)
    count = parse_measure("count(attention)")
    prices = {name: parse_measure(f"latency@{name}") for name in ("x86-core", "secure-inference")}
    found = screen.values(words, [count, *prices.values()])
    attention = found[count].expected
    cheapest = {
        name: attention[np.argsort(found[price].expected, kind="stable")[:200]].mean() for name, price in prices.items()
    }
    share = {name: np.corrcoef(attention, found[price].expected)[0, 1] for name, price in prices.items()}
    assert cheapest["secure-inference"] < 0.1
    assert cheapest["secure-inference"] <= cheapest["x86-core"]
    assert share["secure-inference"] > 0.9
    dearer = {
        name: found[price].expected[attention == 4].mean() / found[price].expected[attention == 0].mean()
        for name, price in prices.items()
    }
    assert dearer["secure-inference"] > 1.4 * dearer["x86-core"]


@pytest.mark.paper("puma")
def test_a_softmax_costs_more_than_the_products_around_it() -> None:
    one = cost(document([{"attention": {"heads": 4}}], 128, 32), ["secure-inference", "x86-core"])
    share = {}
    for name in ("secure-inference", "x86-core"):
        rows = one.by("operator", name)
        products = sum(r["latency_s"] for r in rows if "matmul" in r["class"])
        share[name] = products / sum(r["latency_s"] for r in rows)
    assert share["secure-inference"] < 0.1 < share["x86-core"] or share["secure-inference"] < share["x86-core"] / 2
    profile = load_profile("secure-inference")
    assert profile.matrix_flop_per_s["float32"].value > 1000 * profile.transcendental_per_s.value


@pytest.mark.paper("puma")
@pytest.mark.parametrize(("preset", "length", "seconds"), [("bert_large", 128, 73.720), ("gpt2_medium", 32, 30.272)])
def test_published_times_that_the_profile_was_not_fitted_to(preset: str, length: int, seconds: float) -> None:
    """Tables 3 and 4 of arXiv:2307.12533; the profile was fitted to the smaller models of each family."""
    (one,) = cost(load_space(preset).only(), ["secure-inference"], length=length).hardware.values()
    assert one.latency_s == pytest.approx(seconds, rel=0.1)


@pytest.mark.paper("lean-attention")
def test_partials_merged_in_any_order_are_full_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, length, 16, generator=generator) for length in (1, 100, 100))
    full = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    order = random.Random(0)
    for width in (1, 7, 33, 100):
        parts = [
            partial_attention(query, key[..., at : at + width, :], value[..., at : at + width, :])
            for at in range(0, 100, width)
        ]
        for _ in range(3):
            order.shuffle(parts)
            assert torch.allclose(finish(functools.reduce(merge, parts)), full, atol=1e-6)


@pytest.mark.paper("lean-attention")
def test_decode_reads_the_whole_cache_once() -> None:
    layers, kv_heads, width, context = 3, 2, 16, 200
    blocks = [
        {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 4, "kv_heads": kv_heads}}}}
    ] * layers
    told = cost(document(blocks, 256, 4 * width), phase="decode", length=context)
    expected = 2 * layers * kv_heads * width * context * 4
    assert told.state_bytes == pytest.approx(expected, rel=1.5 / context)


@pytest.mark.paper("lean-attention")
def test_even_shares_gain_where_heads_are_few_and_nothing_where_they_fill_the_device() -> None:
    def gain(batch: int, strategy: str) -> float:
        asked = (batch, 32, 65536, 108)
        return decode_rounds(strategy, *asked) / decode_rounds("lean", *asked)

    for strategy in ("flash2", "flash_decoding"):
        gains = [gain(batch, strategy) for batch in (1, 4, 16, 64, 1024)]
        assert gains[0] == max(gains)
        assert gains[-1] == pytest.approx(1.0, abs=0.01)
        assert min(gains) >= 1.0
    assert decode_rounds("flash2", 1, 1, 65536, 108) / decode_rounds("lean", 1, 1, 65536, 108) == pytest.approx(256 / 3)
    assert decode_occupancy("lean", 1, 32, 65536, 108) > 0.99
    assert decode_occupancy("flash2", 1, 32, 65536, 108) == pytest.approx(32 / 108)
    with pytest.raises(InputError, match="unknown strategy 'leen' \\(did you mean 'lean'"):
        decode_rounds("leen", 1, 1, 1, 1)


@pytest.mark.paper("fpga-transformers")
def test_latency_grows_with_reuse_and_falls_with_slices() -> None:
    blocks = [
        {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 4}}, "channel": {"mlp": {"ratio": 2}}}}
    ]
    large = document(blocks, 512, 256, causal=False)

    def latency(**budget: float) -> float:
        asked = {"dsps": 2000, "clock_hz": 2e8, "bram_bytes": 1e9} | budget
        return cost(large, [fpga_profile(**asked)]).hardware["fpga"].latency_s  # type: ignore[arg-type]

    base = latency()
    assert latency(reuse=8) == pytest.approx(8 * base, rel=0.1)
    assert latency(dsps=4000) == pytest.approx(base / 2, rel=0.1)
    assert latency(clock_hz=4e8) == pytest.approx(base / 2, rel=0.1)


@pytest.mark.paper("fpga-transformers")
def test_a_tiny_model_runs_in_two_microseconds() -> None:
    """The paper's bar, on its part's 12,288 slices (VU13P) at 200 MHz: a jet tagger of some 2,000 weights."""
    blocks = [
        {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 1}}}},
        {"classifier": {"classes": 5}},
    ]
    tiny = document(blocks, 15, 16, causal=False)
    found = cost(tiny, [fpga_profile(12288, 200e6)])
    assert found.params < 3000
    assert found.hardware["fpga"].latency_s < 2e-6
    assert (
        cost(tiny, [fpga_profile(12288, 200e6, reuse=64)]).hardware["fpga"].latency_s > found.hardware["fpga"].latency_s
    )


@pytest.mark.paper("fpga-transformers")
def test_a_wrong_budget_is_refused() -> None:
    with pytest.raises(InputError, match="reuse must be above 0"):
        fpga_profile(100, 2e8, reuse=0)
    with pytest.raises(InputError, match="8 or 16 bits"):
        fpga_profile(100, 2e8, bits=5)
