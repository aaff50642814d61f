"""What an executor is: it takes jobs, runs them somewhere, and hands back one result for each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from space.errors import InputError

Job = dict[str, Any]
Result = dict[str, Any]
ENTRY = "nas.evaluate:run_job"
"""The function that workers run, as `module:name`."""


class Executor(ABC):
    """Base of every executor.

    Promises: every submitted job gives exactly one result, whatever becomes of the worker that runs it; results come
    in the order in which jobs end; `wait` never raises for a trial's failure. One thread calls the methods. An executor
    does not try again: a result it made itself, because a worker failed, carries `fault` (`crash`, `wall_limit`,
    `memory_limit`), and the caller decides. `close` drops what is unfinished and leaves no process behind.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        workers: int = 1,
        threads: int | None = None,
        wall_limit_s: float | None = None,
        memory_limit_bytes: int | None = None,
        *,
        entry: str = ENTRY,
        plugins: Sequence[str] = (),
    ) -> None:
        """`threads` a worker (none: cores divided by workers); limits a trial (none: unlimited).

        `entry` is for tests; `plugins` are modules that define blocks, imported by every worker. Raises InputError.
        """
        if workers < 1:
            raise InputError(f"expected at least one worker; got {workers}")
        if threads is not None and threads < 1:
            raise InputError(f"expected at least one thread a worker; got {threads}")
        for name, limit in (("wall", wall_limit_s), ("memory", memory_limit_bytes)):
            if limit is not None and limit <= 0:
                raise InputError(f"expected a {name} limit above 0; got {limit}")
        self.workers = workers
        self.threads = threads or max(1, available_cores() // workers)
        self.wall_limit_s = wall_limit_s
        self.memory_limit_bytes = memory_limit_bytes
        self.entry = entry
        self.plugins = tuple(plugins)
        self._pending: dict[str, None] = {}

    def submit(self, key: str, job: Job) -> None:
        """Hand over a job under a key that isn't pending. More jobs than workers wait in line."""
        if key in self._pending:
            raise ValueError(f"the job {key!r} is already pending")
        self._pending[key] = None
        self._start(key, {"threads": self.threads, **job})

    def wait(self, timeout: float | None = None) -> list[tuple[str, Result]]:
        """Results that came since the last call, as (key, result); at least one, unless `timeout` seconds pass first.

        Gives an empty list at once where nothing is pending.
        """
        if not self._pending:
            return []
        done = self._collect(timeout)
        for key, _ in done:
            del self._pending[key]
        return done

    def pending(self) -> list[str]:
        """Keys without a result so far, the oldest first."""
        return list(self._pending)

    def free(self) -> int:
        """How many more jobs would start at once."""
        return max(0, self.workers - len(self._pending))

    def close(self) -> None:
        """Stop everything; pending jobs are dropped. May be called again."""
        self._pending.clear()

    @abstractmethod
    def _start(self, key: str, job: Job) -> None: ...

    @abstractmethod
    def _collect(self, timeout: float | None) -> list[tuple[str, Result]]: ...

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def executor(kind: str) -> Callable[[type[Executor]], type[Executor]]:
    """Register an Executor class under `kind`. TypeError at import for a class without docstring, or a kind twice."""
    from nas.executors import registry

    def register(cls: type[Executor]) -> type[Executor]:
        registry.executors.add(kind, cls)
        cls.kind = kind
        return cls

    return register


def available_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def fault(kind: str, reason: str, seconds: float = 0.0, peak_rss_bytes: int = 0) -> Result:
    """The result of a job whose worker failed."""
    return {
        "status": "failed",
        "reason": reason,
        "fault": kind,
        "metrics": {},
        "curve": [],
        "seconds": seconds,
        "steps": 0,
        "peak_rss_bytes": peak_rss_bytes,
    }
