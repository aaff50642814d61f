"""Clamped linear attention and local concentration: both orders of the product, limits, counts."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from space.block import Node, instantiate
from space.blocks.attention.clamped_linear_attention import clamped_linear_attention
from space.shape import Shape
from tests.space.blocks.attention.grids import GRID, IMAGE, built, heads_of, macs, same

FEATURES = {"relu": torch.relu, "elu": lambda x: F.elu(x) + 1, "exp": torch.exp}


@pytest.mark.paper("l2vit")
@pytest.mark.parametrize("features", sorted(FEATURES))
@pytest.mark.parametrize("floor", [1e-6, 100.0])
def test_keys_first_is_weights_first(features: str, floor: float) -> None:
    block, x = built({"clamped_linear_attention": {"heads": 2, "features": features, "floor": floor}}, IMAGE)
    q, k, v = (heads_of(t, 2) for t in block.qkv(x).chunk(3, dim=-1))
    weights = FEATURES[features](q) @ FEATURES[features](k).mT
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=floor)
    y = (weights @ v * block.gain).transpose(1, 2).flatten(2)
    same(block(x), block.out(y))


@pytest.mark.paper("l2vit")
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_work_is_linear_in_positions(heads: int) -> None:
    def products(length: int) -> float:
        return macs({"clamped_linear_attention": {"heads": heads}}, IMAGE.with_(length=length)) - 4 * length * 64

    # 2 N D E, and N D more for the denominator
    assert products(24) == 2 * 24 * 8 * (8 // heads) + 24 * 8
    assert products(240) == 10 * products(24)


@pytest.mark.paper("l2vit")
def test_with_a_zero_kernel_plain_linear_attention_is_left() -> None:
    def net(concentration: bool) -> Node:
        blocks: list[Node] = [{"layer": {"mixer": {"clamped_linear_attention": {"heads": 2}}}}]
        if concentration:
            near = {"sequence": {"blocks": [{"to_grid": {}}, {"local_concentration": {}}, {"to_sequence": {}}]}}
            blocks.append({"layer": {"mixer": near}})
        return {"sequence": {"blocks": blocks}}

    sharp, x = built(net(True), IMAGE)
    plain, _ = built(net(False), IMAGE)
    plain.load_state_dict({k: v for k, v in sharp.state_dict().items() if k.startswith("blocks.0.")})
    assert (sharp(x) - plain(x)).abs().max() > 0.01
    with torch.no_grad():
        for part in sharp.modules():
            if getattr(part, "kind", "") == "local_concentration":
                part.second.weight.zero_()
                part.second.bias.zero_()
    same(sharp(x), plain(x))


@pytest.mark.paper("l2vit")
def test_concentration_is_local() -> None:
    block, x = built({"local_concentration": {"kernel": 3}}, GRID)
    changed = x.clone()
    changed[:, :, 0, 0] += 1
    moved = (block(changed) - block(x)).abs().amax((0, 1)) > 1e-9
    assert moved.nonzero().max() <= 2
    assert moved[:3, :3].all()


@pytest.mark.paper("l2vit")
def test_windows_and_global_layers_alternate() -> None:
    layers = [
        {"layer": {"mixer": {"flattened_window_attention": {"heads": 2, "group": 4, "window": 2}}}},
        {"layer": {"mixer": {"clamped_linear_attention": {"heads": 2}}}},
    ]
    net = instantiate({"pattern": {"blocks": layers, "times": 4}}, IMAGE)
    assert [type(b.mixer).kind for b in net.blocks] == [
        "flattened_window_attention",
        "clamped_linear_attention",
    ] * 2


def test_floor_holds_the_denominator() -> None:
    block = instantiate({"clamped_linear_attention": {"heads": 2}}, Shape("sequence", 8, 4)).double()
    q = torch.full((1, 2, 4, 4), 0.1, dtype=torch.float64)
    assert block.floor == 100.0
    same(clamped_linear_attention(q, q, q, 100.0), torch.full_like(q, 4 * 0.04 * 0.1 / 100))


def influence_entropy(net: torch.nn.Module, x: torch.Tensor) -> float:
    """Mean entropy, in nats, of how much each position is moved by each other one: norms of the Jacobian's blocks."""
    length, width = x.shape[1:]
    jacobian = torch.func.jacrev(lambda t: net(t)[0])(x).view(length, width, length, width)
    weight = jacobian.square().sum((1, 3)).sqrt() * (1 - torch.eye(length, dtype=x.dtype))
    share = weight / weight.sum(-1, keepdim=True)
    return float(-(share.clamp(min=1e-300).log() * share).sum(-1).mean())


@pytest.mark.paper("l2vit")
def test_the_implicit_attention_is_flat_and_concentration_sharpens_it() -> None:
    shape = Shape("sequence", 8, 144, height=12, width=12)
    attend: Node = {"residual": {"block": {"clamped_linear_attention": {"heads": 2, "features": "elu", "floor": 1.0}}}}
    near: Node = {
        "residual": {
            "block": {"sequence": {"blocks": [{"to_grid": {}}, {"local_concentration": {}}, {"to_sequence": {}}]}}
        }
    }
    flat, x = built(attend, shape)
    sharp, _ = built({"sequence": {"blocks": [attend, near]}}, shape)
    sharp.load_state_dict({f"blocks.0.{k}": v for k, v in flat.state_dict().items()}, strict=False)
    even = math.log(143)
    with torch.no_grad():
        before, after = (influence_entropy(net, x[:1]) for net in (flat, sharp))
    assert before > 0.95 * even
    assert after < before - 0.3
