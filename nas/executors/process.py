"""Trials in long-lived worker processes on this machine."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import Any

from nas.executors.base import Executor, Job, Result, executor, fault
from nas.executors.handle import WorkerHandle


@executor("process")
class ProcessExecutor(Executor):
    """Runs jobs in worker processes that import torch once; each stands in a session of its own.

    Both limits hold, from the moment a worker has the job: resident memory is looked at twenty times a second (what
    the worker started, once a second). A worker that crashes, hangs, or goes over a limit is killed with all it
    started and replaced. Workers end when the coordinator does, however it ends. What they print is kept for the
    reason of a crash and goes nowhere else.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._jobs: queue.SimpleQueue[tuple[str, Job] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, Result]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name=f"worker-{i}", daemon=True) for i in range(self.workers)
        ]
        for thread in self._threads:
            thread.start()

    def _start(self, key: str, job: Job) -> None:
        self._jobs.put((key, job))

    def _collect(self, timeout: float | None) -> list[tuple[str, Result]]:
        done = []
        try:
            done.append(self._done.get(timeout=timeout))
            while True:
                done.append(self._done.get_nowait())
        except queue.Empty:
            return done

    def _serve(self) -> None:
        """Look after one worker until the executor closes."""
        worker = WorkerHandle(
            self.entry, self.plugins, self.threads, self.wall_limit_s, self.memory_limit_bytes, self._closing
        )
        try:
            # Where it can't start, the first job says why.
            with contextlib.suppress(OSError):
                worker.start()
            while (taken := self._jobs.get()) is not None and not self._closing.is_set():
                key, job = taken
                try:
                    result = worker.run(job)
                except Exception as error:
                    worker.kill()
                    result = fault("crash", f"the worker can't be run: {type(error).__name__}: {error}")
                if result is not None:
                    self._done.put((key, result))
        finally:
            worker.kill()

    def close(self) -> None:
        super().close()
        self._closing.set()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
