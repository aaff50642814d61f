"""Candidates whose positions never meet are told apart from those whose do."""

from __future__ import annotations

import pytest
import torch

from nas.checking import check
from space import SearchSpace, all_blocks, infer_shape, instantiate, load_space, mixes_positions, unmixed_share
from space.automaton import Automaton, Edge
from space.block import Node
from space.extends import PRESETS
from space.shape import Shape
from tests.space.blocks.cases import first_cases

GATED = {"gated_mlp": {"inner_norm": "layer_norm"}}
ALONE: list[Node] = [
    {"sequence": {"blocks": [{"patch_embed": {"patch": 2, "dim": 8}}, {"layer": {"channel": GATED}}]}},
    {"repeat": {"times": 2, "block": {"residual": {"block": {"mlp": {}}}}}},
    {"conv_bn": {"kernel": 1}},
    {"parallel": {"branches": [{"mlp": {}}, {"identity": {}}]}},
]
TOGETHER: list[Node] = [
    {"layer": {"mixer": {"attention": {"heads": 2}}}},
    {"sequence": {"blocks": [{"mlp": {}}, {"residual": {"block": {"pool": {}}}}]}},
    {"conv_bn": {}},
    {"hourglass": {"factor": 2, "inner": {"mlp": {}}}},
]

SPACE = """
name: gated
input: {kind: image, shape: [1, 8, 8]}
architecture:
  sequence:
    - patch_embed: {patch: 2, dim: 8}
    - repeat:
        times: 2
        block: {layer: {mixer: {choice: [identity, attention: {heads: 2}, depthwise_conv]}, channel: mlp}}
    - classifier: {classes: 10}
"""


@pytest.mark.parametrize("node", ALONE, ids=str)
def test_positions_alone(node: Node) -> None:
    assert not mixes_positions(node)


@pytest.mark.parametrize("node", TOGETHER, ids=str)
def test_positions_together(node: Node) -> None:
    assert mixes_positions(node)


@pytest.mark.parametrize(
    "case", [c for c in first_cases() if not mixes_positions(c.node) and c.shape.layout != "vector"], ids=str
)
def test_what_is_said_to_mix_nothing_does_not(case) -> None:
    """A change at one position leaves all others alone, of every kind said to; heads pool, norms over batches apart."""
    cls = all_blocks()[case.kind]
    if cls.role in ("head", "norm") or case.shape.layout == "video":
        return
    block = case.build().eval()
    x = case.input(batch=1)
    y = block(x)
    changed = x.clone()
    grid = case.shape.layout == "grid"
    corner = (slice(None), slice(None), 0, 0) if grid else (slice(None), 0)
    changed[corner] = (x[corner] + 1) % case.shape.dim if case.shape.layout == "tokens" else x[corner] + 1
    moved = (block(changed) - y).abs()
    out = infer_shape(case.node, case.shape).layout
    over_channels = {"grid": (0, 1), "sequence": (0, 2), "tokens": 0}[out]
    at_positions = moved.amax(over_channels)
    assert (at_positions > 1e-9).sum() <= 1


@pytest.mark.paper("activator")
def test_a_gated_vision_network_without_mixer_is_warned_of() -> None:
    node = {"sequence": {"blocks": [*ALONE[0]["sequence"]["blocks"], {"classifier": {"classes": 3}}]}}
    torch.manual_seed(0)
    net = instantiate(node, Shape("grid", 3, height=8, width=8)).double().eval()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(2, 3)[:, :, torch.randperm(16)]
    shuffled = patches.unflatten(2, (4, 4)).permute(0, 1, 2, 4, 3, 5).reshape(2, 3, 8, 8)
    torch.testing.assert_close(net(shuffled), net(x))
    warned = check(
        SearchSpace.from_text(SPACE.replace("{choice: [identity, attention: {heads: 2}, depthwise_conv]}", "identity"))
    )
    assert warned["warnings"][0].startswith("every candidate mixes no positions before the final pooling")


def test_the_share_without_mixer_is_told() -> None:
    told = check(SearchSpace.from_text(SPACE))
    assert told["screened"]
    assert told["warnings"][0].startswith(f"{1 / 9:.2%} of the candidates mixes no positions")
    counted = check(SearchSpace.from_text(SPACE.replace("times: 2", "times: {choice: [1, 2]}")), samples=12)
    share = (1 / 3 + 1 / 9) / 2
    assert counted["warnings"][0].startswith(f"{share:.2%} of the candidates")


def test_presets_mix_their_positions() -> None:
    for name in ("vit_tiny_16", "mamba_130m", "poolformer_s12", "swin_tiny"):
        assert mixes_positions(load_space(PRESETS / f"{name}.yaml").only().node)


def test_unmixed_share_counts_paths() -> None:
    mlp, attend = ({"mlp": {}},), ({"attention": {"heads": 2}},)
    automaton = Automaton([mlp, attend], [[Edge(0.25, 0, 1), Edge(0.75, 1, 1)], [Edge(1.0, 0, 2)], []], {2})
    assert unmixed_share(automaton) == 0.25
