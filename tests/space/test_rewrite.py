"""Rewritten networks give the same outputs, with the norms they say."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from costmodel.blocks import node_table
from costmodel.table import KIND, C
from space.block import Block, Node, instantiate, walk_nodes
from space.errors import InputError
from space.rewrite import fold_norms, node_of, to_rms_norm
from space.shape import Shape

TOKENS = Shape("tokens", 11, 12, causal=True)
IMAGE = Shape("grid", 3, height=8, width=8)


def built(node: Node, shape: Shape, dtype: torch.dtype = torch.float64) -> Block:
    torch.manual_seed(0)
    block = instantiate(node, shape).to(dtype)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block.eval()


def sample(shape: Shape, dtype: torch.dtype = torch.float64) -> Tensor:
    if shape.layout == "tokens":
        return torch.randint(shape.dim, shape.size(3))
    return torch.randn(shape.size(3), dtype=dtype)


def kinds(block: Block) -> Counter[str]:
    return Counter(kind for _, kind, _ in walk_nodes(node_of(block)))


def network(norm: Node, stem: Node, head: Node, mixer: Node | None = None) -> Node:
    layer = {"layer": {"norm": norm, "mixer": mixer or {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2.0}}}}
    swiglu = {"residual": {"block": {"sequence": {"blocks": [norm, {"swiglu": {"ratio": 2.0}}]}}}}
    return {"sequence": {"blocks": [stem, layer, layer, swiglu, norm, head]}}


LANGUAGE = network({"layer_norm": {}}, {"token_embed": {"dim": 8, "position": "learned"}}, {"lm_head": {"vocab": 11}})
VISION = network(
    {"layer_norm": {"bias": False}},
    {"patch_embed": {"patch": 2, "dim": 8, "position": "learned"}},
    {"classifier": {"classes": 3, "norm": "layer_norm"}},
)
PYRAMID: Node = {
    "sequence": {
        "blocks": [
            {"patch_embed": {"patch": 2, "dim": 8}},
            {"to_grid": {}},
            {
                "layer": {
                    "norm": {"layer_norm": {}},
                    "mixer": {"depthwise_conv": {}},
                    "channel": {"mlp": {"ratio": 2.0}},
                }
            },
            {"layer_norm": {}},
        ]
    }
}


@pytest.mark.paper("pre-rmsnorm")
@pytest.mark.parametrize(("node", "shape"), [(LANGUAGE, TOKENS), (VISION, IMAGE), (PYRAMID, IMAGE)])
def test_layer_norms_become_rms_norms_with_equal_outputs(node, shape) -> None:
    block, x = built(node, shape), sample(shape)
    twin = to_rms_norm(block)
    torch.testing.assert_close(twin(x), block(x), rtol=1e-10, atol=1e-10)
    assert kinds(block)["layer_norm"] > 0
    assert kinds(twin)["layer_norm"] == 0
    assert kinds(twin)["rms_norm"] == kinds(block)["layer_norm"]
    assert sum(p.numel() for p in twin.parameters()) == sum(p.numel() for p in block.parameters())


@pytest.mark.paper("pre-rmsnorm")
def test_the_stream_has_mean_zero_afterwards() -> None:
    twin = to_rms_norm(built(LANGUAGE, TOKENS))
    x = sample(TOKENS)
    for part in list(twin.block_children.values())[:4]:
        x = part(x)
        assert x.mean(-1).abs().max() < 1e-12


def test_precision_and_the_original_are_kept() -> None:
    block = built(LANGUAGE, TOKENS, torch.float32)
    before = {name: t.clone() for name, t in block.state_dict().items()}
    twin = to_rms_norm(block)
    assert {p.dtype for p in twin.parameters()} == {torch.float32}
    assert all(torch.equal(before[name], t) for name, t in block.state_dict().items())
    x = sample(TOKENS)
    torch.testing.assert_close(twin(x), block(x), rtol=1e-4, atol=1e-5)


def test_weights_shared_over_depth_are_rewritten_too() -> None:
    layer = {"layer": {"norm": {"layer_norm": {}}, "mixer": {"attention": {"heads": 2}}}}
    blocks = [
        {"token_embed": {"dim": 8}},
        {"repeat": {"times": 3, "share": "weights", "block": layer}},
        {"layer_norm": {}},
    ]
    block, x = built({"sequence": {"blocks": blocks}}, TOKENS), sample(TOKENS)
    twin = to_rms_norm(block)
    assert kinds(twin)["layer_norm"] == 0
    torch.testing.assert_close(twin(x), block(x), rtol=1e-9, atol=1e-9)


def test_the_rewritten_document_builds_the_same_network() -> None:
    twin, x = to_rms_norm(built(LANGUAGE, TOKENS)), sample(TOKENS)
    node = node_of(twin)
    layer = node["sequence"]["blocks"][1]["layer"]
    assert layer == {
        "norm": {"rms_norm": {"bias": True}},
        "mixer": {"attention": {"heads": 2}},
        "channel": {"mlp": {"ratio": 2.0}},
    }
    again = instantiate(node, TOKENS).double()
    again.load_state_dict(twin.state_dict(), strict=True)
    torch.testing.assert_close(again(x), twin(x))


def test_post_norm_networks_are_refused() -> None:
    blocks = [{"token_embed": {"dim": 8}}, {"residual": {"block": {"attention": {"heads": 2}}}}, {"rms_norm": {}}]
    with pytest.raises(InputError, match="nothing to rewrite"):
        to_rms_norm(built({"sequence": {"blocks": blocks}}, TOKENS))


def test_a_reader_that_sees_the_mean_is_noticed() -> None:
    layer = {"layer": {"norm": {"layer_norm": {}}, "mixer": {"attention": {"heads": 2}}}}
    bare = {"residual": {"block": {"mlp": {"ratio": 1.0}}}}
    with pytest.raises(InputError, match="doesn't give the same outputs"):
        to_rms_norm(built({"sequence": {"blocks": [{"token_embed": {"dim": 8}}, layer, bare]}}, TOKENS))


def trained(block: Block, shape: Shape) -> Block:
    """Running statistics moved off their start."""
    block.train()
    with torch.no_grad():
        for _ in range(3):
            block(2 + 3 * sample(shape))
    return block.eval()


SERIES = Shape("sequence", 8, 12)


@pytest.mark.parametrize(
    "norm",
    [
        pytest.param("power_norm", marks=pytest.mark.paper("powernorm")),
        pytest.param("unified_norm", marks=pytest.mark.paper("unified-norm")),
        pytest.param("prepbn", marks=pytest.mark.paper("slab")),
        "batch_norm",
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_norms_fold_into_the_maps_behind_them(norm, bias) -> None:
    mixer, channel = {"attention": {"heads": 2, "bias": bias}}, {"mlp": {"ratio": 2.0, "bias": bias}}
    layer = {"layer": {"norm": {norm: {}}, "mixer": mixer, "channel": channel}}
    blocks = [{"linear_embed": {"dim": 8}}, layer, layer, {"classifier": {"classes": 3}}]
    block = trained(built({"sequence": {"blocks": blocks}}, SERIES), SERIES)
    twin, x = fold_norms(block), sample(SERIES)
    torch.testing.assert_close(twin(x), block(x), rtol=1e-9, atol=1e-9)
    assert kinds(twin)[norm] == 0

    def work(network: Block) -> float:
        table, _ = node_table(node_of(network), SERIES, "inference", batch=1)
        rows = table.matrix[table.select()]
        return (rows[:, C["kind"]] != KIND["matmul"]).sum()

    assert work(twin) < work(block)


def test_what_does_not_fold_stays() -> None:
    layer = {"layer": {"norm": {"batch_norm": {}}, "mixer": {"depthwise_conv": {}}, "channel": {"mlp": {}}}}
    block = trained(built({"sequence": {"blocks": [layer, layer]}}, SERIES), SERIES)
    twin, x = fold_norms(block), sample(SERIES)
    torch.testing.assert_close(twin(x), block(x), rtol=1e-12, atol=1e-12)
    assert kinds(twin)["batch_norm"] == kinds(block)["batch_norm"] == 2
