"""Recursion in slices: one slice is unsliced; weights count once, work every pass; SReT's stages."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape
from space.errors import ShapeError
from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.topology.whole import built, macs, parameters

SHAPE = Shape("sequence", 16, length=24)
MLP = {"mlp": {"ratio": 2}}


def recursion(loops: int, groups: list[int], **more: object) -> dict:
    return {"recursive_block": {"heads": 4, "loops": loops, "groups": groups, "channel": MLP, **more}}


def naive(block: torch.nn.Module, x: torch.Tensor, slices: list[list[int]]) -> torch.Tensor:
    """Attention of every slice by itself, position lists given."""
    q, k, v = block.qkv(x).chunk(3, -1)
    out = torch.zeros_like(x)
    for at in slices:
        for h in range(4):
            cut = slice(4 * h, 4 * h + 4)
            scores = q[:, at, cut] @ k[:, at, cut].transpose(1, 2) / 2
            out[:, at, cut] = scores.softmax(-1) @ v[:, at, cut]
    return block.out(out)


@pytest.mark.paper("sret")
def test_passes_and_slices() -> None:
    with torch.no_grad():
        block, x = built(recursion(2, [4, 3]), SHAPE)
        runs = [list(range(6 * i, 6 * i + 6)) for i in range(4)]
        strides = [list(range(i, 24, 3)) for i in range(3)]
        a, y = block.shared, x
        for i, slices in enumerate((runs, strides)):
            y = a[0] * y + a[1] * naive(block, block.mixer_norm(y), slices)
            y = a[2] * y + a[3] * block.channel(block.channel_norm(y))
            y = block.own[i, 0] * y + block.own[i, 1] * block.between[i](block.between_norms[i](y))
        torch.testing.assert_close(block(x), y)


@pytest.mark.paper("sret")
def test_one_slice_is_unsliced() -> None:
    with torch.no_grad():
        block, x = built(recursion(1, [1]), SHAPE)
        z = block.mixer_norm(x)
        torch.testing.assert_close(block.attend(z, 1, False), naive(block, z, [list(range(24))]))


@pytest.mark.paper("sret")
def test_weights_once_work_every_pass() -> None:
    alone = {"between": {"identity": {}}}
    assert {parameters(recursion(n, [1], **alone), SHAPE) for n in (1, 2, 5)} == {
        parameters(recursion(1, [1], **alone), SHAPE)
    }
    for n in (1, 2, 5):
        assert macs(recursion(n, [1], **alone), SHAPE) == n * macs(recursion(1, [1], **alone), SHAPE)
    scores = 2 * 24 * 24 * 16
    saved = macs(recursion(2, [1]), SHAPE) - macs(recursion(2, [8, 2]), SHAPE)
    assert saved == scores * (1 - 1 / 8) + scores * (1 - 1 / 2)


def test_slices_must_divide_the_length() -> None:
    with pytest.raises(ShapeError, match="groups must divide length 24; got 5"):
        infer_shape(recursion(2, [5]), SHAPE)


def test_equal_rounds_are_one_document() -> None:
    def document(groups: str) -> dict:
        text = f"""
        input: {{kind: series, channels: 8, length: 6, causal: false}}
        architecture: {{recursive_block: {{heads: 2, loops: 4, groups: {groups}}}}}
        """
        return SearchSpace.from_text(text).sample().node

    assert document("[2, 1]") == document("[2, 1, 2, 1]") == document("[2, 1, 2, 1, 3]")
    assert document("[1]") == document("[1, 1]") != document("[2]")
