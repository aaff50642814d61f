"""What an architecture costs: counts, time, energy and memory on devices."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from costmodel.blocks import node_table
from costmodel.hardware import Profile, as_profile, check_dtype
from costmodel.pricing import BOUNDS, Priced, price
from costmodel.record import PHASES
from costmodel.segment import Segment
from costmodel.table import ITEMSIZE, KINDS, C, OperatorTable, operator_name, peak_activation_bytes
from space.block import Node
from space.deployment import deployed_form
from space.errors import InputError, did_you_mean
from space.shape import Shape


class Priceable(Protocol):
    """What `cost` needs of an architecture."""

    @property
    def id(self) -> str: ...
    @property
    def node(self) -> Node: ...
    @property
    def input_shape(self) -> Shape: ...


@dataclass(frozen=True)
class HardwareCost:
    """Cost on one device. Times in seconds; `fits` is None where the profile states no limit."""

    profile: Profile
    dtype: str
    priced: Priced
    latency_low_s: float
    latency_s: float
    latency_high_s: float
    energy_j: float
    peak_memory_bytes: float
    weight_bytes: float
    fits: bool | None
    bound: str

    def to_json(self) -> dict[str, Any]:
        """The part of `Cost.to_json()` for one device."""
        return {
            "latency_s": {"low": self.latency_low_s, "expected": self.latency_s, "high": self.latency_high_s},
            "energy_j": self.energy_j,
            "peak_memory_bytes": round(self.peak_memory_bytes),
            "fits": self.fits,
            "bound": self.bound,
        }


@dataclass(frozen=True)
class Cost:
    """Counts of one architecture in one situation, and its price on each device asked for.

    `params` counts every weight of the training form once, however often it's used, `params_deployed` those of the
    form with every block folded, which all phases but training price; `params_active` weighs each by the share of the
    runs that use it (routing, early exit). MACs are `macs` by the formula and `macs_executed`
    where masked or unrouted work is skipped; everything else is in `vector_flops` and `transcendentals`. `unknown` names
    operators that no formula covers.
    """

    architecture: str
    phase: str
    batch: int
    params: int
    params_active: int
    params_deployed: int
    macs: float
    macs_executed: float
    vector_flops: float
    transcendentals: float
    weight_bytes: float
    buffer_bytes: float
    state_bytes: float
    table: OperatorTable
    unknown: tuple[str, ...]
    hardware: dict[str, HardwareCost] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data in SI base units, under the names that every `--json` uses."""
        return {
            "architecture": self.architecture,
            "params": self.params,
            "params_active": self.params_active,
            "params_deployed": self.params_deployed,
            "macs": int(self.macs),
            "macs_executed": int(self.macs_executed),
            "vector_flops": int(self.vector_flops),
            "weight_bytes": int(self.weight_bytes),
            "state_bytes": int(self.state_bytes),
            "hardware": {name: one.to_json() for name, one in self.hardware.items()},
        }

    def by(self, what: Literal["operator", "block"], hardware: str) -> list[dict[str, Any]]:
        """Rows of the price on one device, by operator in running order or summed by document node.

        Energy leaves static power out. Raises InputError for a device that wasn't asked for.
        """
        if hardware not in self.hardware:
            raise InputError(
                f"this cost was not asked for {hardware!r}{did_you_mean(hardware, self.hardware)};"
                f" it has: {', '.join(self.hardware) or 'none'}"
            )
        if what not in ("operator", "block"):
            raise InputError(f"a cost is shown by 'operator' or by 'block'; got {what!r}")
        rows = _operator_rows(self.table, self.hardware[hardware].priced)
        return rows if what == "operator" else _block_rows(rows)


def cost(
    architecture: Priceable,
    hardware: str | Path | Profile | Sequence[str | Path | Profile] = (),
    phase: str = "inference",
    batch: int = 1,
    length: int | None = None,
    dtype: str | None = None,
) -> Cost:
    """The cost of an architecture, without running it.

    `phase` is inference, training (forward, backward, AdamW), prefill, or decode (one position after `length`, by default the
    last position of the input).
    `length` otherwise replaces the input's length. `dtype` is the precision of weights and activations: by default
    float32, or what the profile states as its deployment precision. Raises InputError for what can't be asked,
    ShapeError where a block can't take the length.
    """
    _check(phase, batch, length)
    if dtype is not None:
        check_dtype(dtype)
    profiles = [as_profile(h) for h in ([hardware] if isinstance(hardware, str | Path | Profile) else hardware)]
    shape, context = _situation(architecture.input_shape, phase, length)
    node = architecture.node
    deployed = deployed_form(node)
    table, segment = node_table(node if phase == "training" else deployed, shape, phase, batch, context)
    other = segment if deployed is node else node_table(deployed if phase == "training" else node, shape)[1]
    trained, folded = (segment, other) if phase == "training" else (other, segment)
    unknown = table.unknown
    if unknown:
        warnings.warn(
            f"no formula for {', '.join(unknown)}: counted as one vector operation an element",
            UserWarning,
            stacklevel=2,
        )
    chosen = dtype or "float32"
    totals = table.matrix[table.select()][:, _TOTALS].sum(axis=0)
    return Cost(
        architecture=architecture.id,
        phase=phase,
        batch=batch,
        params=trained.parameters,
        params_active=round(segment.active),
        params_deployed=folded.parameters,
        macs=float(totals[0]),
        macs_executed=float(totals[1]),
        vector_flops=float(totals[2]),
        transcendentals=float(totals[3]),
        weight_bytes=segment.parameters * ITEMSIZE[chosen],
        buffer_bytes=_scaled(segment.buffer_bytes, segment.buffer_fixed, chosen),
        state_bytes=_scaled(segment.state_bytes, segment.state_fixed, chosen),
        table=table,
        unknown=tuple(unknown),
        hardware={p.name: _on(p, table, segment, phase, dtype) for p in profiles},
    )


