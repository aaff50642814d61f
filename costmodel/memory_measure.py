"""The peak that torch's own allocator saw on this CPU, to check predictions by."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as run_again

from space.block import Block
from space.deployment import deploy


@dataclass(frozen=True)
class MeasuredPeak:
    """Bytes: `standing` are weights, buffers, optimizer moments and the input, `working` what a run takes besides."""

    standing: int
    working: int

    @property
    def total(self) -> int:
        """The peak."""
        return self.standing + self.working


def measure_peak(block: Block, batch: int, phase: str = "inference", checkpoint: bool = False) -> MeasuredPeak:
    """Run a block on random data and read the allocator's records.

    "inference": its deployed form, without gradients. "training": the second step of cross-entropy and fused AdamW.
    `checkpoint`: each block directly inside is checkpointed. The block is changed (trained).
    """
    shape = block.block_shape
    size = shape.size(batch)
    x = torch.randint(0, shape.dim, size) if shape.layout == "tokens" else torch.randn(size)
    if phase == "inference":
        deployed = deploy(block)
        with torch.no_grad():
            deployed(x)  # what is made once is not a run's own
            return MeasuredPeak(_held([*deployed.parameters(), *deployed.buffers(), x]), _peak(lambda: deployed(x)))
    block.train()
    if checkpoint:
        for child in {id(m): m for m in block.block_children.values()}.values():
            child.forward = _checkpointing(child.forward)
    optimizer = torch.optim.AdamW(block.parameters(), fused=True)

    def step() -> None:
        _loss(block(x)).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    step()
    moments = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    return MeasuredPeak(_held([*block.parameters(), *block.buffers(), *moments, x]), _peak(step))


def _checkpointing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Tensor) -> Tensor:
        return run_again(forward, x, use_reentrant=False)

    return run


def _loss(y: Tensor) -> Tensor:
    rows = y.flatten(0, -2) if y.dim() != 4 else y.permute(0, 2, 3, 1).flatten(0, 2)
    return functional.cross_entropy(rows, torch.zeros(rows.shape[0], dtype=torch.int64))


def _held(tensors: list[Tensor | nn.Parameter]) -> int:
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _peak(run: Callable[[], Any]) -> int:
    """The larger of two recordings: the profiler now and then drops records, which can only make a peak smaller."""
    return max(_recorded(run) for _ in range(2))


def _recorded(run: Callable[[], Any]) -> int:
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        run()
    events = profiler.profiler.kineto_results.events()
    memory = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate((size for _, size in memory), initial=0))
