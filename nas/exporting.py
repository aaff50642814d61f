"""From a trial in a store to an export folder: weights, scores, card."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.loading import open_store
from nas.study import Study, job_of
from space import Architecture, InputError
from store import Store, TrialRecord


@dataclass(frozen=True)
class Exported:
    """What was written: the folder, its files, scores by part and metric, and the number of parameters."""

    folder: Path
    files: tuple[str, ...]
    scores: dict[str, dict[str, float]]
    params: int


def export_trial(
    store: str,
    study: str,
    trial: int | None,
    out: Path,
    formats: tuple[str, ...] = ("module",),
    train_steps: int | None = None,
    hardware: tuple[str, ...] = (),
    overwrite: bool = False,
    device: str = "auto",
    deployed: bool = False,
) -> Exported:
    """Write a trial (None: the best in the first objective) out as a folder.

    Weights kept by the study are taken; without them, or with `train_steps`, the network is trained again, from the
    start, with the study's seed. The test part is scored here and nowhere else. `deployed` writes the form with every
    block folded. Raises InputError, ExportError.
    """
    from costmodel import cost
    from nas.export import Card, export_folder, exporters, finish
    from nas.export.folder import check_free
    from nas.tasks import restore_task

    check_free(Path(os.path.abspath(out)), overwrite)
    for name in formats:
        exporters.get(name)
    number = Study(study, store).best()["trial"] if trial is None else trial
    with open_store(store) as opened:
        record = opened.study(study)
        found = opened.trial(record.id, number)
        weights = _kept_weights(opened, found)
    if found.state != "complete" and train_steps is None:
        raise InputError(
            f"trial {number} of study {study!r} is {found.state}{': ' + found.reason if found.reason else ''};"
            " it has no weights (choose a complete trial, or give --train-steps)"
        )
    architecture = Architecture.from_document(json.loads(found.document), found.picks)
    settings = record.settings
    devices = tuple(dict.fromkeys([*_devices(record.objectives, settings), *hardware]))
    told = cost(architecture, devices).to_json()
    scores: dict[str, dict[str, float]] = {}
    state: Any = None
    facts: dict[str, Any] = {}
    if settings["task"] is not None:
        finished = finish(architecture, job_of(architecture, settings, device, None), train_steps, weights)
        scores, state = finished.metrics, finished.weights
        task = restore_task(settings["task"], architecture.document["input"])
        training = dict(settings["training"]) | ({"steps": train_steps} if train_steps else {})
        facts = {
            "task": settings["task"],
            "data": " ".join((type(task).__doc__ or "").split("\n\n")[0].split()),
            "splits": task.sizes(),
            "preprocessing": task.preprocessing,
            "training": training | {"seed": settings["search"]["seed"]},
        }
    again = (f" --train-steps {train_steps}" if train_steps else "") + (" --deploy" if deployed else "")
    card = Card(
        study=study,
        trial=number,
        scores=scores,
        cost=told,
        reproduce=(f"nas export {study} {number} --out {out.name}{again}",),
        **facts,
    )
    folder = export_folder(architecture, state, out, card, formats, overwrite, deployed)
    files = tuple(sorted(path.name for path in folder.iterdir()))
    return Exported(folder, files, scores, told["params_deployed" if deployed else "params"])


def _kept_weights(store: Store, trial: TrialRecord) -> Path | None:
    """Weights of a trial, or of the trial whose evaluation it took over."""
    same = store.finished_evaluation(trial.evaluation_key)
    for candidate in (trial, same):
        for artifact in candidate.artifacts if candidate else ():
            if artifact.kind == "weights":
                return store.artifact_path(artifact.sha256)
    return None


def _devices(objectives: Any, settings: dict[str, Any]) -> list[str]:
    """Every device that the study speaks of."""
    texts = [o.name for o in objectives] + list(settings["constraints"])
    named = [text.split("@")[1].split("(")[0].split()[0] for text in texts if "@" in text]
    return [*named, *settings["hardware"]]
