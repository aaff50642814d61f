"""The one list of block kinds: filled by defining classes, read by everything else."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from space.errors import InputError
from space.kinds import Kinds

if TYPE_CHECKING:
    from space.block import Block

blocks: Kinds[Block] = Kinds("block", "space.blocks", "blockwright.blocks")
get = blocks.get
all_blocks = blocks.all


def load_plugin(module: str) -> None:
    """Import a module that defines blocks (a name given on the command line). Raises InputError."""
    all_blocks()
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"plug-in {module!r} can't be imported: {error}") from error
