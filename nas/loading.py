"""Reading what a user names: a space file, an architecture file, a trial of a study."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space import Architecture, InputError, SearchSpace, SpaceError, Vocabulary
from space import load_space as read_space

if TYPE_CHECKING:
    from store import Store

_TRIAL = re.compile(r"(?P<study>.+):(?P<number>\d+)")


def vocabulary() -> Vocabulary:
    """Every name that a space file may use besides those of blocks."""
    from costmodel import hardware_names
    from nas.strategies import strategy_names

    return Vocabulary(hardware=tuple(hardware_names()), strategies=strategy_names(), task=_check_task)


def load_space(path: str | Path) -> SearchSpace:
    """Read a space file and check it against everything this installation knows. Raises SpaceError."""
    space = read_space(path, vocabulary())
    _check_fit(space)
    return space


def load_architecture(named: str, store: str | None = None) -> Architecture | SearchSpace:
    """An architecture file, a space file, or `STUDY:TRIAL`. A file without choices gives an Architecture."""
    matched = _TRIAL.fullmatch(named)
    if matched and not Path(named).exists():
        with open_store(store) as opened:
            record = opened.trial(matched["study"], int(matched["number"]))
        return Architecture.from_document(json.loads(record.document), record.picks)
    space = load_space(named)
    return space if space.sites else space.only()


def default_store() -> str:
    """Where studies are kept unless `--store` or BLOCKWRIGHT_STORE says otherwise."""
    import os

    return os.environ.get("BLOCKWRIGHT_STORE", "runs/blockwright.db")


def open_store(address: str | None = None) -> Store:
    """A store for reading. Raises StoreError with the way out where there is none yet."""
    from space import StoreError
    from store import Store

    address = address or default_store()
    if address == default_store() and "://" not in address and not Path(address).exists():
        raise StoreError(f"{address}: no studies here yet; `nas run SPACE.yaml` begins one (or give --store)")
    return Store(address, read_only=True)


def _check_task(spec: Any, declared: dict[str, Any], folder: Path) -> tuple[str, ...]:
    from nas.tasks import make_task

    return tuple(make_task(spec, declared, base=folder).metrics)


def _check_fit(space: SearchSpace) -> None:
    """Raise SpaceError where the network's output isn't what the task needs."""
    if space.task is None:
        return
    from nas.tasks import make_task

    task = make_task(space.task, space.input, base=Path(space.file).parent)
    try:
        task.check_input(space.input, space.sample(0).output_shape)
    except InputError as error:
        raise SpaceError([space.marks["architecture"].problem("architecture", str(error))]) from None
