"""Retention, gated linear attention, the gated delta rule, the Legendre memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.ops import naive
from space.ops.attention import rotary_table, rotate
from space.ops.legendre import discrete_legendre, impulse_response, legendre_system
from space.shape import Shape
from tests.space.blocks.recurrent.common import CAUSAL, PLAIN, built, heads_of, same, state_numbers, total


def per_head_norm(y: Tensor, heads: int) -> Tensor:
    y = y.unflatten(-1, (heads, -1))
    return (y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()).flatten(-2)


@pytest.mark.paper("flashvideo")
def test_retention_is_its_parallel_form() -> None:
    block, x = built({"retention": {"heads": 2, "value_ratio": 2.0}}, CAUSAL)
    q, k, v = (heads_of(t, 2) for t in block.qkv(x).split([8, 8, 16], dim=-1))
    table = rotary_table(12, 4, 10000.0).double()
    decay = torch.tensor([1 - 2**-5, 1 - 2**-6], dtype=torch.float64)
    distance = torch.arange(12)[:, None] - torch.arange(12)
    fade = torch.where(distance >= 0, decay[:, None, None] ** distance.clamp(min=0), 0)
    y = (rotate(q, table) @ rotate(k, table).mT / 2 * fade) @ v
    y = per_head_norm(y.transpose(1, 2).flatten(2), 2) * F.silu(block.gate(x))
    # The decays are float32 numbers in the block.
    torch.testing.assert_close(block(x), block.out(y), rtol=1e-6, atol=1e-6)


@pytest.mark.paper("flashvideo")
def test_retention_without_decay_is_causal_linear_attention() -> None:
    bare = {"heads": 2, "decay": 1.0, "rotary": False, "normalise": False, "gate": False}
    block, x = built({"retention": bare}, CAUSAL)
    q, k, v = (heads_of(t, 2) for t in block.qkv(x).chunk(3, dim=-1))
    same(block(x), block.out(((q @ k.mT / 2).tril() @ v).transpose(1, 2).flatten(2)))


@pytest.mark.paper("flashvideo")
def test_a_decoded_token_costs_the_same_at_any_length() -> None:
    block = instantiate({"retention": {"heads": 2}}, CAUSAL)
    assert state_numbers(block, 10) == state_numbers(block, 100_000) == 2 * 4 * 4
    decays = block.log_decay.exp()
    assert 0 < decays.min() < decays.max() < 1


def test_retention_refuses_what_it_cannot_turn_or_norm() -> None:
    for options, told in (
        ({"heads": 8}, "even head width"),
        ({"heads": 8, "rotary": False}, "nothing to normalise"),
        ({"heads": 4, "value_ratio": 0.3}, "value_ratio must give"),
    ):
        with pytest.raises(ShapeError, match=told):
            infer_shape({"retention": options}, CAUSAL)


@pytest.mark.paper("linear-attention")
def test_gated_linear_attention_is_its_recurrence() -> None:
    block, x = built({"gated_linear_attention": {"heads": 2, "gate_rank": 3}}, CAUSAL)
    q, k, v, z = block.qkvz(x).split([4, 4, 8, 8], dim=-1)
    gates = torch.sigmoid(block.gate_up(block.gate_down(x))) ** (1 / 16)
    q, k, v, g = (heads_of(t, 2) for t in (q, k, v, gates.log()))
    y, _ = naive.decay_attention(q / 2**0.5, k, v, g)
    same(block(x), block.out(per_head_norm(y.transpose(1, 2).flatten(2), 2) * F.silu(z)))


@pytest.mark.paper("linear-attention")
def test_gated_delta_rule_is_its_recurrence() -> None:
    block, x = built({"gated_delta_rule": {"heads": 2}}, CAUSAL)
    qkv, z, beta, dt = block.in_proj(x).split([32, 16, 2, 2], dim=-1)
    qkv = F.silu(F.conv1d(F.pad(qkv.mT, (3, 0)), block.conv.weight, groups=32).mT)
    q, k, v = (heads_of(t, 2) for t in qkv.split([8, 8, 16], dim=-1))
    q, k = q / q.norm(dim=-1, keepdim=True) / 2, k / k.norm(dim=-1, keepdim=True)
    g = -block.A_log.exp() * F.softplus(dt + block.dt_bias)
    y, _ = naive.gated_delta_rule(q, k, v, beta.sigmoid().mT, g.mT)
    y = per_head_norm(y.transpose(1, 2).flatten(2) * F.silu(z), 2) * block.norm.weight
    same(block(x), block.out_proj(y))


@pytest.mark.paper("lmuformer")
def test_legendre_system_is_the_closed_form() -> None:
    a, b = legendre_system(4, 2.0)
    for i in range(4):
        assert b[i] == (2 * i + 1) / 2 * (-1) ** i
        for j in range(4):
            assert a[i, j] == (2 * i + 1) / 2 * (-1 if i < j else (-1) ** (i - j + 1))


@pytest.mark.paper("lmuformer")
def test_memory_remembers_the_window() -> None:
    # Reading all coefficients (every shifted Legendre polynomial is 1 at the far end) gives the input theta ago.
    theta, t = 50.0, torch.arange(400, dtype=torch.float64)
    u = torch.sin(2 * torch.pi * t / 60)
    a, b = discrete_legendre(12, theta)
    response = impulse_response(a, b, 400).sum(0)
    delayed = torch.stack([(response[: n + 1].flip(0) * u[: n + 1]).sum() for n in range(400)])
    # u_t is held from t - 1 to t: on average the memory is half a step ahead of the samples.
    want = torch.sin(2 * torch.pi * (t + 0.5 - theta) / 60)
    assert (delayed - want)[200:].abs().max() < 0.002


@pytest.mark.paper("lmuformer")
def test_both_forms_agree_and_train_the_same() -> None:
    options = {"order": 6, "theta": 9.0, "signals": 2}
    fft, x = built({"legendre_memory": options}, CAUSAL)
    walk, _ = built({"legendre_memory": {**options, "form": "recurrent"}}, CAUSAL)
    same(fft(x), walk(x))
    names = {name for name, _ in fft.named_parameters()}
    assert names == {"to_signal.weight", "to_signal.bias", "hidden.weight", "hidden.bias"}


@pytest.mark.paper("lmuformer")
def test_forms_agree_in_float32() -> None:
    shape = Shape("sequence", 8, 500, causal=True)
    torch.manual_seed(0)
    fft = instantiate({"legendre_memory": {"order": 32, "theta": 100.0}}, shape)
    walk = instantiate({"legendre_memory": {"order": 32, "theta": 100.0, "form": "recurrent"}}, shape)
    walk.load_state_dict(fft.state_dict())
    x = torch.randn(shape.size(1))
    torch.testing.assert_close(fft(x), walk(x), rtol=1e-4, atol=1e-4)


@pytest.mark.paper("lmuformer")
def test_streaming_state_is_the_order_and_cost_nearly_linear() -> None:
    block = instantiate({"legendre_memory": {"order": 6, "theta": 9.0}}, CAUSAL)
    assert state_numbers(block, 3) == state_numbers(block, 3_000) == 6
    node = {"legendre_memory": {"order": 6, "theta": 9.0}}
    short, long = (total(node, PLAIN.with_(length=n), "vector_flops") for n in (512, 1024))
    assert 2 < long / short < 2.3  # L log L
