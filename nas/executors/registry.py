"""The one list of executors: filled by defining classes, read by everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from space.kinds import Kinds

if TYPE_CHECKING:
    from nas.executors.base import Executor

executors: Kinds[Executor] = Kinds("executor", "nas.executors")
all_executors = executors.all


def make_executor(kind: str, **arguments: Any) -> Executor:
    """An executor by name, with the arguments of `Executor`. Raises InputError."""
    return executors.get(kind)(**arguments)
