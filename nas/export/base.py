"""What an exporter promises, and the list of those there are."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from space import Architecture, Block, NameUnknown

_exporters: dict[str, type[Exporter]] = {}


@dataclass(frozen=True)
class Bundle:
    """What is written out: the architecture, and its built module with the weights, on the CPU and in eval mode."""

    architecture: Architecture
    model: Block
    version: str


class Exporter(ABC):
    """Writes one format.

    Promises: `write` touches nothing outside the folder it is given, which is new and private until every format is
    written; the same bundle gives the same files; no file names Blockwright as an import. Raises ExportError.
    """

    name: ClassVar[str]

    @abstractmethod
    def write(self, bundle: Bundle, folder: Path) -> None:
        """Write this format's files into `folder`."""


def exporter(name: str) -> Callable[[type[Exporter]], type[Exporter]]:
    """Register an Exporter class. TypeError at import for one without docstring or with a name already held."""

    def register(cls: type[Exporter]) -> type[Exporter]:
        if not (cls.__doc__ or "").strip():
            raise TypeError(f"{cls.__module__}.{cls.__qualname__}: an exporter needs a docstring")
        if name in _exporters:
            raise TypeError(f"{cls.__module__}.{cls.__qualname__}: the export format {name!r} exists already")
        cls.name = name
        _exporters[name] = cls
        return cls

    return register


def _load() -> None:
    import nas.export

    for found in pkgutil.iter_modules(nas.export.__path__, "nas.export."):
        importlib.import_module(found.name)


def exporter_names() -> tuple[str, ...]:
    """Every known format."""
    _load()
    return tuple(sorted(_exporters))


def describe_exporters() -> dict[str, str]:
    """Name -> first line of its documentation."""
    _load()
    return {name: inspect.cleandoc(cls.__doc__ or "").splitlines()[0] for name, cls in sorted(_exporters.items())}


def get_exporter(name: str) -> Exporter:
    """An exporter by name. Raises NameUnknown with the nearest known one."""
    _load()
    if name not in _exporters:
        raise NameUnknown("export format", name, _exporters)
    return _exporters[name]()
