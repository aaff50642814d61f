"""The one list of block kinds: filled by defining classes, read by everything else."""

from __future__ import annotations

import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from space.errors import InputError, NameUnknown

if TYPE_CHECKING:
    from space.block import Block

_blocks: dict[str, type[Block]] = {}
_loaded = False


def add(cls: type[Block]) -> None:
    """Register a block class. TypeError for a kind that another class holds."""
    held = _blocks.get(cls.kind)
    if held is not None and (held.__module__, held.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__}: block kind {cls.kind!r} is already defined by "
            f"{held.__module__}.{held.__qualname__}"
        )
    _blocks[cls.kind] = cls


def get(kind: str) -> type[Block]:
    """The block class of a kind. Raises NameUnknown with the nearest known kind."""
    _load()
    if kind not in _blocks:
        raise NameUnknown("block", kind, _blocks)
    return _blocks[kind]


def all_blocks() -> dict[str, type[Block]]:
    """Every known kind, by name."""
    _load()
    return dict(sorted(_blocks.items()))


def load_plugin(module: str) -> None:
    """Import a module that defines blocks (a name given on the command line). Raises InputError."""
    _load()
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"plug-in {module!r} can't be imported: {error}") from error


def _load() -> None:
    global _loaded
    if _loaded:
        return
    _loaded = True
    import space.blocks

    for found in pkgutil.walk_packages(space.blocks.__path__, "space.blocks."):
        if not found.ispkg:
            importlib.import_module(found.name)
    for point in entry_points(group="blockwright.blocks"):
        point.load()
