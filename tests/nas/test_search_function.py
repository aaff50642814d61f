"""`nas.search`: a function of one's own in place of training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nas
from nas.loading import vocabulary
from space import Architecture, InputError, SearchSpace
from tests.nas.stubs import SPACE

OBJECTIVES = {"score": "max", "size": "min"}


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace.from_text(SPACE, vocabulary=vocabulary())


def judge(architecture: Architecture) -> dict[str, Any]:
    return {"score": architecture.text.count("mlp"), "size": np.float32(len(architecture.text)), "unused": "text"}


@pytest.mark.parametrize("strategy", ["grid", "nsga2", "random", "tpe"])
def test_every_strategy_searches(space: SearchSpace, strategy: str) -> None:
    found = nas.search(space, judge, OBJECTIVES, strategy=strategy, trials=15, seed=1, population=5)
    assert isinstance(found, nas.SearchResult)
    assert [t.number for t in found.trials] == list(range(15))
    assert len({t.architecture.id for t in found.trials}) == 15
    assert all(type(v) is float for t in found.trials for v in t.values.values())
    best = max(t.values["score"] for t in found.trials)
    assert best in {t.values["score"] for t in found.front}
    again = nas.search(space, judge, OBJECTIVES, strategy=strategy, trials=15, seed=1, population=5)
    assert [t.architecture.id for t in again.trials] == [t.architecture.id for t in found.trials]


def test_constraints_on_costs_hold() -> None:
    space = SearchSpace.from_text(SPACE + 'constraints: ["params <= 600"]\n')
    found = nas.search(space, judge, OBJECTIVES, trials=10)
    assert len(found.trials) == 10
    assert all(nas.cost(t.architecture).params <= 600 for t in found.trials)


def test_a_file_a_space_that_ends_and_impossible_constraints(tmp_path: Any) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SPACE.replace("[4, 8, 12, 16]", "[4]").replace("{int: [1, 2]}", "1"))
    assert len(nas.search(path, judge, OBJECTIVES, trials=100).trials) == 9
    with pytest.raises(
        InputError, match="no candidate of this space meets the constraints: params <= 3 is missed by every"
    ):
        nas.search(SearchSpace.from_text(SPACE + 'constraints: ["params <= 3"]\n'), judge, OBJECTIVES)


@pytest.mark.parametrize("wrong", [{"score": 1.0}, {"score": math.nan, "size": 1}, {"score": 1, "size": "x"}, None, 3])
def test_a_function_that_gives_something_else_is_refused(space: SearchSpace, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"evaluate must give \{'s"):
        nas.search(space, lambda a: wrong, OBJECTIVES)


@pytest.mark.parametrize("wrong", [{}, {"score": "up"}])
def test_wrong_objectives_are_refused(space: SearchSpace, wrong: Any) -> None:
    with pytest.raises(InputError, match="expected objectives such as"):
        nas.search(space, judge, wrong)
    with pytest.raises(InputError, match="trials: expected"):
        nas.search(space, judge, OBJECTIVES, trials=0)
