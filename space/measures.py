"""What objectives and constraints speak of: a measurement, on a device, in a situation."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal

from space.errors import InputError, did_you_mean
from space.yaml_loader import parse_quantity

DIMENSIONS = {
    "params": "count",
    "params_active": "count",
    "params_deployed": "count",
    "macs": "count",
    "macs_executed": "count",
    "vector_flops": "count",
    "weight_bytes": "bytes",
    "state_bytes": "bytes",
    "latency": "seconds",
    "energy": "joules",
    "peak_memory": "bytes",
}
ON_DEVICE = ("latency", "energy", "peak_memory")
STRUCTURE = ("depth", "count")
TASK_METRICS = {"accuracy": "count", "loss": "count", "bits_per_byte": "count"}
PHASES = ("inference", "training", "prefill", "decode")
_MEASURE = re.compile(
    r"\s*(?P<name>[a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)?)\s*(?:@\s*(?P<hardware>[A-Za-z0-9._-]+))?\s*(?:\((?P<inside>[^()]*)\))?\s*"
)
_PROBABLE = re.compile(r"P\s*\((?P<inside>.+)\)\s*(?P<sign><=|>=|==|<|>|=)\s*(?P<share>[^<>=()]+)")
_CONSTRAINT = re.compile(r"(?P<left>.+?)(?P<sign><=|>=|==|<|>|=)(?P<right>[^<>=]+)")


@dataclass(frozen=True)
class Measure:
    """A measurement: `latency@h100-sxm(decode, batch=8, length=4096)`, `params`, `count(attention)`."""

    name: str
    hardware: str | None = None
    phase: str = "inference"
    batch: int = 1
    length: int | None = None
    kind: str = ""

    @property
    def dimension(self) -> str:
        """The dimension of its values: count, bytes, seconds or joules."""
        return DIMENSIONS.get(self.name, "count")

    @property
    def is_cost(self) -> bool:
        """True where the cost model gives it, without training."""
        return self.name in DIMENSIONS

    @property
    def is_structural(self) -> bool:
        """True where the document alone gives it."""
        return self.name in STRUCTURE

    @property
    def situation(self) -> str:
        """Phase, batch and length where they differ from inference of one input; empty otherwise."""
        parts = [self.phase] if self.phase != "inference" else []
        parts += [f"batch={self.batch}"] if self.batch != 1 else []
        parts += [f"length={self.length}"] if self.length is not None else []
        return ", ".join(parts)

    def __str__(self) -> str:
        if self.name == "count":
            return f"count({self.kind})"
        device = f"@{self.hardware}" if self.hardware else ""
        return f"{self.name}{device}" + (f"({self.situation})" if self.situation else "")


@dataclass(frozen=True)
class Objective:
    """A measure and its direction."""

    measure: Measure
    direction: Literal["max", "min"]

    @property
    def sign(self) -> float:
        """+1 where less is better, -1 where more is."""
        return 1.0 if self.direction == "min" else -1.0

    def __str__(self) -> str:
        return str(self.measure)


@dataclass(frozen=True)
class Constraint:
    """`measure sign bound`, the bound in SI base units."""

    measure: Measure
    sign: Literal["<=", ">=", "<", ">"]
    bound: float
    text: str
    probability: float | None = None
    """Of `P(measure <= bound) >= probability`; None: the expected value counts."""

    def level(self, value: Any, low: Any, high: Any) -> Any:
        """What is held against the bound, of numbers or arrays above 0: the expected value, or a quantile.

        `low` and `high` are the 10 % and 90 % quantiles of an estimate, `value` its median; between and beyond them it
        is taken as log-normal, with a spread of its own on either side.
        """
        if self.probability is None:
            return value
        share = self.probability if self.sign[0] == "<" else 1 - self.probability
        steps = NormalDist().inv_cdf(share) / NormalDist().inv_cdf(0.9)
        return value * ((high if steps > 0 else low) / value) ** abs(steps)

    def violation(self, value: float, low: float | None = None, high: float | None = None) -> float:
        """How far a value is on the wrong side, relative to the bound; 0 where it is met."""
        if low is not None and high is not None and value > 0:
            value = self.level(value, low, high)
        over = value - self.bound if self.sign[0] == "<" else self.bound - value
        if over < 0 or (over == 0 and "=" in self.sign):
            return 0.0
        return max(over / max(abs(self.bound), 1e-12), 1e-12)

    def __str__(self) -> str:
        return self.text


def parse_measure(text: str, metrics: tuple[str, ...] = tuple(TASK_METRICS)) -> Measure:
    """Parse a measure. `metrics` are the task's own. Raises InputError with the way out."""
    matched = _MEASURE.fullmatch(text)
    if not matched:
        raise InputError(
            f"expected a measure such as `accuracy`, `params` or `latency@h100-sxm(decode, batch=8)`; got {text!r}"
        )
    name, hardware, inside = matched["name"], matched["hardware"], matched["inside"]
    if name == "count":
        if not inside or hardware:
            raise InputError(f"expected count(KIND), such as count(attention); got {text!r}")
        return Measure("count", kind=inside.strip())
    known = [*metrics, *DIMENSIONS, "depth"]
    if name not in known:
        raise InputError(f"unknown measure {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}, count(KIND)")
    if name in ON_DEVICE and hardware is None:
        raise InputError(f"{name} needs a device: `{name}@h100-sxm` (`nas hardware` lists them)")
    if name not in ON_DEVICE and hardware is not None:
        raise InputError(f"{name} doesn't depend on a device; write `{name}` without @{hardware}")
    if inside is None:
        return Measure(name, hardware)
    if name not in DIMENSIONS:
        raise InputError(f"{name} takes no situation; got ({inside})")
    return _situation(Measure(name, hardware), inside)


