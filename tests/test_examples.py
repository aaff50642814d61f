"""The spaces that ship: they validate, their candidates build, and their counts are those of the built modules."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

import nas
from space import Architecture, SearchSpace

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.yaml"))
every_example = pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
SHARE = {"pocket-vision": 167, "byte-lm": 167, "recall": 166}
"""Candidates of each example whose counts are compared: 500 in all."""


def load(path: Path) -> SearchSpace:
    return nas.load_space(path)


def test_the_three_examples_ship() -> None:
    assert {p.stem for p in EXAMPLES} >= set(SHARE)


@every_example
def test_a_candidate_runs_and_has_the_shape_its_task_needs(path: Path) -> None:
    space = load(path)
    for seed in range(8):
        architecture = space.sample(seed)
        module = nas.build(architecture).eval()
        shape = architecture.input_shape
        size = shape.size(2)
        x = torch.randint(0, shape.dim, size) if shape.layout == "tokens" else torch.randn(size)
        assert module(x).shape == torch.Size(architecture.output_shape.size(2))


@every_example
@pytest.mark.slow
def test_two_thousand_candidates_build_and_none_repeats(path: Path) -> None:
    space = load(path)
    found = space.sample_many(2000, seed=1)
    assert len(found) == 2000
    assert len({a.id for a in found}) == 2000
    with torch.device("meta"):
        for architecture in found:
            module = nas.build(architecture)
            assert sum(p.numel() for p in module.parameters()) > 0


@every_example
@pytest.mark.slow
def test_parameters_equal_the_built_modules(path: Path) -> None:
    space = load(path)
    for architecture in space.sample_many(SHARE[path.stem], seed=2):
        with torch.device("meta"):
            module = nas.build(architecture)
        built = sum(p.numel() for p in module.parameters())
        assert nas.cost(architecture).to_json()["params"] == built


@every_example
def test_documents_survive_yaml_and_json(path: Path) -> None:
    space = load(path)
    for architecture in space.sample_many(30, seed=3):
        again = Architecture.from_yaml(architecture.to_yaml())
        assert again.id == architecture.id
        assert Architecture.from_document(architecture.document).id == architecture.id
        assert space.from_picks(dict(architecture.picks)).id == architecture.id


@every_example
def test_any_assignment_of_the_sites_decodes(path: Path) -> None:
    space = load(path)
    rng = random.Random(4)
    for _ in range(50):
        genome = {site: rng.choice(domain.values()) for site, domain in space.sites.items()}
        assert space.decode(genome).output_shape is not None
