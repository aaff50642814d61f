"""Published transformers: parameters to the unit, MACs within 0.5 % of the published count."""

from __future__ import annotations

import pytest

from costmodel import cost
from space import load_space
from space.extends import PRESETS

PUBLISHED = [
    # timm 1.0.31, 224 pixels; MACs with the attention scores
    ("vit_tiny_16", 5_717_416, 1253.7),
    ("vit_small_16", 22_050_664, 4598.9),
    ("vit_base_16", 86_567_656, 17563.8),
    ("vit_large_16", 304_326_632, 61554.7),
    ("deit_tiny_distilled_16", 5_910_800, 1261.0),
    ("tnt_small", 23_768_584, 5216.9),
    ("tnt_base", 65_428_680, 14049.1),
    # transformers 5.23, 128 and 1,024 tokens
    ("bert_base", 109_482_240, 11170.0),
    ("bert_large", 335_141_888, 39461.1),
    ("gpt2_small", 124_439_808, 145820.0),
    ("gpt2_medium", 354_823_168, 413475.5),
]


@pytest.mark.parametrize(("name", "params", "macs_millions"), PUBLISHED, ids=lambda v: v if isinstance(v, str) else "")
def test_counts(name: str, params: int, macs_millions: float) -> None:
    found = cost(load_space(PRESETS / f"{name}.yaml").sample(seed=0))
    assert found.params == params
    assert found.macs / 1e6 == pytest.approx(macs_millions, rel=0.005)
