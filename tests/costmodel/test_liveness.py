"""Peak activation memory against a brute-force log and against torch's own allocator."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from costmodel import peak_activation_bytes, trace_module
from costmodel.table import C
from space.fused import fused

sys.path.insert(0, str(Path(__file__).parent))
import brute_force

WIDTH = 8


class Residual(nn.Module):
    def __init__(self, *inner: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Split(nn.Module):
    """Halves of one storage, worked on apart and joined again."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([a * 2, b.sigmoid()], -1)


class Scores(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(x @ x.transpose(-2, -1), -1) @ x


class Swap(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).contiguous().transpose(1, 2)


PARTS = {
    "linear": lambda: nn.Linear(WIDTH, WIDTH),
    "wide": lambda: nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)),
    "in_place": lambda: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(inplace=True)),
    "norm": lambda: nn.LayerNorm(WIDTH),
    "split": Split,
    "scores": Scores,
    "swap": Swap,
    "skip_wide": lambda: Residual(nn.Linear(WIDTH, 3 * WIDTH), nn.Tanh(), nn.Linear(3 * WIDTH, WIDTH)),
    "skip_twice": lambda: Residual(Residual(nn.LayerNorm(WIDTH), Scores()), nn.Linear(WIDTH, WIDTH)),
}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=6), st.sampled_from(["cpu", "meta"]))
def test_peak_equals_brute_force(names: list[str], device: str) -> None:
    with torch.device(device):
        module = nn.Sequential(*[PARTS[name]() for name in names])
        x = torch.randn(2, 5, WIDTH)
    assert peak_activation_bytes(trace_module(module, x), kernels=[]) == brute_force.peak(module, x)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=5), st.sampled_from(["inference", "training"]))
def test_all_that_comes_alive_goes_again(names: list[str], phase: str) -> None:
    with torch.device("meta"):
        module, x = nn.Sequential(*[PARTS[name]() for name in names]), torch.randn(2, 5, WIDTH)
    table = trace_module(module, x, phase=phase)
    left = table.bytes_allocated.sum() - table.bytes_freed.sum()
    assert left == (4 * x.numel() if phase == "inference" else 0)
    net = table.bytes_allocated.cumsum() - table.bytes_freed.cumsum()
    assert net.min() >= 0


def test_a_fused_region_keeps_its_inside_out_of_memory() -> None:
    @fused("attention")
    def region(q: Tensor) -> Tensor:
        return torch.softmax(q @ q.transpose(-2, -1), -1) @ q

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return region(x) * 2

    n, d = 64, 4
    table = trace_module(Net(), torch.randn(1, n, d, device="meta"))
    assert peak_activation_bytes(table) == 4 * 2 * n * d
    assert peak_activation_bytes(table, kernels=[]) == 4 * (n * d + 2 * n * n)
    assert peak_activation_bytes(table, kernels=["selective_scan"]) == peak_activation_bytes(table, kernels=[])
    for kernels in (None, []):
        rows = table.matrix[table.select(kernels)]
        assert rows[:, C["bytes_allocated"]].sum() - rows[:, C["bytes_freed"]].sum() == 4 * n * d


def test_training_keeps_scores_only_where_attention_is_not_fused() -> None:
    n, d = 64, 4
    module = nn.Sequential(nn.Linear(d, d), Fused(), nn.Linear(d, d)).to("meta")
    table = trace_module(module, torch.randn(1, n, d, device="meta"), phase="training")
    fused_peak, open_peak = peak_activation_bytes(table), peak_activation_bytes(table, kernels=[])
    assert open_peak - fused_peak >= 4 * n * n
    for kernels in (None, []):
        rows = table.matrix[table.select(kernels)]
        assert rows[:, C["bytes_allocated"]].sum() == rows[:, C["bytes_freed"]].sum()
    assert (table.is_summary > 0).sum() == 2
    forward, backward = table.matrix[table.is_summary > 0]
    assert backward[C["macs"]] == 2 * forward[C["macs"]]
    assert backward[C["macs_executed"]] == 2.5 * forward[C["macs_executed"]]


@fused("scores")
def scores(x: Tensor) -> Tensor:
    return torch.softmax(x @ x.transpose(-2, -1), -1)


