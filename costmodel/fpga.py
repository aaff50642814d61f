"""A profile of an FPGA design from its budget: DSP slices, clock, bit width, reuse factor, BRAM, DDR."""

from __future__ import annotations

from costmodel.hardware import Profile
from space import InputError

_PIPELINE_CYCLES = 10


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

    `reuse` is how many products one slice works off for each input (its initiation interval); a slice multiplies up to
    18 bits a cycle. Peak = 2 x DSPs x clock / reuse. Jiang et al. 2024, arXiv:2402.01047. Raises InputError.
    """
    for what, value in (("dsps", dsps), ("clock_hz", clock_hz), ("reuse", reuse), ("bram_bytes", bram_bytes)):
        if value <= 0:
            raise InputError(f"{what} must be above 0; got {value}")
    if bits not in (8, 16):
        raise InputError(f"a fixed-point width is 8 or 16 bits; got {bits}")
    given = f"given: {dsps} DSP slices, {clock_hz / 1e6:g} MHz, reuse factor {reuse}"
    dtype = "int8" if bits == 8 else "float16"
    rate = 2 * dsps * clock_hz / reuse

    def sourced(value: float, source: str = given) -> dict[str, float | str]:
        return {"value": value, "source": source}

    memory = "assumption: every slice reads an operand of BRAM a cycle"
    cycles = f"assumption: a stage of the pipeline fills in {_PIPELINE_CYCLES} cycles"
    energy = "assumption: relative, not measured"
    return Profile.model_validate(
        {
            "name": name,
            "title": f"FPGA design with {dsps} DSP slices at {clock_hz / 1e6:g} MHz, reuse {reuse}",
            "kind": "mcu",
            "matrix_flop_per_s": {"float32": sourced(rate / 4), dtype: sourced(rate)},
            "vector_flop_per_s": {"float32": sourced(rate / 2), dtype: sourced(rate / 2)},
            "transcendental_per_s": sourced(rate / 8, "assumption: one look-up table for four slices"),
            "memory": [
                {
                    "name": "bram",
                    "size_bytes": sourced(bram_bytes, "given"),
                    "bytes_per_s": sourced(2.0 * dsps * clock_hz, memory),
                    "energy_per_byte_j": sourced(5e-12, energy),
                },
                {
                    "name": "ddr",
                    "size_bytes": sourced(max(4e9, bram_bytes), "assumption: 4 GB on the board"),
                    "bytes_per_s": sourced(ddr_bytes_per_s, "given"),
                    "energy_per_byte_j": sourced(160e-12, energy),
                },
            ],
            "overhead_s": {"default": sourced(_PIPELINE_CYCLES / clock_hz, cycles)},
            "compute_efficiency": {"default": sourced(1.0, "a pipeline takes an input every `reuse` cycles")},
            "memory_efficiency": {"default": sourced(1.0, "assumption: BRAM has no bursts")},
            "spread": sourced(2.0, "assumption: not calibrated"),
            "energy_per_flop_j": {"float32": sourced(1e-12, energy)},
            "static_power_w": sourced(5.0, "assumption: a mid-size part"),
            "kernels": [],
            "pointwise_fusion": True,
            "deployment_dtype": dtype,
            "limits": {"memory_bytes": sourced(max(4e9, bram_bytes), "assumption: 4 GB on the board")},
        }
    )
