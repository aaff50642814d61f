"""The coordinator of a study: proposes, prices, sends out, writes down, tells."""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nas.executors import Executor
from nas.feasibility import placeholders
from nas.front import hypervolume, on_front
from nas.measuring import Measured, all_constraints, judge, known_untrained, needs_training, told, violations
from nas.schedule import INFEASIBLE_IN_A_ROW, Outcome, Schedule, none_feasible
from space import Architecture, Measure, Objective, SearchSpace, canonical_json
from space.measures import TASK_METRICS
from store import Measurement, Store, Study, TrialRecord

_ALWAYS = (Measure("params"), Measure("macs"))


class Listener(Protocol):
    """What a progress display is told."""

    def began(self, study: str) -> None:
        """The study's name, once it is known."""

    def changed(self, counts: dict[str, int], wanted: int) -> None:
        """The number of trials by state, and how many trained ones are wanted."""

    def trial(self, number: int, state: str, values: dict[str, float], reason: str, feasible: bool) -> None:
        """A trial ended."""

    def earlier(self, number: int, values: dict[str, float]) -> None:
        """A trial that an earlier run completed, within the constraints."""


@dataclass(frozen=True)
class _Open:
    """A trial that has no result yet."""

    trial_id: int
    costs: dict[Measure, Measured]
    job: dict[str, Any]


