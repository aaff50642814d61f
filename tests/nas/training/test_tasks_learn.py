"""Small networks learn what each task asks, and the tasks tell apart what they are meant to tell apart."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from nas.evaluate import run_job

TOKENS = {"kind": "tokens", "vocab": 16, "length": 32, "causal": True}
TEXT = {"kind": "tokens", "vocab": 256, "length": 32, "causal": True}
CONVOLUTION = {"depthwise_conv": {"kernel": 4}}
ATTENTION = {"attention": {"heads": 2}}


def metrics(
    task: str, options: dict, declared: dict, mixers: list[dict], width: int = 32, **training: Any
) -> dict[str, float]:
    layers = [
        {"layer": {"norm": {"rms_norm": {}}, "mixer": mixer, "channel": {"mlp": {"ratio": 2}}}} for mixer in mixers
    ]
    embed = {"token_embed": {"dim": width, "position": "learned"}}
    blocks = [embed, *layers, {"lm_head": {"vocab": declared["vocab"]}}]
    job = {
        "architecture": {"blockwright": 1, "input": declared, "architecture": {"sequence": {"blocks": blocks}}},
        "task": {"name": task, "options": options},
        "training": {"batch": 32, "learning_rate": 6e-3, **training},
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }
    result = run_job(job)
    assert result["status"] == "complete", result["reason"]
    return result["metrics"]


def test_next_bytes_are_learned() -> None:
    options = {"max_bytes": 400_000, "held_out_bytes": 8192}
    found = metrics("byte_text", options, TEXT, [CONVOLUTION, CONVOLUTION], steps=120)
    assert 2 < found["bits_per_byte"] < 4.5
    assert found["accuracy"] > 0.3


@pytest.mark.slow
def test_recall_needs_attention() -> None:
    declared = {**TOKENS, "vocab": 32, "length": 64}
    score = functools.partial(metrics, "in_context_recall", {}, declared, width=64, batch=64, learning_rate=3e-3)
    assert score(mixers=[CONVOLUTION, ATTENTION], steps=300)["accuracy"] > 0.95
    assert score(mixers=[CONVOLUTION, CONVOLUTION], steps=100)["accuracy"] < 0.15
