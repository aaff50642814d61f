"""`Store`: everything that the rooms above may ask of the database."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy.orm import Session

from space.errors import NameUnknown
from store import axes as axes_of
from store import front, lease, library, listing, studies, trials
from store import measurements as figures
from store.artifacts import ArtifactFolder
from store.database import Database
from store.measurements import Measurements
from store.records import (
    FINISHED_STATES,
    ArchitectureRecord,
    Calibration,
    CurvePoint,
    Filter,
    FrontPoint,
    Page,
    Points,
    ResumeTrial,
    Study,
    StudySummary,
    TrialRecord,
    TrialRow,
)
from store.rows import is_finite, plain_json
from store.studies import StudyKey


class Store:
    """One database and its folder of artifacts.

    Every public method is one transaction: it happens whole or not at all, and is asked again where a fault passes by
    (a lock, a lost connection). A method that returned has been committed. Raises StoreError, in one line that
    names the database and the way out, and InputError for what the caller gave. Safe to use from several threads.
    """

    def __init__(
        self,
        url: str | os.PathLike[str],
        artifacts: str | os.PathLike[str] | None = None,
        read_only: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Open `url` (a path, `sqlite:///PATH` or `postgresql://...`); make or upgrade it unless `read_only`."""
        self._database = Database(url, read_only, sleep)
        self._artifacts = ArtifactFolder(artifacts if artifacts is not None else self._database.address.artifacts)
        self._read, self._write = self._database.read, self._database.write

    def close(self) -> None:
        """Give back every connection."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def artifact_root(self) -> Path:
        """The folder that holds the artifacts."""
        return self._artifacts.root

    # studies

    def create_study(
        self,
        name: str,
        space_yaml: str,
        space_sha256: str,
        settings: dict[str, Any],
        objectives: Sequence[tuple[str, str]],
    ) -> Study:
        """A new study; objectives are (name, `min` or `max`). Raises InputError where the name is taken."""
        return self._write(studies.create, name, space_yaml, space_sha256, settings, objectives)

    def study(self, study: StudyKey) -> Study:
        """A study by its name or its id. Raises NameUnknown with the nearest name."""
        return self._read(studies.find, study)

    def studies(self) -> list[StudySummary]:
        """Every study with its counts and best values, the last active first."""
        return self._read(studies.summaries)

    def unique_study_name(self, base: str) -> str:
        """`base`, or `base-2`, `base-3`, ... where that is taken."""
        return self._read(studies.unique_name, base)

    def set_study_status(self, study: StudyKey, status: str) -> None:
        """Note `created`, `running`, `finished`, `stopped` or `failed`."""
        self._write(studies.set_status, study, status)

    def set_hypervolume(self, study: StudyKey, value: float) -> None:
        """Note the hypervolume of the front so far."""
        self._write(studies.set_hypervolume, study, value)

    # leases

    def acquire_lease(self, study: StudyKey, holder: str, seconds: float, takeover: bool = False) -> None:
        """Become the one coordinator of a study for `seconds`; `holder` must be unique to this run.

        A lease whose process is known to be dead (same machine) is free at once; one of another machine is free
        after it expired, with `takeover`. Raises StudyLocked: who holds it, since when, until when.
        """
        self._write(lease.acquire, study, holder, seconds, takeover)

    def renew_lease(self, study: StudyKey, holder: str, seconds: float) -> None:
        """Hold the lease for `seconds` from now. Raises StudyLocked where another has taken it."""
        self._write(lease.renew, study, holder, seconds)

    def release_lease(self, study: StudyKey, holder: str) -> None:
        """Give the lease back, if it is held by `holder`."""
        self._write(lease.release, study, holder)

    # trials

    def add_trial(
        self,
        study_id: int,
        number: int,
        architecture_id: str,
        document: str,
        picks: Mapping[str, Any],
        sampler: Any,
        evaluation_key: str,
        measurements: Measurements = (),
        state: str = "queued",
        reason: str = "",
        violation: float | Sequence[float] | None = None,
    ) -> int:
        """A proposed trial; its id. `measurements` are of the architecture. `state` may be one that needs no result.

        Asked again for the same number and candidate it gives the same id; for another candidate StoreError.
        """
        if state not in ("queued", "failed", "pruned", "infeasible"):
            raise NameUnknown("state of a new trial", state, ("queued", "failed", "pruned", "infeasible"))
        return self._write(
            trials.add,
            study_id,
            number,
            architecture_id,
            document,
            plain_json(dict(picks), "picks"),
            plain_json(sampler, "sampler"),
            evaluation_key,
            figures.checked(measurements),
            state,
            reason,
            plain_json(violation, "violation"),
        )

    def start_trial(self, trial_id: int, worker: str) -> None:
        """Note that a worker runs a queued trial; counts an attempt. Raises StoreError for one that is not queued."""
        self._write(trials.start, trial_id, worker)

    def finish_trial(
        self,
        trial_id: int,
        state: str,
        reason: str = "",
        values: Mapping[str, float | None] | None = None,
        measurements: Measurements = (),
        curve: Iterable[CurvePoint | Mapping[str, Any]] = (),
        artifacts: Mapping[str, str | os.PathLike[str]] | None = None,
        seconds: float | None = None,
        violation: float | Sequence[float] | None = None,
    ) -> None:
        """Write a trial's result, whole, and bring the front up to date.

        `values` are of the objectives, `measurements` of this trial, `artifacts` kind -> file. A complete trial needs
        finite values (InputError); of another, what is not finite is kept as None and told in the reason.
        The same result may be given twice; another one for a finished trial raises StoreError.
        """
        if state not in FINISHED_STATES:
            raise NameUnknown("state of a finished trial", state, FINISHED_STATES)
        kept = [self._artifacts.put(kind, source) for kind, source in (artifacts or {}).items()]
        self._write(
            trials.finish,
            trial_id,
            state,
            reason,
            dict(values or {}),
            figures.checked(measurements),
            trials.checked_curve(list(curve)),
            kept,
            seconds if is_finite(seconds) else None,
            plain_json(violation, "violation"),
        )

    def requeue_running(self, study_id: int) -> list[int]:
        """Set running trials back to queued, attempts kept; their ids. For a resume, under the lease."""
        return self._write(trials.requeue_running, study_id)

    def trials(
        self,
        study: StudyKey,
        states: Sequence[str] | None = None,
        order_by: str = "number",
        descending: bool = False,
        offset: int = 0,
        limit: int = 100,
        filters: Iterable[Filter] = (),
    ) -> Page:
        """A page of trials and how many there are in all; `order_by` is a column, an objective or a measurement."""
        return self._of_study(study, listing.page, states, order_by, descending, offset, limit, tuple(filters))

    def trial(self, study: StudyKey, number: int) -> TrialRecord:
        """One trial with picks, values, measurements, curve, artifacts and document."""
        return self._of_study(study, listing.one, number)

    def trials_for_resume(self, study: StudyKey) -> list[ResumeTrial]:
        """Every trial in the order of numbers, with what a sampler needs."""
        return self._of_study(study, listing.for_resume)

    def finished_evaluation(self, evaluation_key: str) -> TrialRecord | None:
        """The earliest complete trial, of any study, with this evaluation key."""
        return self._read(listing.finished_evaluation, evaluation_key)

    # fronts and plots

    def front(self, study: StudyKey) -> list[TrialRow]:
        """Trials that no other dominates over the study's objectives; ties stay."""
        return self._of_study(study, front.stored)

    def front_for(self, study: StudyKey, axes: Sequence[str], directions: Sequence[str]) -> list[FrontPoint]:
        """The front over any axes (objectives, measurements, columns), each `min` or `max`."""
        return self._of_study(study, front.over, axes, directions)

    def points(self, study: StudyKey, axes: Sequence[str], limit: int = 200_000) -> Points:
        """Complete trials that have every axis, as arrays; above `limit` the front and the newest stay."""
        return self._of_study(study, front.points, axes, limit)

    def axes(self, study: StudyKey) -> list[str]:
        """Names that `trials`, `front_for` and `points` take for this study."""
        return self._of_study(study, axes_of.known)

    # architectures, hardware, artifacts

    def architecture(self, architecture_id: str) -> ArchitectureRecord:
        """A stored architecture with its measurements. Raises InputError for one that the store lacks."""
        return self._read(figures.architecture, architecture_id)

    def add_measurements(self, architecture_id: str, measurements: Measurements, trial_id: int | None = None) -> None:
        """Add figures of an architecture, or of one of its trials; one measured again replaces the former."""
        self._write(figures.add, architecture_id, figures.checked(measurements), trial_id)

    def record_profile(self, name: str, content: str) -> str:
        """Keep the text of a hardware profile; its sha256."""
        return self._write(library.record_profile, name, content)

    def profile(self, name: str, sha256: str) -> str:
        """The text of a kept profile."""
        return self._read(library.profile, name, sha256)

    def record_calibration(self, hardware: str, fingerprint: str, content: str, error: float | None = None) -> int:
        """Keep a calibration; its id."""
        return self._write(library.record_calibration, hardware, fingerprint, content, error)

    def calibrations(self, hardware: str | None = None) -> list[Calibration]:
        """Calibrations of one device, or of all, the newest first."""
        return self._read(library.calibrations, hardware)

    def put_artifact(self, trial_id: int, kind: str, source_path: str | os.PathLike[str]) -> str:
        """Copy a file under the artifact root and note it for a trial; its sha256."""
        artifact = self._artifacts.put(kind, source_path)
        self._write(trials.add_artifact, trial_id, artifact)
        return artifact.sha256

    def artifact_path(self, sha256: str) -> Path:
        """Where an artifact lies. Raises InputError for what is no sha256 or names nothing under the root."""
        return self._artifacts.path(sha256)

    def _of_study(self, study: StudyKey, work: Callable[..., Any], *args: Any) -> Any:
        def run(session: Session) -> Any:
            return work(session, studies.find_id(session, study), *args)

        return self._read(run)
