"""Screened costs equal `cost` of the same architecture, on chains that join operators over the borders of blocks too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from costmodel import Screen, cost
from nas.measuring import measure_costs
from space import InputError, NotUnrolled, SearchSpace, parse_measure

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
DEVICES = ("stm32f746", "h100-sxm", "x86-core")
COUNTS = ("params", "params_active", "params_deployed", "macs", "macs_executed", "vector_flops", "weight_bytes")
PRICES = [f"{name}@{device}" for device in DEVICES for name in ("latency", "energy", "peak_memory")]
DECODE = [
    "state_bytes(decode, length=40)",
    "latency@h100-sxm(decode, batch=8, length=40)",
    "latency@x86-core(length=32)",
]
TRAINING = [f"peak_memory@{device}(training, batch=4)" for device in DEVICES]
VISION = """
input: {kind: image, shape: [3, 16, 16]}
architecture:
  sequence:
    - patch_embed: {patch: 2, dim: {choice: [8, 16]}}
    - to_grid
    - repeat:
        times: {int: [1, 4]}
        block:
          choice:
            - batch_norm
            - sequence: [to_sequence, rms_norm, to_grid]
            - conv_bn: {kernel: 3, activation: {choice: [relu, silu]}}
            - mobileone: {kernel: 3}
            - layer: {mixer: {depthwise_conv: {kernel: 3}}, channel: {mlp: {ratio: 2}}}
    - classifier: {classes: 3}
"""
HOLES = """
input: {kind: tokens, vocab: 16, length: 12, causal: false}
architecture:
  sequence:
    - token_embed: {dim: 8}
    - repeat:
        times: {int: [1, 3]}
        block: {layer: {mixer: {choice: [fourier_mixer, {attention: {heads: 2, causal: true}}]}, channel: {mlp: {ratio: 1}}}}
    - lm_head: {vocab: 16}
"""


def measures(*texts: str):
    return [parse_measure(text) for text in texts]


def assert_equal(space: SearchSpace, texts: list[str], count: int) -> None:
    """Every measure of `count` random candidates, counts exactly and the rest to 1e-9."""
    screen = Screen(space)
    words, asked = screen.automaton.draw(count, 7), measures(*texts)
    found = screen.values(words, asked)
    for i, word in enumerate(words):
        architecture = screen.architecture(word)
        for measure, told in measure_costs(architecture, asked).items():
            exact = measure.hardware is None
            for mine, own in (
                (found[measure].expected, told.value),
                (found[measure].low, told.low),
                (found[measure].high, told.high),
            ):
                if own is not None and mine is not None:
                    assert mine[i] == pytest.approx(own, rel=0 if exact else 1e-9, abs=0), (
                        str(measure),
                        architecture.text,
                    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_candidates_of_the_examples(path: Path) -> None:
    space = SearchSpace.from_file(path)
    tokens = DECODE if space.input["kind"] == "tokens" else []
    assert_equal(space, [*COUNTS, *PRICES, *tokens, "depth", "count(attention)", "count(sequence)"], 40)


def test_borders_between_elementwise_operators_views_and_folded_blocks() -> None:
    assert_equal(SearchSpace.from_text(VISION), [*COUNTS, *PRICES, "latency@h100-sxm(batch=4)"], 60)


def test_a_candidate_without_such_a_cost_has_none() -> None:
    space = SearchSpace.from_text(HOLES)
    screen = Screen(space)
    words = screen.automaton.draw(60, 0)
    (measure,) = measures("latency@h100-sxm(decode)")
    found = screen.values(words, [measure])[measure].expected
    assert 0 < np.isnan(found).sum() < len(words)
    for word, value in zip(words, found, strict=True):
        architecture = screen.architecture(word)
        if np.isnan(value):
            with pytest.raises(InputError):
                cost(architecture, ["h100-sxm"], phase="decode")
        else:
            told = cost(architecture, ["h100-sxm"], phase="decode").hardware["h100-sxm"]
            assert value == pytest.approx(told.latency_s, rel=1e-9)


def test_extremes_are_those_of_every_candidate() -> None:
    """Oracle: all candidates of a small space, priced one by one."""
    space = SearchSpace.from_text(VISION.replace("[1, 4]", "[1, 2]"))
    screen = Screen(space)
    asked = measures("params", "macs", "latency@stm32f746", "energy@h100-sxm")
    screen.values(screen.automaton.draw(20_000, 0), asked)
    ends = screen.values(screen.extremes(asked), asked)
    every = [measure_costs(architecture, asked) for architecture in space.enumerate()]
    for measure in asked:
        values = [one[measure].value for one in every]
        assert ends[measure].expected.min() == pytest.approx(min(values), rel=1e-9)
        assert ends[measure].expected.max() == pytest.approx(max(values), rel=1e-9)


def test_the_check_notices_a_price_that_is_no_sum() -> None:
    space = SearchSpace.from_file(EXAMPLES[-1])
    screen = Screen(space)
    words, asked = screen.automaton.draw(8, 0), measures("macs", "latency@x86-core")
    screen.check(words, asked)
    for prices in screen._situations["inference", 1, None].devices["x86-core"].prices.values():
        prices *= 1.001
    with pytest.raises(NotUnrolled, match="isn't a sum over blocks"):
        screen.check(words, asked)


def test_of_a_training_step_only_the_peak_is_covered() -> None:
    assert Screen.covers(parse_measure("peak_memory@x86-core(training)"))
    assert not Screen.covers(parse_measure("latency@x86-core(training)"))
    assert not Screen.covers(parse_measure("accuracy"))
    assert Screen.covers(parse_measure("depth"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_training_peaks_of_the_examples(path: Path) -> None:
    assert_equal(SearchSpace.from_file(path), TRAINING, 12)


def test_training_peaks_over_borders_of_views_folded_blocks_and_a_block_without_rows() -> None:
    assert_equal(SearchSpace.from_text(VISION), TRAINING, 60)


def test_extremes_of_training_peaks_are_those_of_every_candidate() -> None:
    space = SearchSpace.from_text(VISION.replace("[1, 4]", "[1, 2]"))
    screen = Screen(space)
    (measure,) = measures(TRAINING[0])
    screen.values(screen.automaton.draw(20_000, 0), [measure])
    ends = screen.values(screen.extremes([measure]), [measure])[measure].expected
    every = [measure_costs(architecture, [measure])[measure].value for architecture in space.enumerate()]
    assert ends.min() == pytest.approx(min(every), rel=0.05)
    assert ends.max() == pytest.approx(max(every), rel=0.05)
