"""A wide class token: its limits, its counts, and the order of work."""

from __future__ import annotations

import pytest
import torch

from costmodel.blocks import node_table
from costmodel.table import KIND, C
from space import load_space
from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

IMAGE = Shape("sequence", 8, 12, height=3, width=4)
MIXER = {"layer": {"mixer": {"attention": {"heads": 2}}}}
CHANNEL = {"layer": {"channel": {"mlp": {"ratio": 2.0}}}}
LAYERS = {"times": 3, "mixers": [MIXER], "channels": [CHANNEL]}


@pytest.mark.paper("jumbo-cls")
def test_one_piece_without_a_network_of_its_own_is_a_class_token() -> None:
    torch.manual_seed(0)
    block = instantiate({"jumbo_cls": {"multiplier": 1, "ffn": "none", **LAYERS}}, IMAGE).double()
    both = {"layer": {**MIXER["layer"], **CHANNEL["layer"]}}
    plain = instantiate({"sequence": {"blocks": [{"class_token": {}}, both, both, both]}}, IMAGE).double()
    state = {"blocks.0.token": block.token}
    for i in range(3):
        state |= {f"blocks.{i + 1}.{name}": t for name, t in block.mixers[i].state_dict().items()}
        state |= {f"blocks.{i + 1}.{name}": t for name, t in block.channels[i].state_dict().items()}
    plain.load_state_dict(state)
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    torch.testing.assert_close(block(x), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.paper("jumbo-cls")
@pytest.mark.parametrize("pieces", [1, 3, 6])
def test_attention_sees_patches_and_pieces(pieces: int) -> None:
    node = {"jumbo_cls": {"multiplier": pieces, **LAYERS}}
    table, _ = node_table(node, IMAGE)
    rows = table.matrix[table.select()]
    attended = rows[rows[:, C["kind"]] == KIND["attention_prefill"]]
    assert attended[:, C["macs"]].sum() == 3 * 2 * 8 * (12 + pieces) ** 2
    assert infer_shape(node, IMAGE) == Shape("sequence", 8, 12 + pieces)


@pytest.mark.paper("jumbo-cls")
def test_the_shared_network_is_counted_once_and_run_every_time() -> None:
    def count(ffn: str) -> tuple[float, float]:
        table, segment = node_table({"jumbo_cls": {"multiplier": 4, "ffn": ffn, **LAYERS}}, IMAGE)
        return segment.parameters, float(table.matrix[table.select()][:, C["macs"]].sum())

    wide = 2 * 32 * 128 + 128 + 32
    shared, own = count("shared"), count("own")
    assert own[0] - shared[0] == 2 * wide
    assert shared[0] - count("none")[0] == wide + 3 * 2 * 32
    assert own[1] == shared[1]


@pytest.mark.paper("jumbo-cls")
def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    options = {"multiplier": 2, "ratio": 1.5, "last_channel": False, **LAYERS}
    block = instantiate({"jumbo_cls": options}, IMAGE).double()
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    wide, patches = block.token.reshape(16).expand(2, 16), x
    for i in range(3):
        y = block.mixers[i](torch.cat([wide.reshape(2, 2, 8), patches], dim=1))
        wide, patches = y[:, :2].reshape(2, 16), y[:, 2:]
        wide = wide + block.ffns[0](block.norms[i](wide))
        patches = block.channels[i](patches) if i < 2 else patches
    torch.testing.assert_close(block(x), torch.cat([wide.reshape(2, 2, 8), patches], dim=1), rtol=1e-12, atol=1e-12)
    assert block.ffns[0][0].out_features == 24


def test_in_yaml_with_its_head(tmp_path) -> None:
    path = tmp_path / "jumbo.yaml"
    path.write_text(
        "input: {kind: image, shape: [3, 8, 8]}\narchitecture:\n  sequence:\n    - patch_embed: {patch: 4, dim: 8}\n"
        "    - jumbo_cls:\n        multiplier: 3\n        times: 4\n        last_channel: false\n"
        "        mixers: [{layer: {mixer: {attention: {heads: 2}}}}]\n        channels: [{layer: {channel: mlp}}]\n"
        "    - classifier: {classes: 5, pool: first, tokens: 3}\n"
    )
    architecture = load_space(path).sample(seed=0)
    jumbo = architecture.node["sequence"]["blocks"][1]["jumbo_cls"]
    assert (len(jumbo["mixers"]), len(jumbo["channels"])) == (1, 1)
    module = instantiate(architecture.node, architecture.input_shape)
    assert len(module.blocks[1].channels) == 3
    assert module(torch.randn(2, 3, 8, 8)).shape == (2, 5)


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="set last_channel: true"):
        infer_shape({"jumbo_cls": {"ffn": "none", "last_channel": False, **LAYERS}}, IMAGE)
    with pytest.raises(ShapeError, match="the input is causal"):
        infer_shape({"jumbo_cls": LAYERS}, IMAGE.with_(causal=True))
