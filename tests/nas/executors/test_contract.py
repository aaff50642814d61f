"""What every executor promises."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from nas.executors import Executor, all_executors, available_cores, make_executor
from space import InputError, NameUnknown

ENTRY = "tests.nas.executors.faults:run"


@pytest.mark.parametrize("kind", list(all_executors()))
class TestContract:
    @pytest.fixture
    def executor(self, kind: str) -> Iterator[Executor]:
        with make_executor(kind, workers=1, entry=ENTRY) as made:
            yield made

    def test_every_job_gives_one_result(self, executor: Executor) -> None:
        for i in range(5):
            executor.submit(f"job {i}", {"value": i})
        assert executor.pending() == [f"job {i}" for i in range(5)]
        found: dict = {}
        while executor.pending():
            for key, result in executor.wait(30):
                assert key not in found
                found[key] = result["value"]
        assert found == {f"job {i}": i for i in range(5)}

    def test_nothing_pending_answers_at_once(self, executor: Executor) -> None:
        started = time.monotonic()
        assert executor.wait(None) == []
        assert executor.wait(200) == []
        assert time.monotonic() - started < 100

    def test_free_counts_idle_workers(self, executor: Executor) -> None:
        assert executor.free() == 1
        executor.submit("a", {})
        assert executor.free() == 0
        assert [key for key, _ in executor.wait(30)] == ["a"]
        assert executor.free() == 1

    def test_key_taken_twice_is_refused(self, executor: Executor) -> None:
        executor.submit("a", {})
        with pytest.raises(ValueError, match="already pending"):
            executor.submit("a", {})
        executor.wait(30)
        executor.submit("a", {})
        assert len(executor.wait(30)) == 1

    def test_raising_entry_fails_and_the_next_job_works(self, executor: Executor) -> None:
        executor.submit("bad", {"do": "raise"})
        ((key, result),) = executor.wait(30)
        assert key == "bad"
        assert result["status"] == "failed"
        assert result["fault"] == "crash"
        assert "raised on purpose" in result["reason"]
        executor.submit("good", {"value": 1})
        assert executor.wait(30)[0][1]["value"] == 1

    def test_threads_default_to_the_cores(self, executor: Executor) -> None:
        executor.submit("a", {})
        assert executor.wait(30)[0][1]["threads"] == available_cores()
        executor.submit("b", {"threads": 7})
        assert executor.wait(30)[0][1]["threads"] == 7

    def test_close_drops_what_is_pending(self, executor: Executor) -> None:
        executor.submit("a", {})
        executor.close()
        assert executor.pending() == []
        assert executor.wait(0) == []
        executor.close()

    @pytest.mark.parametrize(
        "bad", [{"workers": 0}, {"threads": 0}, {"wall_limit_s": 0.0}, {"memory_limit_bytes": -1}], ids=str
    )
    def test_bad_arguments_are_refused(self, kind: str, bad: dict) -> None:
        with pytest.raises(InputError):
            make_executor(kind, **{"entry": ENTRY, **bad})


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(NameUnknown, match="did you mean 'process'"):
        make_executor("proces")


def test_inline_runs_one_at_a_time() -> None:
    with pytest.raises(InputError, match="use process"):
        make_executor("inline", workers=2)
