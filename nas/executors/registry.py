"""The one list of executors: filled by defining classes, read by everything else."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from space.errors import NameUnknown

if TYPE_CHECKING:
    from nas.executors.base import Executor

_executors: dict[str, type[Executor]] = {}
_loaded = False


def add(cls: type[Executor]) -> None:
    """Register an executor class. TypeError for a kind that another class holds."""
    held = _executors.get(cls.kind)
    if held is not None and (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__}: executor {cls.kind!r} is already defined by "
            f"{held.__module__}.{held.__qualname__}"
        )
    _executors[cls.kind] = cls


def all_executors() -> dict[str, type[Executor]]:
    """Every known executor, by name."""
    global _loaded
    if not _loaded:
        _loaded = True
        import nas.executors

        for found in pkgutil.iter_modules(nas.executors.__path__, "nas.executors."):
            importlib.import_module(found.name)
    return dict(sorted(_executors.items()))


def make_executor(kind: str, **arguments: Any) -> Executor:
    """An executor by name, with the arguments of `Executor`. Raises InputError."""
    known = all_executors()
    if kind not in known:
        raise NameUnknown("executor", kind, known)
    return known[kind](**arguments)
