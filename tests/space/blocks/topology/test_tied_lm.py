"""A language model with one table for embedding and output."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from costmodel.blocks import node_table
from costmodel.table import C
from space import load_space
from space.block import infer_shape, instantiate
from space.errors import InputError, ShapeError, SpaceError
from space.shape import Shape

TOKENS = Shape("tokens", 11, 12, causal=True)
LAYER = {"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {}}}}


def test_equals_embedding_network_and_transposed_embedding() -> None:
    block = instantiate({"tied_lm": {"dim": 8, "position": "learned", "blocks": [LAYER, LAYER]}}, TOKENS).double()
    network = instantiate({"sequence": {"blocks": [LAYER, LAYER]}}, Shape("sequence", 8, 12, causal=True)).double()
    network.blocks.load_state_dict(block.blocks.state_dict())
    ids = torch.randint(11, (2, 12))
    x = nn.functional.one_hot(ids, 11).double() @ block.embed.weight + block.position
    x = network(x)
    x = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * block.norm.gain
    torch.testing.assert_close(block(ids), x @ block.embed.weight.T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("vocab", "rows"), [(None, 11), (16, 16)])
def test_the_table_is_counted_once_and_multiplied_once(vocab: int | None, rows: int) -> None:
    node = {"tied_lm": {"dim": 8, "vocab": vocab, "blocks": [LAYER]}}
    inside, inner = node_table(LAYER, Shape("sequence", 8, 12, causal=True))
    table, segment = node_table(node, TOKENS)
    assert segment.parameters == inner.parameters + rows * 8 + 8
    macs = table.matrix[table.select()][:, C["macs"]].sum() - inside.matrix[inside.select()][:, C["macs"]].sum()
    assert macs == 12 * rows * 8
    assert infer_shape(node, TOKENS).dim == rows
    assert sum(p.numel() for p in instantiate(node, TOKENS).parameters()) == segment.parameters


def test_both_uses_train_the_table() -> None:
    block = instantiate({"tied_lm": {"dim": 8, "blocks": []}}, TOKENS).double()
    ids = torch.tensor([[3] * 12])
    block(ids)[..., 5].sum().backward()
    touched = block.embed.weight.grad.abs().sum(1) > 0
    assert touched.nonzero().flatten().tolist() == [3, 5]


def test_refuses_a_narrow_table_changed_width_and_too_long_a_text() -> None:
    with pytest.raises(ShapeError, match="vocab must cover the input's 11 tokens; got 10"):
        instantiate({"tied_lm": {"dim": 8, "vocab": 10, "blocks": []}}, TOKENS)
    with pytest.raises(ShapeError, match="blocks must give back"):
        instantiate({"tied_lm": {"dim": 8, "blocks": [{"linear_embed": {"dim": 4}}]}}, TOKENS)
    block = instantiate({"tied_lm": {"dim": 8, "position": "learned", "blocks": []}}, TOKENS)
    with pytest.raises(InputError, match="learned positions for 12 tokens only"):
        block.step(torch.zeros(1, 1, dtype=torch.int64), block.init_state(1, 12))


def test_in_yaml(tmp_path: Path) -> None:
    def space(body: str):
        path = tmp_path / "lm.yaml"
        path.write_text(f"input: {{kind: tokens, vocab: 11, length: 12}}\narchitecture:\n  tied_lm:\n{body}")
        return load_space(path)

    layer = "{layer: {mixer: {attention: {heads: 2}}}}"
    spread = space(f"    dim: 8\n    blocks: [{{repeat: {{times: 2, block: {layer}}}}}]\n").sample(seed=0)
    flat = space(f"    dim: 8\n    norm: rms_norm\n    blocks: [identity, {layer}, {layer}]\n").sample(seed=0)
    assert spread.id == flat.id
    assert "norm" not in spread.node["tied_lm"]
    plain = space("    dim: 8\n    norm: identity\n    blocks: [identity]\n").sample(seed=0)
    assert plain.node == {"tied_lm": {"dim": 8, "blocks": [{"identity": {}}], "norm": {"identity": {}}}}
    with pytest.raises(SpaceError, match="vocab must cover"):
        space("    dim: 8\n    vocab: 5\n    blocks: [identity]\n")
