"""Energy by operation: published tables, what stands in for a multiplier, and agreement with energy by FLOP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from costmodel import cost, load_profile
from costmodel.energy import operation_energy, operations
from costmodel.hardware import OperationEnergies, Sourced
from costmodel.table import C
from space.errors import InputError
from space.shape import Shape

SEQUENCE = Shape("sequence", 32, length=64)


@dataclass(frozen=True)
class Net:
    node: dict[str, Any]
    input_shape: Shape = SEQUENCE
    id: str = "net"


ECOFORMER = [  # model, multiplications, additions (both 10^9), energy in 10^9 pJ: README of the authors' repository
    ("PVTv2-B0", 0.54, 0.56, 2.5),
    ("PVTv2-B1", 2.03, 2.09, 9.4),
    ("PVTv2-B2", 3.85, 3.97, 17.8),
    ("PVTv2-B3", 6.54, 6.75, 30.25),
    ("PVTv2-B4", 9.57, 9.82, 44.25),
    ("Twins-SVT-S", 2.72, 2.81, 12.6),
]


@pytest.mark.paper("ecoformer")
@pytest.mark.parametrize(("model", "multiply", "add", "told"), ECOFORMER)
def test_the_published_table_of_ecoformer(model: str, multiply: float, add: float, told: float) -> None:
    got = operation_energy(load_profile("x86-core"), multiply=multiply * 1e9, add=add * 1e9) * 1e12 / 1e9
    assert got == pytest.approx(3.7 * multiply + 0.9 * add, rel=1e-12)
    # Counts are published to two places: half a unit of each, and half a unit of the energy's own last place.
    place = 0.005 if model in ("PVTv2-B3", "PVTv2-B4") else 0.05
    assert abs(got - told) <= 0.005 * (3.7 + 0.9) + place


@pytest.mark.paper("ecoformer")
def test_products_with_codes_are_additions() -> None:
    plain = operations(cost(Net({"linear_attention": {"heads": 2}})).table)
    table = cost(Net({"hamming_linear_attention": {"heads": 2, "bits": 8}})).table
    inside = table.matrix[[name == "code_attention" for name in table.names()]]
    assert len(inside) == 1
    codes = operations(table)
    assert codes.add > codes.multiply
    assert plain.multiply > plain.add * 0.9
    macs = inside[0, C["macs_executed"]]
    assert codes.multiply <= table.total("macs_executed") - macs + table.total("vector_flops")


@pytest.mark.paper("shiftaddvit")
def test_shifts_stand_in_for_products_and_cost_less() -> None:
    mlp, shift = ({"mlp": {"ratio": 2}}, {"shift_mlp": {"ratio": 2}})
    told = {kind: cost(Net(node), "x86-core") for kind, node in (("mlp", mlp), ("shift", shift))}
    macs = told["mlp"].macs
    assert told["shift"].macs == macs
    with_products, with_shifts = (operations(told[kind].table) for kind in ("mlp", "shift"))
    assert with_products.shift == 0
    assert with_shifts.shift == macs
    assert with_shifts.multiply < 0.1 * with_products.multiply
    arithmetic = [
        operation_energy(load_profile("x86-core"), multiply=o.multiply, add=o.add, shift=o.shift)
        for o in (with_products, with_shifts)
    ]
    assert arithmetic[1] < 0.35 * arithmetic[0]
    operators = {kind: sum(row["energy_j"] for row in c.by("operator", "x86-core")) for kind, c in told.items()}
    assert operators["shift"] < operators["mlp"]


def test_operations_that_cost_the_same_give_the_energy_by_flop() -> None:
    plain = load_profile("h100-sxm")
    each = {k: Sourced(value=v.value, source="as a FLOP") for k, v in plain.energy_per_flop_j.items()}
    energies = OperationEnergies(multiply=each, add=each, shift=each)
    split = plain.model_copy(update={"energy_per_operation_j": energies, "name": "split"})
    for node in ({"attention": {"heads": 2}}, {"mlp": {"ratio": 2}}, {"selective_ssm": {}}, {"fourier_mixer": {}}):
        c = cost(Net(node), [plain, split])
        assert c.hardware["split"].energy_j == pytest.approx(c.hardware["h100-sxm"].energy_j, rel=1e-12)


def test_a_profile_without_energies_by_operation_says_so() -> None:
    with pytest.raises(InputError, match="h100-sxm has no energy_per_operation_j"):
        operation_energy(load_profile("h100-sxm"), add=1)
