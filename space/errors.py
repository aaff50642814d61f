"""Every exception that Blockwright raises on purpose.

BlockwrightError
├── InputError (ValueError)      the user can mend it; the command line exits with 2
│   ├── SpaceError               a YAML file is wrong; carries every Problem found in it
│   ├── OptionError              one option of one block is wrong
│   ├── ShapeError               a block can't take the shape that reaches it
│   ├── NameUnknown              a name that no registry, file or store holds
│   └── NotUnrolled              a space can't be turned into tables (it can still be sampled)
├── EvaluationError              a trial failed; the study goes on
│   ├── Diverged                 loss or gradient became NaN or infinite
│   └── LimitExceeded            wall-clock or memory limit of the trial was reached
├── StoreError                   the database can't be used as asked
│   └── StudyLocked              another coordinator holds the study
└── ExportError                  an architecture can't be written out
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class BlockwrightError(Exception):
    """Base of the tree above."""


class InputError(BlockwrightError, ValueError):
    """What the user gave can't be used; the message says where and how to mend it."""


class OptionError(InputError):
    """One option of one block is wrong. `option` names it."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class ShapeError(InputError):
    """A block can't take the shape that reaches it, or gives one that its place can't take.

    `option` names the option to change, where there is one.
    """

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


class NotUnrolled(InputError):
    """A space has no automaton, or no tables, of a size that can be handled; the message says why."""


_LISTED_BY = {"block": "blocks", "task": "tasks"}


class NameUnknown(InputError):
    """A name that isn't known, with the nearest that is."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        if len(known) <= 24:
            way = f"known: {', '.join(known)}"
        else:
            way = f"`nas {_LISTED_BY.get(what, what)}` lists them all"
        super().__init__(f"unknown {what} {name!r}{did_you_mean(name, known)}; {way}")
        self.name = name


@dataclass(frozen=True)
class Problem:
    """One mistake in a file.

    `path` is the place in the document (`architecture.sequence[1].attention.heads`); line and column count from 1,
    0 where the place is the file itself.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class SpaceError(InputError):
    """A YAML file is wrong; `problems` holds every mistake found, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "a SpaceError needs at least one problem"
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.path, p.message)))
        super().__init__("\n".join(str(p) for p in self.problems))


class EvaluationError(BlockwrightError):
    """A trial failed; the study records the reason and goes on."""


class Diverged(EvaluationError):
    """Loss or gradient became NaN or infinite."""


class LimitExceeded(EvaluationError):
    """A trial reached its wall-clock or memory limit."""


class StoreError(BlockwrightError):
    """The database can't be used as asked."""


class StudyLocked(StoreError):
    """Another coordinator holds the study."""


class ExportError(BlockwrightError):
    """An architecture can't be written out."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""
