"""Parameter counts against closed forms and published sizes."""

from __future__ import annotations

import pytest

from space.block import Node, instantiate
from space.shape import Shape

SEQUENCE = Shape("sequence", 768, 16)
IMAGE = Shape("grid", 3, height=224, width=224)

VIT_BASE_LAYER: Node = {
    "layer": {
        "norm": {"layer_norm": {}},
        "mixer": {"attention": {"heads": 12}},
        "channel": {"mlp": {"ratio": 4.0}},
    }
}


@pytest.mark.parametrize(
    ("node", "shape", "count"),
    [
        # ViT-B/16: patch projection, one encoder layer (12 of them in the published 86,567,656).
        ({"patch_embed": {"patch": 16, "dim": 768}}, IMAGE, 590_592),
        (VIT_BASE_LAYER, SEQUENCE, 7_087_872),
        ({"patch_embed": {"patch": 16, "dim": 768, "position": "learned"}}, IMAGE, 590_592 + 196 * 768),
        ({"classifier": {"classes": 1000, "norm": "layer_norm"}}, SEQUENCE, 768 * 1000 + 1000 + 2 * 768),
        # Mamba-130M: 129,135,360 = 24 x (3,770,880 + 768) + 768 + 50,280 x 768 (tied).
        ({"selective_ssm": {}}, SEQUENCE, 3_770_880),
        ({"token_embed": {"dim": 768}}, Shape("tokens", 50_280, 16), 50_280 * 768),
        # Multi-query: k and v shrink to 2 D E; grouped in between.
        ({"attention": {"heads": 12, "bias": False}}, SEQUENCE, 4 * 768 * 768),
        ({"attention": {"heads": 12, "kv_heads": 1, "bias": False}}, SEQUENCE, 2 * 768 * 768 + 2 * 768 * 64),
        ({"attention": {"heads": 12, "kv_heads": 4, "bias": False}}, SEQUENCE, 2 * 768 * 768 + 2 * 768 * 256),
        ({"linear_attention": {"heads": 12}}, SEQUENCE, 4 * 768 * 768 + 4 * 768),
        ({"fourier_mixer": {}}, SEQUENCE, 0),
        ({"depthwise_conv": {"kernel": 7, "project": False}}, Shape("grid", 96, height=8, width=8), 96 * 49 + 96),
        ({"depthwise_conv": {"kernel": 3}}, SEQUENCE, 768 * 3 + 768 + 768 * 768 + 768),
        # LLaMA-7B: hidden width 11,008 from 8 / 3 x 4096 rounded up to a multiple of 256.
        ({"swiglu": {"multiple": 256}}, Shape("sequence", 4096, 2), 3 * 4096 * 11_008),
        ({"mlp": {}}, SEQUENCE, 2 * 4 * 768 * 768 + 5 * 768),
        ({"batch_norm": {}}, IMAGE, 6),
        ({"lm_head": {"vocab": 50_280, "norm": "none"}}, SEQUENCE, 50_280 * 768),
        ({"conv_stem": {"dim": 32}}, IMAGE, 3 * 32 * 9 + 2 * 32),
        ({"pool": {}}, IMAGE, 0),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_parameters(node: Node, shape: Shape, count: int) -> None:
    import torch

    with torch.device("meta"):
        block = instantiate(node, shape)
    assert sum(p.numel() for p in block.parameters()) == count
