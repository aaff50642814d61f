"""Weights by modality: MACs of the plain layer, parameters times the modalities, one modality is the plain layer."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape
from space.blocks.topology.modality_split import modality_positions
from space.errors import ShapeError
from space.shape import Shape
from tests.space.blocks.topology.whole import built, macs, parameters

SHAPE = Shape("sequence", 16, length=12, causal=True)
MLP = {"mlp": {"ratio": 2}}
LAYER = {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 4}}, "channel": MLP}}


def split(modalities: int, spans: list[int]) -> dict:
    return {"modality_split": {"spans": spans, "modalities": modalities, "heads": 4, "channel": MLP}}


@pytest.mark.paper("mixture-of-transformers")
@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_active_work_is_dense_and_parameters_multiply(modalities) -> None:
    node = split(modalities, [2] * modalities)
    assert macs(node, SHAPE) == macs(LAYER, SHAPE)
    assert parameters(node, SHAPE) == modalities * parameters(LAYER, SHAPE)


@pytest.mark.paper("mixture-of-transformers")
@pytest.mark.parametrize("modalities", [1, 2])
def test_equal_weights_are_the_plain_layer(modalities) -> None:
    plain, x = built(LAYER, SHAPE)
    block, _ = built(split(modalities, [3, 1] * modalities), SHAPE)
    for m in range(modalities):
        block.qkv[m].load_state_dict(plain.mixer.qkv.state_dict())
        block.out[m].load_state_dict(plain.mixer.out.state_dict())
        block.mixer_norm[m].load_state_dict(plain.mixer_norm.state_dict())
        block.channel_norm[m].load_state_dict(plain.channel_norm.state_dict())
        block.channel[m].load_state_dict(plain.channel.state_dict())
    torch.testing.assert_close(block(x), plain(x))


@pytest.mark.paper("mixture-of-transformers")
def test_a_modality_feels_the_other_only_through_attention() -> None:
    block, x = built(split(2, [3, 2]), SHAPE)
    with torch.no_grad():
        before = block(x)
        block.channel[1].expand.bias.add_(1.0)
        after = block(x)
    changed = (before - after).abs().amax((0, 2)) > 1e-9
    assert changed.tolist() == [t % 5 >= 3 for t in range(12)]


def test_positions() -> None:
    assert modality_positions(12, [3, 2], 2) == [[0, 1, 2, 5, 6, 7, 10, 11], [3, 4, 8, 9]]
    assert modality_positions(2, [3, 2], 2) == [[0, 1], []]


def test_spans_come_in_rounds_of_the_modalities() -> None:
    with pytest.raises(ShapeError, match="a multiple of the 2 modalities in number; got"):
        infer_shape(split(2, [3, 2, 1]), SHAPE)
