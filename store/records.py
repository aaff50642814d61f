"""What the store gives and takes: frozen records, never rows of the ORM.

Times are seconds since 1970-01-01 UTC on the database's clock. Values are in SI base units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from space.errors import InputError

if TYPE_CHECKING:
    import numpy as np

STATUSES = ("created", "running", "finished", "stopped", "failed")
OPEN_STATES = ("queued", "running")
FINISHED_STATES = ("complete", "failed", "diverged", "pruned", "infeasible")
STATES = OPEN_STATES + FINISHED_STATES
DIRECTIONS = ("min", "max")
AXIS = re.compile(r"\s*([^@()\s]+)\s*(?:@\s*([^@()]+?)\s*)?(?:\(\s*(.*?)\s*\)\s*)?")


@dataclass(frozen=True)
class Objective:
    """What a study optimises; `direction` is `min` or `max`."""

    name: str
    direction: str


@dataclass(frozen=True)
class Lease:
    """Who may coordinate a study, and until when."""

    holder: str
    host: str
    pid: int
    since: float
    expires: float


@dataclass(frozen=True)
class Study:
    """One study with its settings."""

    id: int
    name: str
    space_yaml: str
    space_sha256: str
    settings: dict[str, Any]
    objectives: tuple[Objective, ...]
    status: str
    created_at: float
    updated_at: float
    hypervolume: float | None
    lease: Lease | None


@dataclass(frozen=True)
class StudySummary:
    """One line of the list of studies. `best` is None where no trial is complete."""

    id: int
    name: str
    status: str
    objectives: tuple[Objective, ...]
    counts: dict[str, int]
    best: dict[str, float | None]
    created_at: float
    last_activity: float
    hypervolume: float | None


@dataclass(frozen=True)
class Measurement:
    """One figure in SI units; `situation` is what stands in the parentheses (`decode, batch=8`)."""

    name: str
    value: float
    unit: str = ""
    hardware: str | None = None
    situation: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def label(self) -> str:
        """As objectives and axes are written: `latency@h100-sxm(decode, batch=8)`."""
        return axis_label(self.name, self.hardware, self.situation)


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve; value None where it was not finite."""

    step: int
    split: str
    metric: str
    value: float | None


@dataclass(frozen=True)
class Artifact:
    """A file of a trial; `path` is relative to the artifact root."""

    kind: str
    sha256: str
    bytes: int
    path: str


@dataclass(frozen=True)
class TrialRow:
    """One trial as a table shows it. `values` holds the objective values it has."""

    id: int
    study_id: int
    number: int
    proposed_order: int
    architecture_id: str
    evaluation_key: str
    state: str
    reason: str
    feasible: bool
    on_front: bool
    attempts: int
    worker: str | None
    queued_at: float
    started_at: float | None
    finished_at: float | None
    seconds: float | None
    values: dict[str, float | None]


@dataclass(frozen=True)
class TrialRecord(TrialRow):
    """One trial with everything that hangs on it; measurements of its architecture are included."""

    study: str
    document: str
    picks: dict[str, Any]
    sampler: Any
    violation: Any
    measurements: tuple[Measurement, ...]
    curve: tuple[CurvePoint, ...]
    artifacts: tuple[Artifact, ...]


@dataclass(frozen=True)
class ResumeTrial(TrialRow):
    """What a coordinator needs to rebuild its sampler and to run open trials again."""

    document: str
    picks: dict[str, Any]
    sampler: Any
    violation: Any


@dataclass(frozen=True)
class Page:
    """Some rows of a table of `total` rows."""

    rows: tuple[TrialRow, ...]
    total: int


@dataclass(frozen=True)
class Filter:
    """`name` is an axis, a column of TrialRow or `picks.SITE`; `op` one of == != < <= > >= contains."""

    name: str
    op: str
    value: Any


@dataclass(frozen=True)
class Points:
    """Complete trials for a plot: ids and numbers int64 [N], values float64 [N, axes], on_front bool [N]."""

    axes: tuple[str, ...]
    trial_ids: np.ndarray
    numbers: np.ndarray
    values: np.ndarray
    on_front: np.ndarray
    feasible: np.ndarray
    architecture_ids: tuple[str, ...]


@dataclass(frozen=True)
class FrontPoint:
    """One non-dominated trial over chosen axes."""

    trial_id: int
    number: int
    architecture_id: str
    values: dict[str, float]


@dataclass(frozen=True)
class ArchitectureRecord:
    """A stored architecture with the figures that hold for all of its trials."""

    id: str
    document: str
    params: int | None
    macs: int | None
    created_at: float
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True)
class Calibration:
    """A measured profile of a machine; `error` is the mean absolute relative error after fitting."""

    id: int
    hardware: str
    created_at: float
    fingerprint: str
    content: str
    error: float | None


def axis_label(name: str, hardware: str | None = None, situation: str = "") -> str:
    """`name@hardware(situation)`, without the parts that are empty."""
    return name + (f"@{hardware}" if hardware else "") + (f"({situation})" if situation else "")


def split_axis(label: str) -> tuple[str, str, str]:
    """(name, hardware or '', situation or '') of `name@hardware(situation)`. Raises InputError."""
    found = AXIS.fullmatch(label)
    if found is None:
        raise InputError(f"axis {label!r}: expected NAME, NAME@HARDWARE or NAME@HARDWARE(SITUATION)")
    name, hardware, situation = found.groups()
    return name, hardware or "", situation or ""


def as_measurement(given: Measurement | Mapping[str, Any]) -> Measurement:
    """A Measurement from itself or from its fields. Raises InputError for unknown fields."""
    if isinstance(given, Measurement):
        return given
    try:
        return Measurement(**given)
    except TypeError as error:
        raise InputError(f"measurement {dict(given)!r}: {error}") from None
