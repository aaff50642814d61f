"""Fixtures of the study engine's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.nas.stubs import StubExecutor, evaluate


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Callable[..., StubExecutor]:
    """`stub(answer)` makes every run of this test evaluate by `answer` in this process; gives the last executor."""

    def use(answer: Callable[[dict[str, Any]], dict[str, Any]] = evaluate, seed: int = 0) -> StubExecutor:
        made = StubExecutor(answer, seed=seed)

        def make_executor(kind: str, workers: int = 1, **options: Any) -> StubExecutor:
            made.workers = workers
            return made

        monkeypatch.setattr("nas.executors.make_executor", make_executor)
        return made

    return use
