"""Soft subwords: limits, lengths, and a loop over bytes."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape, instantiate, parse_node
from space.errors import ShapeError
from space.shape import Shape

BYTES = Shape("tokens", 256, 13)


def built(**options: object) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return instantiate({"gbst": {"dim": 6, **options}}, BYTES).double(), torch.randint(256, (2, 13))


@pytest.mark.paper("charformer")
def test_blocks_of_one_byte_are_a_plain_embedding() -> None:
    block, ids = built(max_block=1, downsample=1)
    torch.testing.assert_close(block(ids), block.embed(ids), rtol=0, atol=0)
    assert sum(p.numel() for p in block.parameters()) == 256 * 6


@pytest.mark.paper("charformer")
@pytest.mark.parametrize("length", [4, 12, 13, 100])
@pytest.mark.parametrize("downsample", [1, 2, 3, 4])
def test_length(length: int, downsample: int) -> None:
    shape = BYTES.with_(length=length)
    node = {"gbst": {"dim": 6, "downsample": downsample}}
    assert infer_shape(node, shape).length == -(-length // downsample)
    ids = torch.zeros(1, length, dtype=torch.int64)
    assert instantiate(node, shape)(ids).shape == (1, -(-length // downsample), 6)


@pytest.mark.paper("charformer")
@pytest.mark.parametrize("calibrate", [False, True])
def test_weights_sum_to_one(calibrate: bool) -> None:
    """Where all bytes are the same, so are all blocks, and any weights that sum to one give that vector."""
    block, ids = built(calibrate=calibrate)
    ids = ids[:, :1].expand(2, 13)
    torch.testing.assert_close(block(ids), block.embed(ids)[:, :7], rtol=1e-12, atol=1e-12)


@pytest.mark.paper("charformer")
@pytest.mark.parametrize("calibrate", [False, True])
def test_equals_a_loop_over_bytes(calibrate: bool) -> None:
    block, ids = built(max_block=4, downsample=3, calibrate=calibrate)
    x, w = block.embed(ids), block.score.weight[0]
    for b in range(2):
        held = [[x[b, i // n * n : i // n * n + n].mean(0) for n in range(1, 5)] for i in range(13)]
        weights = torch.stack([torch.stack([w @ block_mean for block_mean in row]).softmax(0) for row in held])
        if calibrate:
            weights = torch.stack([(weights @ row).softmax(0) @ weights for row in weights])
        mixed = torch.stack([p @ torch.stack(row) for p, row in zip(weights, held, strict=True)])
        want = torch.stack([mixed[i : i + 3].mean(0) for i in range(0, 13, 3)])
        torch.testing.assert_close(block(ids)[b], want, rtol=1e-12, atol=1e-12)


def test_refusals_and_canonical_form() -> None:
    with pytest.raises(ShapeError, match="max_block must not exceed the length 13"):
        infer_shape({"gbst": {"dim": 6, "max_block": 14}}, BYTES)
    with pytest.raises(ShapeError, match="later ones"):
        infer_shape({"gbst": {"dim": 6}}, BYTES.with_(causal=True))
    cls, options = parse_node({"gbst": {"dim": 6, "max_block": 1, "calibrate": True}})
    assert not cls.normalise(BYTES, options).calibrate
