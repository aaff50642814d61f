"""Two streams: swapping both inputs and all weights swaps the streams."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from space.block import infer_shape
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.topology.whole import built

SHAPE = Shape("sequence", 16, length=12)
MLP = {"mlp": {"ratio": 2}}


def node(fuse: str, **more: object) -> dict:
    return {"dual_stream": {"split": 8, "first": MLP, "second": MLP, "fuse": fuse, "heads": 2, **more}}


def swapped(width: int) -> torch.Tensor:
    """The other stream first, where the channels of both stand side by side."""
    return torch.cat([torch.arange(width, 2 * width), torch.arange(width)])


def mirror(block: nn.Module, twin: nn.Module) -> None:
    """The twin is the block with its streams swapped."""
    twin.load_state_dict(block.state_dict())
    with torch.no_grad():
        twin.first.load_state_dict(block.second.state_dict())
        twin.second.load_state_dict(block.first.state_dict())
        channel, position = twin.rectify.by_channel, twin.rectify.by_position
        both = swapped(8)
        channel[0].weight.copy_(channel[0].weight[:, torch.cat([both, both + 16])].clone())
        channel[2].weight.copy_(channel[2].weight[both].clone())
        channel[2].bias.copy_(channel[2].bias[both].clone())
        position[0].weight.copy_(position[0].weight[:, both].clone())
        position[2].weight.copy_(position[2].weight[[1, 0]].clone())
        position[2].bias.copy_(position[2].bias[[1, 0]].clone())
        if twin.exchange is not None:
            for name in ("enter", "context", "leave", "norms"):
                for i in range(2):
                    source = getattr(block.exchange, name)[1 - i].state_dict()
                    getattr(twin.exchange, name)[i].load_state_dict(source)
            twin.exchange.merge.weight.copy_(block.exchange.merge.weight[:, both])


@pytest.mark.paper("cmx")
@pytest.mark.parametrize("fuse", ["concat", "sum", "cross_context"])
def test_swapping_inputs_and_weights_swaps_outputs(fuse) -> None:
    block, x = built(node(fuse), SHAPE)
    twin, _ = built(node(fuse), SHAPE, seed=1)
    mirror(block, twin)
    other = x[..., swapped(8)]
    one, two = block.streams(x)
    torch.testing.assert_close(twin.streams(other), (two, one))
    want = block(x)[..., swapped(8)] if fuse == "concat" else block(x)
    torch.testing.assert_close(twin(other), want)


@pytest.mark.paper("cmx")
def test_without_rectification_the_streams_do_not_meet() -> None:
    block, x = built(node("concat", rectify=False), SHAPE)
    changed = x.clone()
    changed[..., 8:] += 1
    assert torch.equal(block(x)[..., :8], block(changed)[..., :8])
    block, x = built(node("concat"), SHAPE)
    assert (block(x)[..., :8] - block(changed)[..., :8]).abs().max() > 1e-3


@pytest.mark.paper("cmx")
def test_context_exchange_by_hand() -> None:
    block, x = built(node("cross_context", heads=1, rectify=False), SHAPE)
    ex, parts = block.exchange, block.streams(x)
    rest, used, contexts = [], [], []
    for i in range(2):
        r, u = ex.enter[i](parts[i]).relu().split(8, -1)
        k, v = ex.context[i](u).split(8, -1)
        rest.append(r), used.append(u)
        contexts.append((k.transpose(1, 2) @ v / 8**0.5).softmax(1))
    outs = [ex.norms[i](parts[i] + ex.leave[i](torch.cat([rest[i], used[i] @ contexts[1 - i]], -1))) for i in range(2)]
    torch.testing.assert_close(block(x), ex.merge(torch.cat(outs, -1)))


def test_streams_of_unequal_width_are_refused() -> None:
    with pytest.raises(ShapeError, match="one shape of width 6"):
        infer_shape(node("sum", split=6), SHAPE)