_TOTALS = [C[name] for name in ("macs", "macs_executed", "vector_flops", "transcendentals")]


def _on(profile: Profile, table: OperatorTable, segment: Segment, phase: str, dtype: str | None) -> HardwareCost:
    training = phase == "training"
    chosen = dtype or ("float32" if training else profile.deployment_dtype)
    weights = segment.parameters * ITEMSIZE[chosen] + _scaled(segment.buffer_bytes, segment.buffer_fixed, chosen)
    priced = price(table.matrix, profile, chosen, weights)
    peak = peak_activation_bytes(table, profile.kernels, ITEMSIZE[chosen])
    working = peak + _scaled(segment.state_bytes, segment.state_fixed, chosen)
    if training:
        working += 8.0 * segment.trainable
    fits = None
    limits = profile.limits
    if limits.sram_bytes is not None and limits.flash_bytes is not None:
        fits = working <= limits.sram_bytes.value and weights <= limits.flash_bytes.value
    else:
        working += weights
        if limits.memory_bytes is not None:
            fits = working <= limits.memory_bytes.value
    return HardwareCost(
        profile=profile,
        dtype=chosen,
        priced=priced,
        latency_low_s=float(priced.low.sum()),
        latency_s=float(priced.expected.sum()),
        latency_high_s=float(priced.high.sum()),
        energy_j=priced.energy_j,
        peak_memory_bytes=working,
        weight_bytes=weights,
        fits=fits,
        bound=priced.bound_name,
    )


def _scaled(total: float, fixed: float, dtype: str) -> float:
    return (total - fixed) * ITEMSIZE[dtype] / 4 + fixed


def _check(phase: str, batch: int, length: int | None) -> None:
    if phase not in PHASES:
        raise InputError(f"unknown phase {phase!r}{did_you_mean(phase, PHASES)}; known: {', '.join(PHASES)}")
    if batch < 1:
        raise InputError(f"batch must be 1 or more; got {batch}")
    if length is not None and length < 1:
        raise InputError(f"length must be 1 or more; got {length}")


def _situation(shape: Shape, phase: str, length: int | None) -> tuple[Shape, int]:
    """Input shape and decode context."""
    if shape.layout in ("grid", "video", "vector") and (length is not None or phase in ("decode", "prefill")):
        asked = f"phase {phase!r}" if phase in ("decode", "prefill") else "length"
        raise InputError(f"{asked} needs an input of tokens or a series; this one is {shape}")
    if phase == "decode":
        # Without a length: the step that fills the last position of the input.
        return shape, length if length is not None else max(shape.length - 1, 0)
    return (shape.with_(length=length), 0) if length is not None else (shape, 0)


def _operator_rows(table: OperatorTable, priced: Priced) -> list[dict[str, Any]]:
    matrix = table.matrix[priced.rows]
    return [
        {
            "operator": operator_name(row[C["name"]]),
            "class": KINDS[int(row[C["kind"]])],
            "part": ("forward", "backward", "update")[int(row[C["part"]])],
            "block": table.blocks[int(row[C["block"]])],
            "macs": int(row[C["macs"]]),
            "macs_executed": int(row[C["macs_executed"]]),
            "vector_flops": int(row[C["vector_flops"]]),
            "bytes_read": int(row[C["bytes_read"]]),
            "bytes_written": int(row[C["bytes_written"]]),
            "latency_s": float(priced.expected[i]),
            "energy_j": float(priced.energy[i]),
            "bound": BOUNDS[priced.bound[i]],
        }
        for i, row in enumerate(matrix)
    ]


_SUMMED = ("macs", "macs_executed", "vector_flops", "bytes_read", "bytes_written", "latency_s", "energy_j")


def _block_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    sums: dict[str, dict[str, Any]] = {}
    times: dict[str, dict[str, float]] = {}
    for row in rows:
        place = row["block"]
        mine = sums.setdefault(place, {"block": place, "operators": 0, **dict.fromkeys(_SUMMED, 0)})
        mine["operators"] += 1
        for name in _SUMMED:
            mine[name] += row[name]
        by_bound = times.setdefault(place, dict.fromkeys(BOUNDS, 0.0))
        by_bound[row["bound"]] += row["latency_s"]
    for place, mine in sums.items():
        mine["bound"] = max(BOUNDS, key=lambda b, place=place: times[place][b])  # type: ignore[misc]
    return list(sums.values())


def peak_over_time(cost: Cost, hardware: str) -> np.ndarray:
    """Activation bytes alive at each operator that runs on a device, in order."""
    from costmodel.table import allocations

    one = cost.hardware[hardware]
    allocated, freed = allocations(cost.table.matrix[one.priced.rows], ITEMSIZE[one.dtype])
    alive = np.cumsum(allocated)
    alive[1:] -= np.cumsum(freed)[:-1]
    return alive
