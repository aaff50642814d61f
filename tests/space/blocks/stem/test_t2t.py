"""Tokens to token: token counts, formulas, and the sizes of the released models."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from costmodel import cost
from costmodel.blocks import node_table
from costmodel.table import C
from space import load_space
from space.block import infer_shape, instantiate
from space.blocks.stem.t2t import positive_attention
from space.errors import ShapeError
from space.extends import PRESETS
from space.shape import Shape

IMAGE = Shape("grid", 3, height=224, width=224)


@pytest.mark.paper("t2t-vit")
def test_tokens_shrink_as_published() -> None:
    for layers, tokens in ((1, 56 * 56), (2, 28 * 28), (3, 14 * 14)):
        node = {"t2t": {"dim": 8, "kernels": [7, 3, 3][:layers], "strides": [4, 2, 2][:layers]}}
        assert infer_shape(node, IMAGE).length == tokens
    assert infer_shape({"t2t": {"dim": 8}}, IMAGE) == Shape("sequence", 8, 196, height=14, width=14)


@pytest.mark.paper("t2t-vit")
@pytest.mark.parametrize(
    ("preset", "params", "macs_millions"),
    [
        ("t2t_vit_7", 4_310_222, 1147.0),
        ("t2t_vit_12", 6_941_902, 1763.0),
        ("t2t_vit_14", 21_545_550, 4784.0),
        ("t2t_vit_t_14", 21_541_070, 6089.0),
    ],
)
def test_released_sizes(preset, params, macs_millions) -> None:
    """Measured from the released code at 224 pixels."""
    found = cost(load_space(PRESETS / f"{preset}.yaml").sample(seed=0))
    assert found.params == params
    assert found.macs / 1e6 == pytest.approx(macs_millions, rel=0.005)


@pytest.mark.paper("t2t-vit")
@pytest.mark.parametrize("inner", ["transformer", "performer"])
def test_macs_grow_with_the_square_of_tokens_or_not(inner: str) -> None:
    def macs(side: int) -> float:
        node = {"t2t": {"dim": 8, "kernels": [3, 3], "strides": [2, 2], "token_dim": 16, "inner": inner}}
        table, _ = node_table(node, Shape("grid", 3, height=side, width=side))
        return float(table.matrix[table.select()][:, C["macs"]].sum())

    def want(tokens: int) -> int:
        linear = 27 * 3 * 16 + 3 * 16 * 16 + 9 * 16 * 8 // 4
        if inner == "transformer":
            return tokens * linear + 2 * tokens * tokens * 16
        return tokens * (linear + 4 * 8 * 16 + 8)

    assert macs(16) == want(64)
    assert macs(32) == want(256)


@pytest.mark.paper("t2t-vit")
@pytest.mark.parametrize("inner", ["transformer", "performer"])
def test_equals_the_formula(inner: str) -> None:
    torch.manual_seed(0)
    node = {"t2t": {"dim": 5, "kernels": [3, 2], "strides": [2, 2], "token_dim": 4, "inner": inner}}
    block = instantiate(node, Shape("grid", 2, height=8, width=12)).double()
    x = torch.randn(2, 2, 8, 12, dtype=torch.float64)
    layer, padded = block.layers[0], F.pad(x, (1, 1, 1, 1))
    windows = [padded[:, :, i : i + 3, j : j + 3].flatten(1) for i in range(0, 8, 2) for j in range(0, 12, 2)]
    q, k, v = layer.qkv(layer.norm(torch.stack(windows, dim=1))).chunk(3, dim=-1)
    if inner == "transformer":
        mixed = torch.softmax(q @ k.mT / 18**0.5, dim=-1) @ v
    else:
        scores = torch.zeros(2, 24, 24, dtype=torch.float64)
        for w in layer.features:
            scores += (
                torch.exp(q @ w - q.square().sum(-1) / 2)[:, :, None]
                * torch.exp(k @ w - k.square().sum(-1) / 2)[:, None]
            )
        mixed = scores / scores.sum(-1, keepdim=True) @ v
    y = v + layer.project(mixed)
    y = (y + layer.mlp(layer.mlp_norm(y))).unflatten(1, (4, 6))
    rows = [y[:, i : i + 2, j : j + 2].permute(0, 3, 1, 2).flatten(1) for i in range(0, 4, 2) for j in range(0, 6, 2)]
    torch.testing.assert_close(block(x), block.project(torch.stack(rows, dim=1)), rtol=1e-7, atol=1e-7)


@pytest.mark.paper("t2t-vit")
def test_many_features_approach_the_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (0.3 * torch.randn(3, 2, 6, 4, generator=generator, dtype=torch.float64)).unbind()
    features = torch.randn(100_000, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        positive_attention(q, k, v, features), torch.softmax(q @ k.mT, dim=-1) @ v, rtol=0, atol=5e-3
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kernels": [3, 3], "strides": [2]}, "a stride for each kernel"),
        ({"kernels": [3], "strides": [4]}, "strides must not exceed their kernels"),
        ({"kernels": [3, 3, 3], "strides": [3, 3, 3]}, "kernels must not exceed the height"),
    ],
)
def test_refusals(options: dict, told: str) -> None:
    shape = Shape("grid", 3, height=8, width=12)
    with pytest.raises(ShapeError, match=told):
        infer_shape({"t2t": {"dim": 8, **options}}, shape)
