"""One trial, from a job to a result: a pure function that a worker on any machine may run."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from space import Architecture, Diverged, InputError, TrainingSettings, build

if TYPE_CHECKING:
    from torch import nn

Job = dict[str, Any]
Result = dict[str, Any]
_REASON_LENGTH = 500


def warm_up() -> None:
    """Import what every trial needs, so that the first one doesn't pay for it."""
    import nas.training  # noqa: F401
    from nas.tasks import all_tasks
    from space import all_blocks

    all_tasks()
    all_blocks()


def run_job(job: Job) -> Result:
    """Build, train and score the architecture of a job; write its weights where the job asks for them.

    A job holds architecture (document), task ({name, options}), training, seed, device, threads, weights_path and
    split. The result holds status (complete, diverged or failed), reason, metrics, curve, seconds, steps and
    peak_rss_bytes. Whatever goes wrong in the trial is a result with its reason; KeyboardInterrupt passes.
    """
    from nas.training import Trained

    started = time.monotonic()
    trained = Trained()
    memory = PeakMemory()
    status, reason = "complete", ""
    try:
        _run(job, trained)
    except Diverged as error:
        status, reason = "diverged", str(error)
    except InputError as error:
        status, reason = "failed", str(error)
    except Exception as error:
        status, reason = "failed", f"{type(error).__name__}: {error}"
    return {
        "status": status,
        "reason": one_line(reason),
        "metrics": trained.metrics if status == "complete" else {},
        "curve": trained.curve,
        "seconds": time.monotonic() - started,
        "steps": trained.steps,
        "peak_rss_bytes": memory.peak(),
    }


def _run(job: Job, trained: Any) -> None:
    from nas.tasks import restore_task
    from nas.training import reproducible, train

    architecture = Architecture.from_document(job["architecture"])
    task = restore_task(job["task"], architecture.document["input"])
    task.check_input(task.input, architecture.output_shape)
    settings = TrainingSettings.model_validate(job.get("training") or {})
    seed = job.get("seed", 0)
    with reproducible(seed, job.get("threads") or 1):
        model = build(architecture)
        options = {"device": job.get("device", "auto"), "split": job.get("split", "validation")}
        train(model, task, settings, seed=seed, trained=trained, **options)
        if job.get("weights_path"):
            save_weights(model, Path(job["weights_path"]))


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's state as safetensors, on the CPU and contiguous: beside the path first, then renamed.

    Tensors that share memory are written once for each name, so that a strict `load_state_dict` takes the file.
    """
    import torch
    from safetensors.torch import save

    state = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(save(state))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


class PeakMemory:
    """Highest resident memory of this process since the instance was made, where the system can tell."""

    def __init__(self) -> None:
        self._resettable = False
        try:
            # Writing 5 sets the kernel's high-water mark back to the present (proc(5), Linux 4.0).
            Path("/proc/self/clear_refs").write_text("5")
            self._resettable = True
        except OSError:
            pass

    def peak(self) -> int:
        """Bytes."""
        if self._resettable:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return psutil.Process().memory_info().rss


def one_line(text: str) -> str:
    """A reason fit for a table: one line, cut at 500 characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= _REASON_LENGTH else flat[: _REASON_LENGTH - 3] + "..."
