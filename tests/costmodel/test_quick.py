"""The short cut on `meta` gives what torch gives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.quick import _POINTWISE, quick_result

aten = torch.ops.aten
BINARY = [aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor]
UNARY = sorted(
    (f for f in _POINTWISE if len([a for a in f._schema.arguments if str(a.type) == "Tensor"]) == 1), key=str
)


def same(func, *args) -> None:
    got, want = quick_result(func, args), func(*args)
    if got is not None:
        assert (got.shape, got.stride(), got.dtype, got.device) == (want.shape, want.stride(), want.dtype, want.device)


sizes = st.lists(st.sampled_from([1, 1, 2, 3]), min_size=0, max_size=4)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    sizes, st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 4), st.sampled_from(BINARY), st.booleans()
)
def test_broadcasting(size: list[int], ones: list[bool], drop: int, func, swap: bool) -> None:
    other = [1 if one else n for n, one in zip(size, ones, strict=False)][drop:]
    a, b = torch.empty(size, device="meta"), torch.empty(other, device="meta")
    same(func, b, a) if swap else same(func, a, b)
    same(aten.addcmul.default, a, b, a)


@pytest.mark.parametrize("func", UNARY, ids=str)
def test_one_operand(func) -> None:
    x = torch.empty(4, 3, device="meta")
    more = (2,) if func in (aten.pow.Tensor_Scalar, aten.mul.Scalar) else ()
    assert quick_result(func, (x, *more)) is not None
    same(func, x, *more)
    same(func, x.to(torch.bfloat16), *more)
    assert quick_result(func, (x.t(), *more)) is None


def test_products() -> None:
    a, b, bias = (torch.empty(s, device="meta") for s in ((4, 3), (3, 5), (5,)))
    for left in (a, torch.empty(3, 4, device="meta").t()):
        same(aten.mm.default, left, b)
        same(aten.addmm.default, bias, left, b)
    assert quick_result(aten.mm.default, (a, b)) is not None
    assert quick_result(aten.mm.default, (a, a)) is None
    assert quick_result(aten.mm.default, (torch.empty(4, 3), torch.empty(3, 5))) is None