def _situation(measure: Measure, inside: str) -> Measure:
    phase, batch, length = measure.phase, measure.batch, measure.length
    for part in filter(None, (p.strip() for p in inside.split(","))):
        key, equals, value = (p.strip() for p in part.partition("="))
        if not equals and key in PHASES:
            phase = key
        elif equals and key in ("batch", "length"):
            if not re.fullmatch("[0-9]{1,10}", value) or not 1 <= int(value) <= 10**9:
                raise InputError(f"expected {key}= a whole number from 1 to 1,000,000,000; got {value!r}")
            batch, length = (int(value), length) if key == "batch" else (batch, int(value))
        else:
            known = [*PHASES, "batch", "length"]
            raise InputError(
                f"expected a phase ({', '.join(PHASES)}), batch=N or length=N; got {part!r}{did_you_mean(key, known)}"
            )
    return Measure(measure.name, measure.hardware, phase, batch, length)


def parse_constraint(text: str, metrics: tuple[str, ...] = tuple(TASK_METRICS)) -> Constraint:
    """Parse `params <= 200K`, `count(attention) <= 2`, `P(latency@x <= 5ms) >= 0.9`. Raises InputError."""
    if probable := _PROBABLE.fullmatch(text.strip()):
        return _probable(probable, text.strip(), metrics)
    matched = _CONSTRAINT.fullmatch(text.strip())
    if not matched:
        raise InputError(f"expected `measure <= number` or `measure >= number`; got {text!r}")
    if matched["sign"] in ("=", "=="):
        raise InputError(f"expected <=, >=, < or >; got {matched['sign']!r} in {text!r}")
    measure = parse_measure(matched["left"], metrics)
    bound = parse_quantity(matched["right"], measure.dimension)
    return Constraint(measure, matched["sign"], bound, text.strip())  # type: ignore[arg-type]


def _probable(matched: re.Match[str], text: str, metrics: tuple[str, ...]) -> Constraint:
    inner = parse_constraint(matched["inside"], metrics)
    if inner.probability is not None:
        raise InputError(f"expected one P(...) around a constraint; got {text!r}")
    if inner.measure.name != "latency":
        raise InputError(
            f"only latency is an estimate with an interval; write `{inner.text}` without P(...) and its share"
        )
    if matched["sign"] not in (">=", ">"):
        raise InputError(f"expected P(...) >= a share; got {matched['sign']!r} in {text!r}")
    share = parse_quantity(matched["share"], "count")
    if not 0 < share < 1:
        raise InputError(f"expected a share above 0 and below 1; got {matched['share'].strip()} (90 % is 0.9)")
    return replace(inner, text=text, probability=share)


def never_met(constraint: Constraint, kinds: set[str] | None = None) -> str:
    """Why no candidate can meet a constraint, given the kinds of block there may be; empty where one may."""
    measure, bound = constraint.measure, constraint.bound
    if constraint.sign[0] == "<" and measure.name != "loss" and (bound < 0 or (bound == 0 and constraint.sign == "<")):
        return f"no candidate can meet `{constraint}`: {measure.name} is never below 0"
    if measure.name == "accuracy" and (bound > 1 or (bound == 1 and constraint.sign == ">")):
        return f"accuracy is a share from 0 to 1; got `{constraint}` (95 % is 0.95)"
    if measure.name == "count" and kinds is not None and measure.kind not in kinds and constraint.violation(0) > 0:
        return f"no candidate can meet `{constraint}`: the architecture holds no {measure.kind}"
    return ""


def contradictions(constraints: list[Constraint]) -> list[tuple[Constraint, Constraint]]:
    """Pairs of constraints on one measure that no value meets."""
    found = []
    for i, first in enumerate(constraints):
        for second in constraints[i + 1 :]:
            if first.probability != second.probability:
                continue
            if first.measure != second.measure or first.sign[0] == second.sign[0]:
                continue
            upper, lower = (first, second) if first.sign[0] == "<" else (second, first)
            strict = "=" not in upper.sign or "=" not in lower.sign
            if lower.bound > upper.bound or (strict and lower.bound == upper.bound):
                found.append((first, second))
    return found
