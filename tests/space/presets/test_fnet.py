"""FNet-base: its parameters to the unit, its transforms in the cost."""

from __future__ import annotations

import math

import pytest

from costmodel import cost
from costmodel.blocks import node_table
from costmodel.table import C
from space import load_space
from space.extends import PRESETS
from space.shape import Shape


@pytest.mark.paper("fnet")
def test_counts() -> None:
    found = cost(load_space(PRESETS / "fnet_base.yaml").sample(seed=0))
    assert found.params == 82_861_056
    # Embedding projection, 12 x (768 x 3072 x 2), pooler.
    assert found.macs == 512 * (768 * 768 + 12 * 2 * 768 * 3072) + 768 * 768


@pytest.mark.paper("fnet")
def test_the_mixer_costs_a_transform_of_each_axis_and_no_parameters() -> None:
    table, segment = node_table({"fourier_mixer": {}}, Shape("sequence", 768, 512), "inference", batch=1)
    rows = table.matrix[table.select()]
    assert segment.parameters == 0
    assert rows[:, C["macs"]].sum() == 0
    flops = rows[:, C["vector_flops"]].sum()
    assert flops <= 5 * 512 * 768 * (math.log2(512) + math.log2(768))
    assert flops >= 2.5 * 512 * 768 * (math.log2(512) + math.log2(768)) * 0.99
