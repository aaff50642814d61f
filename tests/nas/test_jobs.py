"""The jobs that a study makes."""

from __future__ import annotations

from pathlib import Path

import nas
from nas.study import job_of
from space import Architecture, SearchSpace

EXAMPLE = Path(__file__).parents[2] / "examples" / "pocket-vision.yaml"


def job(architecture: Architecture, space: SearchSpace, batch: int) -> dict:
    settings = {"task": None, "training": space.training.model_dump() | {"batch": batch}, "search": {"seed": 3}}
    return job_of(architecture, settings, "cpu", None)


def test_a_small_network_gets_one_thread_and_a_large_one_what_there_is() -> None:
    space = nas.load_space(EXAMPLE)
    architecture = space.sample(0)
    macs = nas.cost(architecture).to_json()["macs"]
    assert job(architecture, space, int(1.9e8 / macs))["threads"] == 1
    assert "threads" not in job(architecture, space, int(2.1e8 / macs) + 1)


def test_a_job_is_plain_data_of_its_architecture() -> None:
    space = nas.load_space(EXAMPLE)
    made = job(space.sample(1), space, 8)
    assert Architecture.from_document(made["architecture"]).id == space.sample(1).id
    assert (made["seed"], made["split"], made["weights_path"]) == (3, "validation", None)
