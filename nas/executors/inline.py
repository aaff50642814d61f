"""Trials in the process that asks for them."""

from __future__ import annotations

from collections import deque
from typing import Any

from nas.executors.base import Executor, Job, Result, executor, fault
from nas.executors.worker import load_entry
from space.errors import InputError


@executor("inline")
class InlineExecutor(Executor):
    """Runs each job inside `wait`, one after the other. Neither limit is enforced, and a crash takes all along."""

    def __init__(self, workers: int = 1, *arguments: Any, **options: Any) -> None:
        if workers != 1:
            raise InputError(f"the inline executor runs one trial at a time; got {workers} workers (use process)")
        super().__init__(workers, *arguments, **options)
        self._run = load_entry(self.entry, self.plugins)
        self._queue: deque[tuple[str, Job]] = deque()

    def _start(self, key: str, job: Job) -> None:
        self._queue.append((key, job))

    def _collect(self, timeout: float | None) -> list[tuple[str, Result]]:
        key, job = self._queue[0]
        try:
            result = self._run(job)
        except Exception as error:
            result = fault("crash", f"the trial raised {type(error).__name__}: {error}")
        # Taken off only now: a job that Ctrl-C interrupts is still pending.
        self._queue.popleft()
        return [(key, result)]

    def close(self) -> None:
        super().close()
        self._queue.clear()
