"""The last step before an export: a trial's weights, and its one look at the test part."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nas.export.weights import read_weights, with_weights
from space import Architecture, EvaluationError

if TYPE_CHECKING:
    from torch import Tensor


class Finished(NamedTuple):
    """Weights by name, metrics by part, and the training's result (None where stored weights were taken)."""

    weights: dict[str, Tensor]
    metrics: dict[str, dict[str, float]]
    result: dict[str, Any] | None


def finish(
    architecture: Architecture, job: dict[str, Any], steps: int | None = None, weights: Path | None = None
) -> Finished:
    """Weights of a trial with their validation and test scores, both in float32; the test part is read once, here.

    `job` is the trial's own (see `nas.evaluate.run_job`). Its stored `weights` (a safetensors file) are taken as they
    are; without them, or with `steps`, the network is trained from the start with the job's seed, for `steps` where
    given and else for the job's budget. Raises EvaluationError where that training fails, InputError for a bad job.
    """
    result = None
    if weights is not None and steps is None:
        state = read_weights(weights)
    else:
        with tempfile.TemporaryDirectory(prefix="blockwright-") as folder:
            path = Path(folder) / "model.safetensors"
            result = _train(architecture, job, steps, path)
            state = read_weights(path)
    return Finished(state, _score(architecture, job, state), result)


def _train(architecture: Architecture, job: dict[str, Any], steps: int | None, path: Path) -> dict[str, Any]:
    from nas.evaluate import run_job

    training = dict(job.get("training") or {})
    if steps is not None:
        training |= {"steps": steps, "seconds": None}
    result = run_job(
        job
        | {
            "architecture": architecture.document,
            "training": training,
            "split": "validation",
            "weights_path": str(path),
        }
    )
    if result["status"] != "complete":
        raise EvaluationError(f"the training before the export {result['status']}: {result['reason']}")
    return result


def _score(architecture: Architecture, job: dict[str, Any], state: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    from nas.tasks import restore_task
    from nas.training import pick_device

    task = restore_task(job["task"], architecture.document["input"])
    model = with_weights(architecture, state)
    model.to(pick_device(job.get("device", "auto")))
    return {part: task.evaluate(model, part) for part in ("validation", "test")}
