"""An FPGA by its budget: what DSP slices, clock, reuse, BRAM and DDR make of peaks and memory levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from costmodel.sourced import DtypeName, Positive, Strict
from space import InputError

if TYPE_CHECKING:
    from costmodel.hardware import Profile

DERIVED = (
    "units",
    "clock_hz",
    "macs_per_cycle",
    "matrix_flop_per_s",
    "vector_flop_per_s",
    "transcendental_per_s",
    "memory",
    "limits",
)
"""Fields of a profile that follow from the budget."""
NEAR = 0.01
"""A stated number that differs from the derived one by more than this share contradicts the budget."""
_PIPELINE_CYCLES = 10


class FpgaBudget(Strict):
    """What a design may use of an FPGA, each number with its source."""

    dsps: Positive
    clock_hz: Positive
    reuse: Positive
    macs_per_dsp: dict[DtypeName, Positive]
    bram_bytes: Positive
    ddr_bytes: Positive
    ddr_bus_bits: Positive
    ddr_transfers_per_s: Positive

    @property
    def ddr_bytes_per_s(self) -> float:
        """Bus width x transfer rate."""
        return self.ddr_bus_bits.value / 8 * self.ddr_transfers_per_s.value


def derived(budget: FpgaBudget) -> dict[str, Any]:
    """The profile's fields that follow from a budget (`DERIVED`), as a profile file writes them.

    Products: 2 x DSPs x products a slice x clock / reuse, where `reuse` is how many products one slice works off for
    each input (its initiation interval; Jiang et al. 2024, arXiv:2402.01047). On-chip memory: every slice reads an
    operand of 16 bits a cycle. DDR: bus x transfers.
    """
    dsps, clock = budget.dsps.value, budget.clock_hz.value
    slices = dsps * clock / budget.reuse.value
    given = f"{dsps:g} DSP slices, {clock / 1e6:g} MHz, reuse {budget.reuse.value:g}"

    def of(value: float, source: str) -> dict[str, Any]:
        return {"value": value, "source": source}

    products = {
        name: of(2 * slices * macs.value, f"{given}, {macs.value:g} products a slice: {macs.source}")
        for name, macs in budget.macs_per_dsp.items()
    }
    vector = {
        name: of(
            slices * min(1.0, 2 * macs.value),
            f"assumption: a slice adds or multiplies one pair a cycle, or half; {given}",
        )
        for name, macs in budget.macs_per_dsp.items()
    }
    bus = f"{budget.ddr_bus_bits.value:g} bits x {budget.ddr_transfers_per_s.value / 1e6:g} MT/s"
    energy = "assumption: relative, not measured"
    return {
        "units": budget.dsps.model_dump(),
        "clock_hz": budget.clock_hz.model_dump(),
        "macs_per_cycle": {name: macs.model_dump() for name, macs in budget.macs_per_dsp.items()},
        "matrix_flop_per_s": products,
        "vector_flop_per_s": vector,
        "transcendental_per_s": of(slices / 4, f"assumption: one look-up table for four slices; {given}"),
        "memory": [
            {
                "name": "bram",
                "size_bytes": budget.bram_bytes.model_dump(),
                "bytes_per_s": of(2 * dsps * clock, f"assumption: every slice reads 16 bits of BRAM a cycle; {given}"),
                "energy_per_byte_j": of(5e-12, energy),
            },
            {
                "name": "ddr",
                "size_bytes": budget.ddr_bytes.model_dump(),
                "bytes_per_s": of(budget.ddr_bytes_per_s, f"{bus}: {budget.ddr_transfers_per_s.source}"),
                "energy_per_byte_j": of(100e-12, energy),
            },
        ],
        "limits": {"memory_bytes": budget.ddr_bytes.model_dump()},
    }


def contradiction(
    stated: Any, wanted: Any, path: tuple[str | int, ...] = ()
) -> tuple[list[str | int], float, float] | None:
    """The first number of a profile's fields that isn't what the budget gives: path, stated, derived; None: all agree.

    Numbers that only one side has are left alone (a file may state the energies of its memory, say).
    """
    if isinstance(wanted, Mapping) and "value" in wanted:
        value = stated.get("value") if isinstance(stated, Mapping) else None
        if isinstance(value, int | float) and abs(value - wanted["value"]) > NEAR * abs(wanted["value"]):
            return [*path, "value"], float(value), float(wanted["value"])
        return None
    if isinstance(wanted, Mapping) and isinstance(stated, Mapping):
        steps: Any = [(key, stated[key], inner) for key, inner in wanted.items() if key in stated]
    elif isinstance(wanted, list) and isinstance(stated, list):
        steps = [(i, one, inner) for i, (one, inner) in enumerate(zip(stated, wanted, strict=False))]
    else:
        return None
    for key, one, inner in steps:
        if key == "energy_per_byte_j":
            continue
        if found := contradiction(one, inner, (*path, key)):
            return found
    return None


def fpga_profile(
    dsps: int,
    clock_hz: float,
    reuse: int = 1,
    bits: int = 16,
    bram_bytes: float = 4e6,
    ddr_bytes_per_s: float = 19.2e9,
    name: str = "fpga",
) -> Profile:
    """A dataflow design in fixed point, as hls4ml makes them: weights in BRAM, non-linearities in look-up tables.

    One product a slice and cycle, of up to 18 bits; otherwise what `derived` makes of the budget. Raises InputError.
    """
    from costmodel.hardware import Profile

    for what, value in (("dsps", dsps), ("clock_hz", clock_hz), ("reuse", reuse), ("bram_bytes", bram_bytes)):
        if value <= 0:
            raise InputError(f"{what} must be above 0; got {value}")
    if bits not in (8, 16):
        raise InputError(f"a fixed-point width is 8 or 16 bits; got {bits}")
    dtype = "int8" if bits == 8 else "float16"

    def of(value: float, source: str = "given") -> dict[str, Any]:
        return {"value": value, "source": source}

    slices = "assumption: a slice multiplies up to 18 bits; four make a float32 product"
    return Profile.model_validate(
        {
            "name": name,
            "title": f"FPGA design with {dsps} DSP slices at {clock_hz / 1e6:g} MHz, reuse {reuse}",
            "kind": "fpga",
            "fpga": {
                "dsps": of(dsps),
                "clock_hz": of(clock_hz),
                "reuse": of(reuse),
                "macs_per_dsp": {"float32": of(0.25, slices), dtype: of(1, slices)},
                "bram_bytes": of(bram_bytes),
                "ddr_bytes": of(max(4e9, bram_bytes), "assumption: 4 GB on the board"),
                "ddr_bus_bits": of(64, "assumption: one channel"),
                "ddr_transfers_per_s": of(ddr_bytes_per_s / 8),
            },
            "overhead_s": {
                "default": of(
                    _PIPELINE_CYCLES / clock_hz,
                    f"assumption: a stage of the pipeline fills in {_PIPELINE_CYCLES} cycles",
                )
            },
            "compute_efficiency": {"default": of(1.0, "a pipeline takes an input every `reuse` cycles")},
            "memory_efficiency": {"default": of(1.0, "assumption: BRAM has no bursts")},
            "spread": of(2.0, "assumption: not calibrated"),
            "energy_per_flop_j": {"float32": of(1e-12, "assumption: relative, not measured")},
            "static_power_w": of(5.0, "assumption: a mid-size part"),
            "pointwise_fusion": True,
            "deployment_dtype": dtype,
        }
    )
