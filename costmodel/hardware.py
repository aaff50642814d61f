"""Hardware profiles: YAML files in which every number carries its source."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from costmodel.correction import Calibration
from costmodel.fpga import DERIVED, FpgaBudget, contradiction, derived
from costmodel.sourced import DtypeName, KindName, Positive, Share, Sourced, Strict
from space.errors import InputError, NameUnknown, Problem, SpaceError, did_you_mean
from space.yaml_loader import Mark, YamlNode, load_yaml_file

MOST_OVER_PARTS = 1.6
"""A peak above so many times units x multiply-accumulates x clock is one with sparsity."""
FOLDER = Path(__file__).parent / "profiles"


class MemoryLevel(Strict):
    """One level of memory, nearest the arithmetic first."""

    name: str
    size_bytes: Positive
    bytes_per_s: Positive
    energy_per_byte_j: Sourced


class Limits(Strict):
    """What a network must fit into: `memory_bytes` in all, or on a microcontroller SRAM and flash apart."""

    memory_bytes: Positive | None = None
    sram_bytes: Positive | None = None
    flash_bytes: Positive | None = None


class Link(Strict):
    """A connection to an equal device."""

    name: str
    bytes_per_s: Positive
    latency_s: Sourced


class OperationEnergies(Strict):
    """Joules of one multiplication, addition and shift by element type."""

    multiply: dict[DtypeName, Sourced]
    add: dict[DtypeName, Sourced]
    shift: dict[DtypeName, Sourced]

    @model_validator(mode="after")
    def _complete(self) -> OperationEnergies:
        for operation in ("multiply", "add", "shift"):
            if "float32" not in getattr(self, operation):
                raise ValueError(f"energy_per_operation_j.{operation} needs an entry `float32`")
        return self

    @functools.cached_property
    def by_element(self) -> dict[str, Any]:
        """Operation -> joules as an array over DTYPES; a type that isn't stated takes the next wider one's."""
        from costmodel.rates import by_dtype

        return {
            operation: by_dtype({k: v.value for k, v in getattr(self, operation).items()})
            for operation in ("multiply", "add", "shift")
        }


def _with_sources(told: Any) -> Any:
    if isinstance(told, list) and all(isinstance(kind, str) for kind in told):
        return dict.fromkeys(told, "assumption: as the profile's author says")
    return told


Kernels = Annotated[dict[str, str], BeforeValidator(_with_sources)]
"""Kind of fused region -> the public kernel that runs it; a list of kinds is taken too."""


class Profile(Strict):
    """One device. Rates are dense peaks in operations a second (a multiply-accumulate is two)."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    title: str
    kind: Literal["gpu", "cpu", "mcu", "npu", "fpga"]
    units: Positive | None = Field(None, description="multiprocessors or cores that work is spread over")
    clock_hz: Positive | None = None
    macs_per_cycle: dict[DtypeName, Positive] = Field(
        default_factory=dict, description="dense multiply-accumulates of one unit and cycle, by element type"
    )
    sparse_multiplier: Positive | None = Field(None, description="structured sparsity's gain over the dense peak")
    matrix_flop_per_s: dict[DtypeName, Positive] = Field(description="peak of the unit for products and convolutions")
    vector_flop_per_s: dict[DtypeName, Positive] = Field(description="peak of elementwise work, by element type")
    transcendental_per_s: Positive
    memory: list[MemoryLevel] = Field(min_length=1)
    weights_in: str = Field("", description="memory level that weights are always read from (flash)")
    overhead_s: dict[KindName, Sourced] = Field(description="time an operator takes to start, by class or `default`")
    compute_efficiency: dict[KindName, Share]
    memory_efficiency: dict[KindName, Share]
    spread: Positive = Field(description="high estimate / expected estimate")
    energy_per_flop_j: dict[DtypeName, Sourced]
    energy_per_operation_j: OperationEnergies | None = Field(
        None, description="energy of multiplications, additions and shifts apart; none: energy_per_flop_j for all"
    )
    static_power_w: Sourced
    board_power_w: Positive | None = Field(None, description="power limit: work that needs more runs slower")
    kernels: Kernels = Field(default_factory=dict, description="fused regions that run as one kernel, and whose")
    pointwise_fusion: bool = False
    deployment_dtype: DtypeName = Field("float32", description="precision unless the user asks for another")
    limits: Limits
    links: list[Link] = Field(default_factory=list)
    fpga: FpgaBudget | None = Field(None, description="DSPs, clock, BRAM and DDR, from which the rates above follow")
    calibration: Calibration | None = Field(
        None, description="what measurements on this device taught (`nas calibrate`)"
    )

    def arithmetic_energy(self, rows: Any, macs: Any, vector: Any, special: Any, element: Any, per_flop: Any) -> Any:
        """Joules of every row's arithmetic (`costmodel.energy.arithmetic_energy`)."""
        from costmodel.energy import arithmetic_energy

        return arithmetic_energy(self, rows, macs, vector, special, element, per_flop)

    @model_validator(mode="before")
    @classmethod
    def _derive(cls, data: Any) -> Any:
        """What an FPGA's budget gives, where the file doesn't state it; what it states must agree."""
        if not isinstance(data, dict) or data.get("fpga") is None:
            return data
        try:
            wanted = derived(FpgaBudget.model_validate(data["fpga"]))
        except ValidationError:
            return data  # the field's own check tells what is wrong with it
        if found := contradiction(data, wanted):
            path, stated, value = found
            raise PydanticCustomError(
                "against_budget",
                "{stated} contradicts the section `fpga`, which gives {value}: leave this number out, or correct one",
                {"stated": f"{stated:.6g}", "value": f"{value:.6g}", "path": path},
            )
        return wanted | data

    @model_validator(mode="after")
    def _complete(self) -> Profile:
        for field in ("overhead_s", "compute_efficiency", "memory_efficiency"):
            if "default" not in getattr(self, field):
                raise ValueError(f"{field} needs an entry `default`")
        for field in ("matrix_flop_per_s", "vector_flop_per_s", "energy_per_flop_j"):
            if "float32" not in getattr(self, field):
                raise ValueError(f"{field} needs an entry `float32`")
        names = [level.name for level in self.memory]
        if self.weights_in and self.weights_in not in names:
            raise ValueError(f"weights_in names no memory level; got {self.weights_in!r}, known: {', '.join(names)}")
        self._check_peaks()
        if self.spread.value < 1:
            raise ValueError("spread must be 1 or more: the high estimate isn't below the expected one")
        sizes = [level.size_bytes.value for level in self.memory if level.name != self.weights_in]
        if sizes != sorted(sizes):
            raise ValueError("memory levels must stand in order of size, the smallest first")
        return self

    def _check_peaks(self) -> None:
        """Refuse a peak that exceeds its parts: that of a sparse product, most often."""
        if self.units is None or self.clock_hz is None:
            return
        for dtype, macs in self.macs_per_cycle.items():
            parts = 2 * self.units.value * self.clock_hz.value * macs.value
            peak = self.matrix_flop_per_s.get(dtype)
            if peak is not None and peak.value > MOST_OVER_PARTS * parts:
                raise PydanticCustomError(
                    "peak_over_parts",
                    "{times} times the sum of its parts (units x macs_per_cycle x 2 x clock_hz = {parts}): give the"
                    " dense peak, and sparsity apart as sparse_multiplier",
                    {
                        "times": f"{peak.value / parts:.2f}",
                        "parts": f"{parts:.4g}",
                        "path": ["matrix_flop_per_s", dtype, "value"],
                    },
                )


