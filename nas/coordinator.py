"""The coordinator of a study: proposes, prices, sends out, writes down, tells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from nas.executors import Executor
from nas.front import hypervolume
from nas.measuring import Measured, known_untrained, measure_costs, violations
from nas.schedule import Outcome, Schedule
from space import Architecture, InputError, Measure, Objective, SearchSpace, canonical_json
from space.measures import TASK_METRICS
from store import Measurement, Store, Study, TrialRecord

_INFEASIBLE_IN_A_ROW = 2000
_WORST = 1e9
_ALWAYS = (Measure("params"), Measure("macs"))


class Listener(Protocol):
    """What a progress display is told."""

    def began(self, study: str) -> None:
        """The study's name, once it is known."""

    def changed(self, counts: dict[str, int], wanted: int) -> None:
        """The number of trials by state, and how many trained ones are wanted."""

    def trial(self, number: int, state: str, values: dict[str, float], reason: str) -> None:
        """A trial ended."""


class Coordinator:
    """Runs one study to its number of trials. The caller holds the lease and owns store and executor.

    `check` is called between steps and may raise to stop the run.
    """

    def __init__(
        self,
        space: SearchSpace,
        store: Store,
        study: Study,
        schedule: Schedule,
        executor: Executor,
        make_job: Callable[[Architecture], dict[str, Any]],
        objectives: Sequence[Objective],
        wanted: int,
        hardware: Sequence[str] = (),
        listener: Listener | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.space = space
        self.store = store
        self.study = study
        self.schedule = schedule
        self.executor = executor
        self.make_job = make_job
        self.objectives = tuple(objectives)
        self.wanted = wanted
        self.listener = listener
        self.check = check
        self.counts = dict.fromkeys(("complete", "failed", "diverged", "pruned", "infeasible"), 0)
        self.measures = self._measures(hardware)
        self.trained = any(not known_untrained(o.measure) for o in self.objectives)
        self._submitted = 0
        self._waiting: list[tuple[int, int, Architecture, dict[str, Any]]] = []
        self._open: dict[int, tuple[int, Architecture, dict[Measure, Measured], dict[str, Any]]] = {}
        self._nearest: tuple[float, str] | None = None

    def _measures(self, hardware: Sequence[str]) -> list[Measure]:
        asked = [*_ALWAYS, *(o.measure for o in self.objectives), *(c.measure for c in self.space.constraints)]
        asked += [Measure(name, device) for device in hardware for name in ("latency", "energy", "peak_memory")]
        return [m for m in dict.fromkeys(asked) if known_untrained(m)]

    def resume(self) -> None:
        """Take up an earlier run: outcomes are told again in their order, open trials are sent out again."""
        for old in self.store.trials_for_resume(self.study.id):
            architecture = Architecture.from_document(json.loads(old.document), old.picks)
            memory = old.sampler["memory"]
            self.schedule.replay(architecture.id, memory)
            if old.state == "infeasible":
                self.schedule.refused(old.sampler["values"], float(old.violation or 0.0))
                self.counts["infeasible"] += 1
                continue
            self._submitted += 1
            if old.state in self.counts:
                self.counts[old.state] += 1
                values = {k: v for k, v in old.values.items() if v is not None}
                self.schedule.finished(old.number, self._outcome(old.state, values, float(old.violation or 0.0)))
            else:
                self._send(old.id, old.number, architecture, measure_costs(architecture, self.measures))

    def run(self) -> None:
        """Until enough trials are trained or the space has no more."""
        self._changed()
        while True:
            self.check()
            exhausted = self._fill()
            self._submit()
            if self.schedule.oldest is None:
                if exhausted or self._submitted >= self.wanted:
                    break
                continue
            if self.schedule.tell_oldest():
                continue
            for key, result in self.executor.wait(timeout=1.0):
                self._finish(int(key), result)
        while self.schedule.tell_oldest():
            pass
        self.store.set_hypervolume(self.study.id, self._hypervolume())

    def _fill(self) -> bool:
        """Propose until every open place is taken; True where the space has no more."""
        refused = 0
        while self.schedule.has_room and self._submitted < self.wanted:
            number = self.schedule.next_number
            proposal = self.schedule.propose()
            if proposal is None:
                return True
            architecture = proposal.architecture
            costs = measure_costs(architecture, self.measures)
            missed = violations(self.space.constraints, {m: c.value for m, c in costs.items()})
            payload: dict[str, Any] = {"memory": proposal.memory}
            if not missed:
                refused = 0
                self._submitted += 1
                trial_id = self._add(number, architecture, costs, payload, "queued")
                self._send(trial_id, number, architecture, costs)
                continue
            total = sum(missed.values())
            payload["values"] = values = self._placeholders({m: c.value for m, c in costs.items()})
            reason = "; ".join(f"{text} is missed by {by:.0%}" for text, by in missed.items())
            self._add(number, architecture, costs, payload, "infeasible", reason, total)
            self.schedule.refused(values, total)
            self.counts["infeasible"] += 1
            if self._nearest is None or total < self._nearest[0]:
                self._nearest = (total, reason)
            refused += 1
            if refused >= _INFEASIBLE_IN_A_ROW:
                raise InputError(
                    f"none of {refused:,} candidates in a row meets the constraints; the nearest so far: "
                    f"{self._nearest[1]} (loosen the constraint, or widen the space)"
                )
            self._changed()
        return False

    def _add(
        self, number: int, architecture: Architecture, costs: dict[Measure, Measured],
        payload: dict[str, Any], state: str, reason: str = "", violation: float | None = None,
    ) -> int:  # fmt: skip
        return self.store.add_trial(
            self.study.id,
            number,
            architecture.id,
            architecture.text,
            picks=dict(architecture.picks),
            sampler=payload,
            evaluation_key=self._key(architecture),
            measurements=[_measurement(c) for c in costs.values()],
            state=state,
            reason=reason,
            violation=violation,
        )

    def _key(self, architecture: Architecture) -> str:
        """Names an evaluation: what is trained, on what, how. Two with one key give one result."""
        job = self.make_job(architecture)
        kept = {k: job[k] for k in ("architecture", "task", "training", "seed")}
        kept["training"] = {k: v for k, v in kept["training"].items() if not k.endswith("_limit")}
        return hashlib.sha256(canonical_json(kept).encode()).hexdigest()

    def _send(self, trial_id: int, number: int, architecture: Architecture, costs: dict[Measure, Measured]) -> None:
        job = self.make_job(architecture)
        self._open[number] = (trial_id, architecture, costs, job)
        if not self.trained:
            self._finish(number, {"status": "complete", "reason": "", "metrics": {}, "curve": [], "seconds": 0.0})
            return
        earlier = self.store.finished_evaluation(self._key(architecture))
        if earlier is not None:
            self._finish(number, _again(earlier))
            return
        self._waiting.append((trial_id, number, architecture, job))

    def _submit(self) -> None:
        while self._waiting and self.executor.free() > 0:
            trial_id, number, _, job = self._waiting.pop(0)
            self.store.start_trial(trial_id, "worker")
            self.executor.submit(str(number), job)

    def _finish(self, number: int, result: dict[str, Any]) -> None:
        trial_id, _, costs, job = self._open.pop(number)
        state, reason = result["status"], result.get("reason", "")
        metrics: dict[str, float] = result.get("metrics", {})
        known = {m: c.value for m, c in costs.items()}
        known |= {Measure(name): value for name, value in metrics.items()}
        values = {str(o): known[o.measure] for o in self.objectives if o.measure in known}
        missed = violations(self.space.constraints, known) if state == "complete" else {}
        lacking = [str(o) for o in self.objectives if str(o) not in values]
        if state == "complete" and lacking:
            state, reason = "failed", f"the task gave no {', '.join(lacking)}"
        violation = sum(missed.values())
        if missed:
            reason = "; ".join(f"{text} is missed by {by:.0%}" for text, by in missed.items())
        self.store.finish_trial(
            trial_id,
            state,
            reason=reason,
            values=values if state == "complete" else {},
            measurements=[Measurement(name, value) for name, value in metrics.items()] if state == "complete" else [],
            curve=result.get("curve", []),
            seconds=result.get("seconds"),
            violation=violation or None,
        )
        self._keep_weights(trial_id, number, job)
        self.counts[state] += 1
        self.schedule.finished(number, self._outcome(state, values, violation))
        if self.listener:
            self.listener.trial(number, state, values, reason)
        self._changed()

    def _keep_weights(self, trial_id: int, number: int, job: dict[str, Any]) -> None:
        """Keep the weights of a trial on the front; others are trained again where they are wanted."""
        path = Path(job["weights_path"]) if job.get("weights_path") else None
        if path is None or not path.exists():
            return
        if self.store.trial(self.study.id, number).on_front:
            self.store.put_artifact(trial_id, "weights", path)
        path.unlink(missing_ok=True)

    def _outcome(self, state: str, values: dict[str, float], violation: float) -> Outcome:
        if state == "complete":
            return Outcome(tuple(values[str(o)] for o in self.objectives), violation)
        return Outcome(tuple(self._placeholders({})), 1.0)

    def _placeholders(self, known: dict[Measure, float]) -> list[float]:
        """Objective values with the worst in place of those that need training."""
        return [known.get(o.measure, 0.0 if o.direction == "max" else _WORST) for o in self.objectives]

    def _changed(self) -> None:
        if self.listener:
            self.listener.changed(self.counts, self.wanted)

    def _hypervolume(self) -> float:
        names = [str(o) for o in self.objectives]
        points = self.store.points(self.study.id, names)
        return hypervolume(points.values.tolist(), [o.direction for o in self.objectives])


def _again(earlier: TrialRecord) -> dict[str, Any]:
    """The result of an evaluation that another trial made already."""
    return {
        "status": "complete",
        "reason": f"evaluated before, as trial {earlier.number} of {earlier.study}",
        "metrics": {m.name: m.value for m in earlier.measurements if m.name in TASK_METRICS},
        "curve": earlier.curve,
        "seconds": 0.0,
    }


def _measurement(measured: Measured) -> Measurement:
    measure = measured.measure
    name = f"count({measure.kind})" if measure.name == "count" else measure.name
    return Measurement(
        name, measured.value, measured.unit, measure.hardware, measure.situation, measured.low, measured.high
    )
