"""Counts of every registered block: composed, traced whole, run for real, and by torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from costmodel import node_table, trace_module
from costmodel.table import KIND, C
from space.block import instantiate
from space.errors import InputError
from tests.space.blocks.cases import Case, first_cases

COUNTS = ("macs", "macs_executed", "vector_flops", "transcendentals", "bytes_read", "bytes_written")
PRODUCTS = [KIND[name] for name in ("matmul", "batched_matmul", "convolution", "depthwise_convolution")]

every_first_case = pytest.mark.parametrize("case", first_cases(), ids=str)


@every_first_case
@pytest.mark.parametrize("phase", ["inference", "training"])
def test_composed_table_equals_a_trace_of_the_whole(case: Case, phase: str) -> None:
    composed, segment = node_table(case.node, case.shape, phase, batch=2)
    with torch.device("meta"):
        module = instantiate(case.node, case.shape)
        dtype = torch.int64 if case.shape.layout == "tokens" else torch.float32
        x = torch.empty(case.shape.size(2), dtype=dtype)
    traced = trace_module(module, x, phase=phase)
    assert composed.unknown == []
    for name in COUNTS:
        assert composed.total(name) == traced.total(name), name
    assert segment.parameters == sum(p.numel() for p in module.parameters())


@every_first_case
def test_macs_equal_those_that_torch_counts(case: Case) -> None:
    module = case.build().float().eval()
    x = case.input()
    x = x if case.shape.layout == "tokens" else x.float()
    counter = FlopCounterMode(display=False)
    # torch's counter passes over the CPU's fused attention kernel; the plain one is made of products.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        module(x)
    real = trace_module(module, x)
    composed, _ = node_table(case.node, case.shape, batch=2)
    for table in (real, composed):
        rows = table.matrix[table.select(kernels=[])]
        inside = rows[:, C["macs"]][[int(kind) in PRODUCTS for kind in rows[:, C["kind"]]]]
        assert 2 * inside.sum() == counter.get_total_flops()
        assert rows[:, C["macs"]].sum() == inside.sum()


@every_first_case
def test_decode_is_priced_where_there_is_a_step(case: Case) -> None:
    if case.shape.layout not in ("sequence", "tokens"):
        return
    try:
        case.build().init_state(1)
    except InputError:
        with pytest.raises(InputError):
            node_table(case.node, case.shape, "decode", context=3)
        return
    table, segment = node_table(case.node, case.shape, "decode", context=3)
    assert table.unknown == []
    assert segment.state_bytes >= 0
