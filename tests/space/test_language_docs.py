"""The language reference: its examples load, its tables agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from space import SearchSpace, all_blocks
from space.measures import DIMENSIONS, PHASES
from space.reading import KEYS
from space.yaml_loader import _UNITS

TEXT = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_load_and_build(text: str) -> None:
    for architecture in SearchSpace.from_text(text).sample_many(20):
        architecture.build()


def test_every_key_measure_phase_unit_and_composite_is_told() -> None:
    told = set(re.findall(r"[A-Za-z_]+", TEXT))
    composites = {kind for kind, cls in all_blocks().items() if cls.slots}
    units = {unit for held in _UNITS.values() for unit in held}
    assert {*KEYS, *DIMENSIONS, *PHASES, *units, *composites} <= told