def hardware_names() -> list[str]:
    """Names of the profiles that ship, and of the user's own (`own_folder`)."""
    return sorted({path.stem for folder in (FOLDER, own_folder()) for path in folder.glob("*.yaml")})


def own_folder() -> Path:
    """Where the user's own profiles lie: `hardware` here, or what BLOCKWRIGHT_HARDWARE says."""
    return Path(os.environ.get("BLOCKWRIGHT_HARDWARE", "hardware"))


def load_profile(name: str | Path) -> Profile:
    """The profile that ships under this name, the user's own of it, or the one in a file (`./mine.yaml`).

    Raises NameUnknown with the nearest name, SpaceError with file, line and reason of every mistake in a file.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        return read_profile(Path(text))
    shipped, own = FOLDER / f"{text}.yaml", own_folder() / f"{text}.yaml"
    if text not in hardware_names():
        raise NameUnknown("hardware", text, hardware_names())
    if shipped.exists() and own.exists():
        raise InputError(f"{own}: a profile called {text} ships already; give yours another name")
    path = own if own.exists() else shipped
    return _read_once(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _read_once(path: Path, changed_ns: int) -> Profile:
    return read_profile(path)


def read_profile(path: Path) -> Profile:
    """Parse and check one file. Raises SpaceError."""
    root = load_yaml_file(path)
    if not root.is_map:
        raise SpaceError([root.mark.problem("", f"expected a mapping of profile fields; got {root.describe()}")])
    try:
        return Profile.model_validate(root.plain())
    except ValidationError as error:
        found = error.errors()
        if any(one["loc"][:1] == ("fpga",) for one in found):  # then what follows from it is missing too
            found = [one for one in found if one["type"] != "missing" or one["loc"][0] not in DERIVED]
        raise SpaceError([_problem(root, one) for one in found]) from None


def _problem(root: YamlNode, error: Any) -> Problem:
    place = error.get("ctx", {}).get("path") or error["loc"]
    steps = [s for s in place if s != "[key]"]
    mark, path, node = root.mark, "", root
    for step in steps:
        if node.is_map and str(step) in node.value:
            mark = node.key_marks[str(step)]
            node = node.value[str(step)]
        elif node.is_list and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            mark = node.mark
        path += f"[{step}]" if isinstance(step, int) else (f".{step}" if path else str(step))
    return _told(mark, path, error, node)


def _told(mark: Mark, path: str, error: Any, node: YamlNode) -> Problem:
    name = str(error["loc"][-1]) if error["loc"] else ""
    kind = error["type"]
    if kind == "extra_forbidden":
        holders = (Profile, MemoryLevel, Limits, Link, OperationEnergies, FpgaBudget, Sourced)
        fields = next((h.model_fields for h in holders if len(error["loc"]) == 1), None)
        known = list(fields) if fields else sorted({f for h in holders[1:] for f in h.model_fields})
        message = f"unknown key {name!r}{did_you_mean(name, known)}"
    elif kind == "missing" and name == "source":
        message = "every number needs a `source` (or `source: 'assumption: ...'`); it is missing"
    elif kind == "missing":
        message = f"{name!r} is missing"
    elif kind == "model_type":
        message = f"expected {{value: number, source: text}}; got {node.describe()}"
    else:
        message = f"{error['msg'].removeprefix('Value error, ')}; got {node.describe()}"
    return mark.problem(path, message)


def as_profile(hardware: str | Path | Profile) -> Profile:
    """A profile as it is, or loaded by name or path."""
    return hardware if isinstance(hardware, Profile) else load_profile(hardware)


def check_dtype(name: str) -> None:
    """Raise InputError for a precision that costs can't be asked in."""
    from costmodel.table import ITEMSIZE

    if name not in ITEMSIZE:
        raise InputError(f"unknown precision {name!r}{did_you_mean(name, ITEMSIZE)}; known: {', '.join(ITEMSIZE)}")
