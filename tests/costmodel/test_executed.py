"""Work that runs for a share of the inputs: counted in full, executed and priced by its share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from costmodel.hardware import as_profile
from costmodel.pricing import price
from costmodel.record import trace_module
from costmodel.table import C
from space.fused import executed, executed_share
from space.ops.attention import attention

DIM, ROWS = 16, 10


class Routed(nn.Module):
    """A product that always runs, one that runs for a quarter of the inputs, one for half of those."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.often, self.rarely = (nn.Linear(DIM, DIM, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.always(x)
        with executed(0.25):
            y = torch.relu(self.often(x))
            with executed(0.5):
                z = self.rarely(y)
        return x + y + z


@pytest.mark.parametrize(("phase", "products"), [("inference", 1), ("training", 3)])
def test_macs_are_executed_by_their_share(phase: str, products: int) -> None:
    with torch.device("meta"):
        x = torch.empty(ROWS, DIM, requires_grad=True)
        table = trace_module(Routed(), x, phase=phase)
    one = products * ROWS * DIM * DIM
    assert table.total("macs") == 3 * one
    assert table.total("macs_executed") == one * (1 + 0.25 + 0.125)
    assert set(table.skipped) == {0.0, 0.75, 0.875}


def test_time_and_energy_follow_the_share() -> None:
    with torch.device("meta"):
        table = trace_module(Routed(), torch.empty(ROWS, DIM))
    profile = as_profile("x86-core")
    whole = table.matrix.copy()
    whole[:, C["skipped"]], whole[:, C["macs_executed"]] = 0.0, whole[:, C["macs"]]
    rare, full = price(table.matrix, profile), price(whole, profile)
    for name in ("low", "expected", "high", "energy"):
        got, every = getattr(rare, name), getattr(full, name)
        assert got == pytest.approx(every * (1 - table.skipped))


def test_a_fused_kernel_inside_is_executed_by_the_share() -> None:
    class Attend(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            with executed(0.5):
                return attention(q, q, q, causal=True)

    with torch.device("meta"):
        table = trace_module(Attend(), torch.empty(1, 2, 8, 4))
    nominal = 2 * 8 * 8 * (4 + 4)
    assert table.total("macs") == nominal
    assert table.total("macs_executed") == 0.5 * nominal * (8 * 9 / 2) / 64


def test_shares_nest_and_end() -> None:
    with executed(0.5), executed(0.5):
        assert executed_share() == 0.25
    assert executed_share() == 1.0
    with pytest.raises(ValueError, match="from 0 to 1"), executed(1.5):
        pass
