"""FasterViT preset against its authors' package `fastervit`: copied weights give its outputs.

The package holds coordinates in single precision, as we do, but rounds them elsewhere: differences are near 1e-10. Its
first two batch norms have an epsilon of 1e-4, ours 1e-5; the peer is set to ours. See tests/peers/common.py.
"""

from __future__ import annotations

import sys
import warnings

import torch
from torch import nn

from tests.peers.common import by_names, compare, importable, preset, report, shaken

PARTS = {
    "positions.expand": "pos_embed.cpb_mlp.0",
    "positions.project": "pos_embed.cpb_mlp.2",
    "mixer_norm": "norm1",
    "mixer.qkv": "attn.qkv",
    "mixer.out": "attn.proj",
    "mixer.offsets.expand": "attn.pos_emb_funct.cpb_mlp.0",
    "mixer.offsets.project": "attn.pos_emb_funct.cpb_mlp.2",
    "channel_norm": "norm2",
    "channel.0": "mlp.fc1",
    "channel.2": "mlp.fc2",
}
FIRST_CONV_BLOCK = ((2, 0, 2), (6, 1, 3))
"""(our first block, their level, how many) of the stages of convolutions."""
DOWNSAMPLE = ((4, 0), (9, 1), (12, 2))
ATTENTION = ((11, 2), (14, 3))


def names() -> list[tuple[str, str]]:
    """(pattern of our name, theirs)."""
    pairs = [
        (r"blocks\.11\.start\.0\.(.*)", r"levels.2.global_tokenizer.pos_embed.\1"),
        (r"blocks\.15\.norm\.(.*)", r"norm.\1"),
        (r"blocks\.16\.score\.(.*)", r"head.\1"),
    ]
    for ours, conv in ((0, 0), (1, 3)):
        pairs.append((rf"blocks\.{ours}\.body\.conv\.(.*)", rf"patch_embed.conv_down.{conv}.\1"))
        pairs.append((rf"blocks\.{ours}\.body\.norm\.(.*)", rf"patch_embed.conv_down.{conv + 1}.\1"))
    for first, level, count in FIRST_CONV_BLOCK:
        for i in range(count):
            for j in (0, 1):
                ours = rf"blocks\.{first + i}\.block\.blocks\.{j}\.body"
                pairs += [
                    (rf"{ours}\.{part}\.(.*)", rf"levels.{level}.blocks.{i}.{part}{j + 1}.\1")
                    for part in ("conv", "norm")
                ]
    for at, level in DOWNSAMPLE:
        pairs.append((rf"blocks\.{at}\.norm\.(.*)", rf"levels.{level}.downsample.norm.\1"))
        pairs.append((rf"blocks\.{at + 1}\.body\.conv\.weight", rf"levels.{level}.downsample.reduction.0.weight"))
    for at, level in ATTENTION:
        for part, theirs in PARTS.items():
            escaped = part.replace(".", r"\.")
            pairs.append((rf"blocks\.{at}\.layers\.(\d+)\.{escaped}\.(.*)", rf"levels.{level}.blocks.\1.{theirs}.\2"))
            pairs.append(
                (rf"blocks\.{at}\.carrier_layers\.(\d+)\.{escaped}\.(.*)", rf"levels.{level}.blocks.\1.hat_{theirs}.\2")
            )
    return pairs


def error() -> float:
    """Relative output error of the preset on two random images."""
    importable()
    warnings.simplefilter("ignore")
    from fastervit.models.faster_vit import FasterViT

    peer = FasterViT(
        dim=64, in_dim=64, depths=[2, 3, 6, 5], num_heads=[2, 4, 8, 16], window_size=[7] * 4, ct_size=2, mlp_ratio=4
    )
    for module in peer.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
    peer, ours = shaken(peer), preset("fastervit_0")
    return compare(ours, peer, by_names(ours, peer.state_dict(), names()), torch.randn(2, 3, 224, 224))


if __name__ == "__main__":
    sys.exit(report({"fastervit_0": error}))
