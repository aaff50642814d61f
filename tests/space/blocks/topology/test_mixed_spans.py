"""Full attention at a few depths: places, limits, and the share of work and cache that is left."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from costmodel.blocks import node_table
from space.block import Node, infer_shape, instantiate
from space.blocks.topology.mixed_spans import full_depths
from space.errors import ShapeError
from space.search_space import SearchSpace
from space.shape import Shape

LENGTH, WINDOW, DEPTH = 128, 16, 24
TEXT = Shape("sequence", 8, LENGTH, causal=True)
FULL = {"layer": {"mixer": {"attention": {"heads": 2}}}}


def local(window: int) -> Node:
    return {"layer": {"mixer": {"attention": {"heads": 2, "window": window}}}}


def spans(count: int, place: str = "bottom", window: int = WINDOW, times: int = DEPTH) -> Node:
    return {"mixed_spans": {"times": times, "count": count, "place": place, "full": FULL, "local": local(window)}}


@pytest.mark.paper("masformer")
@pytest.mark.parametrize(
    ("place", "depths"), [("bottom", {0, 1, 2, 3}), ("top", {20, 21, 22, 23}), ("spread", {3, 9, 15, 21})]
)
def test_places(place: str, depths: set[int]) -> None:
    assert full_depths(24, 4, place) == depths
    layers = instantiate(spans(4, place), TEXT).blocks
    assert {i for i, layer in enumerate(layers) if layer.mixer.window is None} == depths


@pytest.mark.paper("masformer")
@pytest.mark.parametrize("count", [0, 1, 5, 7])
def test_spread_keeps_the_count(count: int) -> None:
    assert len(full_depths(7, count, "spread")) == count


@pytest.mark.paper("masformer")
def test_all_layers_full_is_the_baseline() -> None:
    def document(architecture: str) -> Any:
        head = f"name: x\ninput: {{kind: tokens, vocab: 11, length: {LENGTH}}}\narchitecture:\n  sequence:\n"
        tail = "    - token_embed: {dim: 8}\n" + architecture + "    - lm_head: {vocab: 11}\n"
        return SearchSpace.from_text(head + tail).sample(seed=0)

    layer = "{layer: {mixer: {attention: {heads: 2%s}}}}"
    base = document(f"    - repeat: {{times: 4, block: {layer % ''}}}\n")
    all_full = f"{{times: 4, count: 4, full: {layer % ''}, local: {layer % ', window: 16'}}}"
    wide = f"{{times: 4, count: 1, full: {layer % ''}, local: {layer % f', window: {LENGTH}'}}}"
    assert document(f"    - mixed_spans: {all_full}\n").id == base.id
    assert document(f"    - mixed_spans: {wide}\n").id == base.id


def attention_work(node: Node) -> float:
    """Executed MACs less those of the maps, which every layer has alike."""
    table, _ = node_table(node, TEXT)
    return table.total("macs_executed") - DEPTH * LENGTH * 4 * 8 * 8


@pytest.mark.paper("masformer")
def test_work_is_linear_in_the_number_of_full_layers() -> None:
    work = [attention_work(spans(count)) for count in (0, 4, 8, 24)]
    assert work[2] - work[0] == 2 * (work[1] - work[0])
    assert work[3] - work[0] == 6 * (work[1] - work[0])
    # visible pairs: n (n + 1) / 2 of a full layer, n w - w (w - 1) / 2 of one with a window
    pairs = 4 * LENGTH * (LENGTH + 1) // 2 + 20 * (LENGTH * WINDOW - WINDOW * (WINDOW - 1) // 2)
    assert work[1] == 2 * 8 * pairs


@pytest.mark.paper("masformer")
def test_cache_is_the_share_of_the_formula() -> None:
    def kept(count: int) -> int:
        state = instantiate(spans(count), TEXT).init_state(1, LENGTH)
        return sum(t.numel() for t in tensors(state))

    # (F + (L - F) w / n) / L = (4 + 20 / 8) / 24 = 27 % of the baseline
    assert kept(4) / kept(24) == (4 + 20 * WINDOW / LENGTH) / 24
    assert kept(4) / kept(24) == pytest.approx(0.27, abs=0.001)


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, dict):
        return [t for value in state.values() for t in tensors(value)]
    return [state] if isinstance(state, Tensor) else []


@pytest.mark.paper("masformer")
def test_three_full_layers_of_24_at_8k() -> None:
    # the paper counts all n^2 pairs of a layer: (3 + 21 w / n) / 24 is left, about three quarters saved
    long, window = 8192, 1024
    assert 1 - (3 + 21 * window / long) / 24 == pytest.approx(0.75, abs=0.02)
    # a causal layer hides half of them, so that a window saves less of what is left
    tables = [node_table(spans(count, window=window), TEXT.with_(length=long))[0] for count in (3, 24)]
    maps = DEPTH * long * 4 * 8 * 8
    left, whole = (table.total("macs_executed") - maps for table in tables)
    pairs = (long * window - window * (window - 1) // 2, long * (long + 1) // 2)
    assert left / whole == pytest.approx((3 + 21 * pairs[0] / pairs[1]) / 24, rel=1e-12)


def test_more_full_layers_than_layers_are_refused() -> None:
    with pytest.raises(ShapeError, match="count must not exceed times 3; got 4"):
        infer_shape(spans(4, times=3), TEXT)


def test_decoding_goes_through_windows_and_full_layers() -> None:
    torch.manual_seed(0)
    block = instantiate(spans(1, times=3, window=3), TEXT.with_(length=9)).double().eval()
    x = torch.randn(2, 9, 8, dtype=torch.float64)
    state = block.init_state(2)
    with torch.no_grad():
        for t in range(9):
            y, state = block.step(x[:, t : t + 1], state)
        torch.testing.assert_close(y, block(x)[:, -1:], rtol=1e-10, atol=1e-10)


@pytest.mark.paper("masformer")
def test_count_place_and_windows_can_be_searched() -> None:
    space = SearchSpace.from_text(
        """
name: spans
input: {kind: tokens, vocab: 11, length: 32}
architecture:
  sequence:
    - token_embed: {dim: 8}
    - mixed_spans:
        times: {choice: [2, 3]}
        count: {choice: [1, 3]}
        place: {choice: [bottom, top]}
        full: {layer: {mixer: {attention: {heads: 2}}}}
        local: {layer: {mixer: {attention: {heads: 2, window: {choice: [4, 8]}}}}}
    - lm_head: {vocab: 11}
"""
    )
    found = {
        tuple(options.get("window") for _, kind, options in architecture.blocks() if kind == "attention")
        for architecture in space.sample_many(40, seed=0)
    }
    two = {(None, 4), (None, 8), (4, None), (8, None)}
    three = {order for a in (4, 8) for b in (4, 8) for order in ((None, a, b), (a, b, None))}
    assert found <= two | three | {(None, None, None)}
    assert len(found) > 8
