"""What an architecture costs: counts, time, energy and memory on devices."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from costmodel.blocks import node_table
from costmodel.hardware import Profile, as_profile, check_dtype
from costmodel.lengths import check_lengths, table_of_lengths
from costmodel.memory_checkpoint import checkpointed
from costmodel.memory_graph import capture
from costmodel.memory_patches import patched, tiled
from costmodel.memory_plan import PlanOptions
from costmodel.memory_plan import plan as make_plan
from costmodel.pieces import Situated, part_of, peak_of
from costmodel.precision import Precision, uniform
from costmodel.pricing import Priced, price
from costmodel.rates import held_by
from costmodel.record import PHASES
from costmodel.rows import block_rows, operator_rows
from costmodel.segment import TOTALS, Segment
from costmodel.table import ITEMSIZE, C, OperatorTable, alive_bytes, peak_activation_bytes
from costmodel.trace import outside_inference_mode
from costmodel.written import Written
from space.block import Node
from space.deployment import deployed_node, folds
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
    table: OperatorTable
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
    where masked or unrouted work is skipped and complex products are four real ones; everything else is in `vector_flops` and `transcendentals`. `unknown` names
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
    checkpoint: bool
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
        rows = operator_rows(self.hardware[hardware].table, self.hardware[hardware].priced)
        return rows if what == "operator" else block_rows(rows)


def cost(
    architecture: Priceable,
    hardware: str | Path | Profile | Sequence[str | Path | Profile] = (),
    phase: str = "inference",
    batch: int = 1,
    length: int | None = None,
    dtype: str | None = None,
    *,
    precision: Precision | str | None = None,
    lengths: Sequence[int] | None = None,
    padding: str = "packed",
    checkpoint: bool = False,
    patches: tuple[int, int] | None = None,
    tiles: tuple[int, int] | None = None,
    plan: PlanOptions | None = None,
) -> Cost:
    """The cost of an architecture, without running it.

    `phase` is inference, training (forward, backward, AdamW), prefill, or decode (one position after `length`, by default the
    last position of the input).
    `length` otherwise replaces the input's length. `dtype` is the precision of weights and activations: by default
    float32, or what the profile states as its deployment precision; `precision` states it by role
    (`weights=int4,activations=float16,kv=int8`). `lengths` is a batch of sequences of these lengths (contexts in
    decode), `padding` "packed" or "max" (to the longest). `checkpoint` (training): every outer block keeps only its
    input and runs forward twice. `patches` (rows, columns; inference): the first blocks run patch by patch. `tiles`
    (side, overlap; inference of image to image): the network runs tile by tile. `plan` (inference): a static memory
    plan with these liberties takes the place of liveness. Raises InputError for what can't be asked, ShapeError where
    a block can't take the length.
    """
    _check(phase, batch, length)
    if dtype is not None:
        check_dtype(dtype)
    roles = _roles(dtype, precision)
    if checkpoint and phase != "training":
        raise InputError(f"checkpoints are for phase 'training'; got phase {phase!r}")
    pieces = [name for name, given in (("patches", patches), ("tiles", tiles), ("plan", plan)) if given is not None]
    if pieces and (phase != "inference" or len(pieces) > 1 or lengths is not None):
        raise InputError(f"{' and '.join(pieces)}: ask for one of these, in phase 'inference', without lengths")
    if lengths is not None:
        check_lengths(lengths, padding)
        if batch != 1 or length is not None:
            raise InputError("lengths state the batch and its lengths; leave `batch` and `length` out")
        batch, length = len(lengths), max(lengths)
    profiles = [as_profile(h) for h in ([hardware] if isinstance(hardware, str | Path | Profile) else hardware)]
    shape, context = _situation(architecture.input_shape, phase, length)
    written = Written.of(architecture.node)
    folded = Written.of(deployed_node(written.node)) if any(map(folds, written.parts)) else written
    form = written if phase == "training" else folded
    if lengths is not None:
        table, segment = table_of_lengths(form.node, shape, phase, lengths, padding)
    else:
        table, segment = node_table(form, shape, phase, batch, context)
    other = segment if folded is written else node_table(folded if phase == "training" else written, shape)[1]
    if patches is not None:
        table = patched(form.node, shape, *patches, batch=batch).table
    elif tiles is not None:
        table, _ = tiled(form.node, shape, *tiles, batch=batch)
    planned = None
    if plan is not None:
        with outside_inference_mode():
            planned = make_plan(capture(form.node, shape, batch), plan).peak_bytes
    trained, deployed = (segment, other) if phase == "training" else (other, segment)
    # A run forward of the recording as it is: everything follows from its blocks, without its table.
    plain = phase != "training" and lengths is None and patches is None and tiles is None
    unknown = sorted(segment.unknown()) if plain else table.unknown
    if unknown:
        warnings.warn(
            f"no formula for {', '.join(unknown)}: counted as one vector operation an element",
            UserWarning,
            stacklevel=2,
        )
    chosen = roles or uniform(dtype or "float32")
    counted = checkpointed(table, segment) if checkpoint else table
    totals = segment.totals() if plain else counted.matrix[counted.select()][:, _TOTALS].sum(axis=0)
    return Cost(
        architecture=architecture.id,
        phase=phase,
        batch=batch,
        params=trained.parameters,
        params_active=round(segment.active),
        params_deployed=deployed.parameters,
        macs=float(totals[0]),
        macs_executed=float(totals[1]),
        vector_flops=float(totals[2]),
        transcendentals=float(totals[3]),
        weight_bytes=segment.parameters * chosen.weight_bytes_each,
        buffer_bytes=_scaled(segment.buffer_bytes, segment.buffer_fixed, chosen.activations),
        state_bytes=_scaled(segment.state_bytes, segment.state_fixed, chosen.kv),
        checkpoint=checkpoint,
        table=counted,
        unknown=tuple(unknown),
        hardware={p.name: _on(p, table, segment, phase, roles, checkpoint, planned, plain) for p in profiles},
    )


def _roles(dtype: str | None, precision: Precision | str | None) -> Precision | None:
    if dtype is not None and precision is not None:
        raise InputError("give either dtype or precision, not both")
    if isinstance(precision, str):
        return Precision.parse(precision)
    return precision or (uniform(dtype) if dtype is not None else None)


_TOTALS = [C[name] for name in TOTALS]


def _on(
    profile: Profile,
    table: OperatorTable,
    segment: Segment,
    phase: str,
    roles: Precision | None,
    checkpoint: bool,
    planned: float | None,
    plain: bool,
) -> HardwareCost:
    training = phase == "training"
    roles = roles or uniform("float32" if training else profile.deployment_dtype)
    chosen = roles.activations
    if checkpoint:
        table = checkpointed(table, segment, profile.kernels)
    weights = segment.parameters * roles.weight_bytes_each
    weights += _scaled(segment.buffer_bytes, segment.buffer_fixed, chosen)
    if plain:
        device = Situated.of(profile, roles, weights)
        priced = part_of(segment, device).priced(profile)
        peak = peak_of(segment, device) if planned is None else planned * ITEMSIZE[chosen] / 4.0
    else:
        priced = price(roles.traffic(table.matrix), profile, chosen, weights)
        peak = peak_activation_bytes(table, list(profile.kernels), ITEMSIZE[chosen], **held_by(profile))
    working = peak + _scaled(segment.state_bytes, segment.state_fixed, roles.kv)
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
        table=table,
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


def peak_over_time(cost: Cost, hardware: str) -> np.ndarray:
    """Activation bytes alive at each operator that runs on a device, in order."""
    one = cost.hardware[hardware]
    return alive_bytes(one.table.matrix[one.priced.rows], ITEMSIZE[one.dtype], **held_by(one.profile))
