"""What an exporter promises, and the list of those there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from space import Architecture, Block
from space.kinds import Kinds


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


exporters: Kinds[Exporter] = Kinds("export format", "nas.export")


def exporter(name: str) -> Callable[[type[Exporter]], type[Exporter]]:
    """Register an Exporter class. TypeError at import for one without docstring or with a name already held."""

    def register(cls: type[Exporter]) -> type[Exporter]:
        exporters.add(name, cls)
        cls.name = name
        return cls

    return register
