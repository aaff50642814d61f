"""RWKV's time mixing, both directions, and channel mixing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.ops import naive
from space.ops.gating import neighbour_shift
from space.shape import Shape
from tests.space.blocks.recurrent.common import CAUSAL, IMAGE, PLAIN, built, same, state_numbers, total


def back(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)


@pytest.mark.paper("diffusion-rwkv")
def test_time_mix_is_its_recurrence() -> None:
    block, x = built({"rwkv_time_mix": {}}, CAUSAL)

    def mixed(m, linear):
        return linear(m * x + (1 - m) * back(x))

    k, v = mixed(block.mix_key, block.key), mixed(block.mix_value, block.value)
    y, _ = naive.wkv(k, v, block.decay.exp(), block.bonus)
    same(block(x), block.output(mixed(block.mix_receptance, block.receptance).sigmoid() * y))


@pytest.mark.paper("diffusion-rwkv")
def test_constant_state_and_linear_cost() -> None:
    block = instantiate({"rwkv_time_mix": {}}, CAUSAL)
    assert state_numbers(block, 5) == state_numbers(block, 5_000) == 4 * 8
    for kind in ("rwkv_time_mix", "bi_wkv"):
        short, long = (Shape("sequence", 8, n, causal=kind == "rwkv_time_mix") for n in (1024, 2048))
        assert total({kind: {}}, long) == 2 * total({kind: {}}, short) == 2048 * 4 * 64
        growth = total({kind: {}}, long, "vector_flops") / total({kind: {}}, short, "vector_flops")
        assert 1.95 < growth < 2.05


@pytest.mark.paper("diffusion-rwkv")
@pytest.mark.parametrize("shift", ["neighbours", "previous", "none"])
def test_both_directions_weigh_by_distance(shift) -> None:
    block, x = built({"bi_wkv": {"shift": shift}}, IMAGE)
    other = {"neighbours": neighbour_shift(x, 3, 4), "previous": back(x), "none": x}[shift]
    mix = torch.ones(3, 8) if block.mix is None else block.mix
    k, v, r = (
        linear(m * x + (1 - m) * other)
        for m, linear in zip(mix, (block.key, block.value, block.receptance), strict=True)
    )
    y = naive.bidirectional_wkv(k, v, block.decay, block.bonus)
    same(block(x), block.output(r.sigmoid() * y))


@pytest.mark.paper("diffusion-rwkv")
def test_channel_mix_is_a_gated_squared_relu() -> None:
    block, x = built({"rwkv_channel_mix": {"ratio": 2.0}}, CAUSAL)
    k = block.key(block.mix_key * x + (1 - block.mix_key) * back(x))
    r = block.receptance(block.mix_receptance * x + (1 - block.mix_receptance) * back(x))
    same(block(x), r.sigmoid() * F.linear(k.clamp(min=0) ** 2, block.value.weight))


def test_neighbours_on_a_grid_and_on_a_line() -> None:
    x = torch.arange(1.0, 7).repeat_interleave(4).view(1, 6, 4)  # cells 1 2 3 / 4 5 6, four channels alike
    left, right, above, below = neighbour_shift(x, 2, 3)[0].unbind(1)
    assert left.tolist() == [0, 1, 2, 0, 4, 5]
    assert right.tolist() == [2, 3, 0, 5, 6, 0]
    assert above.tolist() == [0, 0, 0, 1, 2, 3]
    assert below.tolist() == [4, 5, 6, 0, 0, 0]
    line = neighbour_shift(x, 0, 0)[0]
    assert line[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert line[:, 3].tolist() == [2, 3, 4, 5, 6, 0]


def test_neighbours_are_refused_where_the_input_is_causal() -> None:
    with pytest.raises(ShapeError, match="shift must be previous"):
        infer_shape({"rwkv_channel_mix": {"shift": "neighbours"}}, CAUSAL)
    assert infer_shape({"rwkv_channel_mix": {"shift": "neighbours"}}, PLAIN) == PLAIN