class Coordinator:
    """Runs one study to its number of trials. The caller holds the lease and owns store and executor.

    `check` is called between steps and may raise to stop the run; within `interruptible`, at any moment. `may_write`
    raises where the lease was lost.
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
        may_write: Callable[[], None] = lambda: None,
        interruptible: Callable[[], AbstractContextManager[None]] = nullcontext,
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
        self.may_write = may_write
        self.interruptible = interruptible
        self.constraints = all_constraints(space)
        self.counts = dict.fromkeys(("complete", "failed", "diverged", "pruned", "infeasible"), 0)
        self.measures = self._measures(hardware)
        self.trained = needs_training(self.objectives, self.constraints)
        self._submitted = 0
        self._exhausted = False
        self._refused = 0
        self._nearest = (math.inf, "")
        self._front: list[list[float]] = []
        self._waiting: deque[int] = deque()
        self._retried: set[int] = set()
        self._open: dict[int, _Open] = {}

    def _measures(self, hardware: Sequence[str]) -> list[Measure]:
        asked = [*_ALWAYS, *(o.measure for o in self.objectives), *(c.measure for c in self.constraints)]
        asked += [Measure(name, device) for device in hardware for name in ("latency", "energy", "peak_memory")]
        return [m for m in dict.fromkeys(asked) if known_untrained(m)]

    def resume(self) -> None:
        """Take up an earlier run: outcomes are told again in their order, open trials are sent out again."""
        for old in self.store.trials_for_resume(self.study.id):
            self.check()
            memory = old.sampler["memory"]
            self.schedule.replay(old.architecture_id, memory)
            violation = float(old.violation or 0.0)
            if old.state == "infeasible":
                self.schedule.refused(old.sampler["values"], violation)
                self.counts["infeasible"] += 1
                continue
            self._submitted += 1
            if old.state in self.counts:
                self.counts[old.state] += 1
                values = {k: v for k, v in old.values.items() if v is not None}
                self.schedule.finished(old.number, self._outcome(old.state, values, violation))
                if old.state == "complete" and old.feasible:
                    self._enters([values[str(o)] for o in self.objectives])
                    if self.listener:
                        self.listener.earlier(old.number, values)
            else:
                architecture = Architecture.from_document(json.loads(old.document), old.picks)
                costs, _ = judge(architecture, self.measures, self.constraints)
                self._send(old.id, old.number, architecture, costs)

    def run(self) -> None:
        """Until enough trials are trained or the space has no more."""
        self._changed()
        while True:
            self.check()
            self._fill()
            self._submit()
            if self.schedule.tell_oldest():
                continue
            if self.schedule.oldest is None:
                if self._exhausted or self._submitted >= self.wanted:
                    break
                continue
            with self.interruptible():
                results = self.executor.wait(timeout=1.0)
            for key, result in results:
                self._take(int(key), result)
        self.store.set_hypervolume(self.study.id, self._hypervolume())

    def _fill(self) -> None:
        """Propose until every open place is taken, or the space has no more."""
        while not self._exhausted and self.schedule.has_room and self._submitted < self.wanted:
            number = self.schedule.next_number
            with self.interruptible():
                proposal = self.schedule.propose()
                if proposal is None:
                    self._exhausted = True
                    return
                architecture = proposal.architecture
                costs, missed = judge(architecture, self.measures, self.constraints)
            payload: dict[str, Any] = {"memory": proposal.memory}
            if not missed:
                self._refused = 0
                self._submitted += 1
                trial_id = self._add(number, architecture, costs, payload, "queued")
                self._send(trial_id, number, architecture, costs)
                continue
            # The strategy keeps to the file's constraints; a limit of the training machine is learnt from a refusal.
            payload["values"] = values = placeholders(self.objectives, {m: c.value for m, c in costs.items()})
            violation, reason = sum(missed.values()), told(missed)
            self._add(number, architecture, costs, payload, "infeasible", reason, violation)
            self.schedule.refused(values, violation)
            self.counts["infeasible"] += 1
            self._nearest = min(self._nearest, (violation, reason))
            self._refused += 1
            if self._refused >= INFEASIBLE_IN_A_ROW:
                raise none_feasible(self._refused, self._nearest[1])
            self._changed()

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
        kept = {
            k: job[k] for k in (("architecture", "task", "training", "seed") if self.trained else ("architecture",))
        }
        if self.trained:
            kept["training"] = {k: v for k, v in kept["training"].items() if not k.endswith("_limit")}
        return hashlib.sha256(canonical_json(kept).encode()).hexdigest()

    def _send(self, trial_id: int, number: int, architecture: Architecture, costs: dict[Measure, Measured]) -> None:
        """Put a trial in line for a worker; at once to its end where its result is known already."""
        self._open[number] = _Open(trial_id, costs, self.make_job(architecture))
        earlier = self.store.finished_evaluation(self._key(architecture)) if self.trained else None
        if not self.trained:
            self._finish(number, {"status": "complete", "metrics": {}})
        elif earlier is not None:
            self._finish(number, _again(earlier))
        else:
            self._waiting.append(number)

    def _submit(self) -> None:
        while self._waiting and self.executor.free() > 0:
            number = self._waiting.popleft()
            self.may_write()
            self.store.start_trial(self._open[number].trial_id, "worker")
            self.executor.submit(str(number), self._open[number].job)

    def _take(self, number: int, result: dict[str, Any]) -> None:
        """A result came: write it down or, where its worker crashed for the first time, try once more."""
        if result.get("fault") == "crash" and number not in self._retried:
            self._retried.add(number)
            self.executor.submit(str(number), self._open[number].job)
            return
        if result.get("fault") == "crash":
            result = result | {"reason": f"{result['reason']} (tried twice)"}
        self._finish(number, result)

    def _finish(self, number: int, result: dict[str, Any]) -> None:
        """Commit a result, then count it and keep it for the strategy."""
        opened = self._open[number]
        metrics: dict[str, float] = result.get("metrics", {})
        state, reason = self._judged(result["status"], result.get("reason", ""), metrics)
        trained = {Measure(name): value for name, value in metrics.items()}
        known = {m: c.value for m, c in opened.costs.items()} | trained
        complete = state == "complete"
        values = {str(o): known[o.measure] for o in self.objectives} if complete else {}
        missed = violations(self.constraints, {**opened.costs, **trained}) if complete else {}
        violation = sum(missed.values())
        weights = Path(opened.job["weights_path"]) if opened.job.get("weights_path") else None
        enters = complete and not missed and self._enters(list(values.values()))
        self.may_write()
        self.store.finish_trial(
            opened.trial_id,
            state,
            reason=told(missed) or reason,
            values=values,
            measurements=[Measurement(name, value) for name, value in metrics.items()] if complete else [],
            curve=result.get("curve", []),
            artifacts={"weights": weights} if enters and weights and weights.exists() else {},
            seconds=result.get("seconds"),
            violation=violation or None,
        )
        del self._open[number]
        self.counts[state] += 1
        self.schedule.finished(number, self._outcome(state, values, violation))
        if weights:
            weights.unlink(missing_ok=True)
        if self.listener:
            self.listener.trial(number, state, values, told(missed) or reason, not missed)
        self._changed()

    def _judged(self, state: str, reason: str, metrics: dict[str, float]) -> tuple[str, str]:
        """State and reason of a result; complete only where every metric is a number and every wanted one is there."""
        if state != "complete":
            return state, reason
        broken = [f"{name} is {value}" for name, value in metrics.items() if not math.isfinite(value)]
        if broken:
            return "diverged", ", ".join(broken)
        wanted = [*(o.measure for o in self.objectives), *(c.measure for c in self.constraints)]
        lacking = [m.name for m in dict.fromkeys(wanted) if not known_untrained(m) and m.name not in metrics]
        if lacking:
            return "failed", f"the task gave no {', '.join(lacking)}"
        return state, reason

    def _enters(self, values: list[float]) -> bool:
        """True where a complete trial is on the front so far, of which it is part from now on.

        Only the weights of such trials are kept; others are trained again where they are wanted.
        """
        points = [*self._front, values]
        flags = on_front(points, [o.direction for o in self.objectives])
        self._front = [point for point, on in zip(points, flags, strict=True) if on]
        return flags[-1]

    def _outcome(self, state: str, values: dict[str, float], violation: float) -> Outcome:
        if state == "complete":
            return Outcome(tuple(values[str(o)] for o in self.objectives), violation)
        return Outcome(tuple(placeholders(self.objectives, {})), 1.0)

    def _changed(self) -> None:
        if self.listener:
            self.listener.changed(self.counts, self.wanted)

    def _hypervolume(self) -> float:
        names = [str(o) for o in self.objectives]
        points = self.store.points(self.study.id, names)
        return hypervolume(points.values[points.feasible].tolist(), [o.direction for o in self.objectives])


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
