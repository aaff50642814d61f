"""Running a study, or taking it up again."""

from __future__ import annotations

import difflib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.coordinator import Coordinator, Listener
from nas.feasibility import Feasibility
from nas.lease import LeaseKeeper
from nas.loading import default_store, load_space
from nas.schedule import Schedule
from nas.scratch import scratch_folder
from nas.stopping import Stopped, StopSignals
from nas.strategies import Strategy, make_strategy, search_settings
from nas.study import Study, job_of, objectives_of, task_reference
from space import Architecture, InputError, NameUnknown, SearchSettings, SearchSpace, StoreError, StudyLocked
from store import Store
from store import Study as StudyRecord


@dataclass(frozen=True)
class RunOptions:
    """How a study is run; what is None comes from the space file."""

    trials: int | None = None
    strategy: str | None = None
    seed: int | None = None
    workers: int = 1
    threads: int | None = None
    device: str = "auto"
    hardware: tuple[str, ...] = ()
    name: str | None = None
    resume: bool = False
    takeover: bool = False


def run(
    space: str | Path | SearchSpace,
    *,
    store: str | None = None,
    listener: Listener | None = None,
    **options: Any,
) -> Study:
    """Run a study, or go on with it (`resume=True`). Options as in RunOptions.

    Raises SpaceError for a wrong file, InputError where the study can't be run as asked, StudyLocked where another
    coordinator runs it, Stopped on SIGTERM.
    """
    chosen = RunOptions(**options)
    space = space if isinstance(space, SearchSpace) else load_space(space)
    _check_options(chosen)
    address = store or default_store()
    if store is None and "://" not in address:
        _make_folder(Path(address).parent)
    with StopSignals() as signals, Store(address, sleep=signals.sleep) as opened:
        record, settings = _take_up(opened, space, chosen) if chosen.resume else _begin(opened, space, chosen)
        if listener:
            listener.began(record.name)
        with LeaseKeeper(opened, record.id, chosen.takeover) as lease:
            opened.requeue_running(record.id)
            opened.set_study_status(record.id, "running")
            try:
                _work(opened, record, space, settings, chosen, listener, lease, signals)
            except StudyLocked:
                raise  # Another coordinator speaks for the study now.
            except BaseException as error:
                status = "stopped" if isinstance(error, (KeyboardInterrupt, Stopped)) else "failed"
                with suppress(StoreError):
                    opened.set_study_status(record.id, status)
                raise
            opened.set_study_status(record.id, "finished")
    return Study(record.name, address)


def _check_options(chosen: RunOptions) -> None:
    """Raise InputError for options that no study can run with, before anything is written."""
    from costmodel import hardware_names

    for name in chosen.hardware:
        if name not in hardware_names():
            raise NameUnknown("hardware", name, hardware_names())
    for what, count in (("trials", chosen.trials), ("workers", chosen.workers), ("threads", chosen.threads)):
        if count is not None and count < 1:
            raise InputError(f"expected {what} of at least 1; got {count}")
    if chosen.device != "auto":
        from nas.training import pick_device

        pick_device(chosen.device)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: can't be made ({error.strerror}); give --store a file elsewhere") from None


def _strategy(space: SearchSpace, search: SearchSettings) -> Strategy:
    objectives = objectives_of(space)
    feasible = Feasibility(space, space.constraints, objectives)
    return make_strategy(search.strategy, space, [o.direction for o in objectives], search, feasible)


def _begin(store: Store, space: SearchSpace, chosen: RunOptions) -> tuple[StudyRecord, dict[str, Any]]:
    objectives = objectives_of(space)
    search = search_settings(
        space.search.model_dump(), strategy=chosen.strategy, trials=chosen.trials, seed=chosen.seed
    )
    _strategy(space, search)
    settings = {
        "search": search.model_dump(),
        "training": space.training.model_dump(),
        "task": task_reference(space),
        "lag": 1 if chosen.workers == 1 else 2 * chosen.workers,
        "hardware": list(chosen.hardware),
        "constraints": [c.text for c in space.constraints],
    }
    name = chosen.name or store.unique_study_name(space.name)
    record = store.create_study(name, space.source, space.sha256, settings, [(str(o), o.direction) for o in objectives])
    return record, settings


def _take_up(store: Store, space: SearchSpace, chosen: RunOptions) -> tuple[StudyRecord, dict[str, Any]]:
    record = store.study(chosen.name) if chosen.name else _latest(store, space)
    if record.space_sha256 != space.sha256:
        lines = difflib.unified_diff(
            record.space_yaml.splitlines(), space.source.splitlines(), "when the study began", "now", lineterm="", n=1
        )
        told = "\n".join(lines)
        raise InputError(
            f"the space file changed since study {record.name!r} began, so it can't be resumed"
            f" (start a new study, or put the file back):\n{told}"
        )
    settings = dict(record.settings)
    for key in ("strategy", "seed"):
        asked = getattr(chosen, key)
        if asked is not None and asked != settings["search"][key]:
            raise InputError(
                f"study {record.name!r} began with {key} {settings['search'][key]!r}; it can't go on with {asked!r}"
            )
    settings["search"] = search_settings(settings["search"], trials=chosen.trials).model_dump()
    settings["hardware"] = list(dict.fromkeys((*settings["hardware"], *chosen.hardware)))
    return record, settings


def _latest(store: Store, space: SearchSpace) -> StudyRecord:
    """The newest study that began with this file's name."""
    studies = store.studies()
    named = [s for s in studies if store.study(s.id).space_sha256 == space.sha256]
    if not named:
        named = [s for s in studies if re.fullmatch(re.escape(space.name) + r"(-\d+)?", s.name)]
    if not named:
        raise InputError(f"there is no study of {space.name!r} to resume; leave --resume out to begin one")
    return store.study(max(named, key=lambda s: s.id).id)


def _work(
    store: Store, record: StudyRecord, space: SearchSpace, settings: dict[str, Any], chosen: RunOptions,
    listener: Listener | None, lease: LeaseKeeper, signals: StopSignals,
) -> None:  # fmt: skip
    from nas.executors import make_executor

    search = search_settings(settings["search"])
    training = settings["training"]

    def check() -> None:
        signals.check()
        lease.check()

    with signals.interruptible():  # Imports torch.
        strategy = _strategy(space, search)
        executor = make_executor(
            "inline" if chosen.workers == 1 else "process",
            workers=chosen.workers,
            threads=chosen.threads,
            wall_limit_s=training["wall_limit"],
            memory_limit_bytes=training["memory_limit"],
        )

    def make_job(architecture: Architecture) -> dict[str, Any]:
        weights = str(scratch / f"{architecture.id}.safetensors")
        job = job_of(architecture, settings, chosen.device, weights)
        return job if chosen.threads is None else job | {"threads": chosen.threads}

    with executor, scratch_folder(store.artifact_root) as scratch:
        coordinator = Coordinator(
            space,
            store,
            record,
            Schedule(strategy, settings["lag"]),
            executor,
            make_job,
            objectives_of(space),
            search.trials,
            settings["hardware"],
            listener,
            check=check,
            may_write=lease.check,
            interruptible=signals.interruptible,
        )
        coordinator.resume()
        coordinator.run()