@fused("mixed")
def mixed(x: Tensor) -> Tensor:
    wide = torch.cat([x, x, x], -1)
    return scores(wide * 2) @ x


class Nested(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return mixed(x) * 2


def test_a_region_in_a_region_keeps_its_inside_out_of_memory() -> None:
    n, d = 64, 4
    table = trace_module(Nested(), torch.randn(1, n, d, device="meta"))
    assert [peak_activation_bytes(table, kernels=k) for k in (None, ["mixed"], ["mixed", "scores"])] == [8 * n * d] * 3
    assert peak_activation_bytes(table, kernels=["scores"]) == 4 * (n * d + 3 * n * d + n * n)
    assert peak_activation_bytes(table, kernels=[]) == 4 * (n * d + 2 * n * n)


@pytest.mark.parametrize("phase", ["inference", "training"])
@pytest.mark.parametrize("kernels", [None, [], ["scores"], ["mixed"]])
def test_what_comes_alive_goes_again_with_any_kernels(phase: str, kernels: list[str] | None) -> None:
    module = nn.Sequential(nn.Linear(4, 4), Nested(), nn.LayerNorm(4), Nested()).to("meta")
    table = trace_module(module, torch.randn(1, 16, 4, device="meta"), phase=phase)
    rows = table.matrix[table.select(kernels)]
    alive = rows[:, C["bytes_allocated"]].cumsum() - rows[:, C["bytes_freed"]].cumsum()
    assert alive.min() >= 0
    assert alive[-1] == (4 * 16 * 4 if phase == "inference" else 0)
    lingering = rows[:, C["bytes_lingering"]].cumsum()
    assert lingering.min() >= 0
    assert lingering[-1] == 4 * 16 * 4  # who called holds the input to the end


def test_training_keeps_only_what_leaves_the_regions_that_run_as_kernels() -> None:
    n, d = 64, 4
    module = nn.Sequential(nn.Linear(d, d), Nested(), nn.Linear(d, d)).to("meta")
    table = trace_module(module, torch.randn(1, n, d, device="meta"), phase="training")
    peaks = [peak_activation_bytes(table, kernels=k) for k in (["mixed"], ["scores"], [])]
    assert peaks[0] + 4 * n * n <= peaks[1] < peaks[2]
    kinds = [
        [row[C["is_summary"]] for row in table.matrix[table.select(k)] if row[C["region"]]]
        for k in (["mixed"], ["scores"])
    ]
    assert [sum(k) for k in kinds] == [2, 2]
    assert (table.is_summary > 0).sum() == 4
    forward, backward = (row for row in table.matrix if row[C["is_summary"]] and not row[C["outer_kind"]])
    assert backward[C["macs"]] == 2 * forward[C["macs"]] == 2 * n * n * (3 * d + d)


class Fused(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def allocator_peak(module: nn.Module, x: Tensor) -> int:
    """Highest sum of torch's own CPU allocations in an inference run, the input (held by the caller) included."""
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profiler:
        module(x)
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    memory = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return x.numel() * 4 + max(itertools.accumulate(size for _, size in memory))


class InputHeld(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x), x


REAL = {
    "mlp": lambda: nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)),
    "residual_mlp": lambda: Residual(nn.LayerNorm(64), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)),
    "attention": Scores,
    "residual_attention": lambda: Residual(nn.LayerNorm(64), Scores()),
}


@pytest.mark.parametrize("name", REAL)
def test_peak_against_the_real_allocator(name: str) -> None:
    module, x = REAL[name]().eval(), torch.randn(4, 128, 64)
    module(x)
    ours = peak_activation_bytes(trace_module(InputHeld(module), x), kernels=[])
    assert allocator_peak(module, x) == pytest.approx(ours, rel=0.1)


def test_eager_python_holds_a_block_s_input_while_the_block_runs() -> None:
    """Nested `forward` frames keep their argument: eager torch needs one tensor more than liveness says."""
    module, x = nn.Sequential(*[nn.Sequential(nn.Linear(64, 64), nn.SiLU()) for _ in range(6)]), torch.randn(4, 128, 64)
    module(x)
    ours = peak_activation_bytes(trace_module(InputHeld(module), x), kernels=[])
    assert allocator_peak(module, x) == ours + 4 * x.numel()
