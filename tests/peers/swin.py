"""Swin and MViTv2 presets against timm: copied weights give the peer's outputs. See tests/peers/common.py."""

from __future__ import annotations

import sys
from functools import partial

import torch

from tests.peers.common import by_order, compare, preset, report, timm_model

NAMES = {"swin_tiny": "swin_tiny_patch4_window7_224", "mvitv2_tiny": "mvitv2_tiny"}


def error(ours: str, theirs: str) -> float:
    """Relative output error of a preset on two random images."""
    block, peer = preset(ours), timm_model(theirs)
    return compare(block, peer, by_order(block, peer), torch.randn(2, 3, 224, 224))


if __name__ == "__main__":
    sys.exit(report({ours: partial(error, ours, theirs) for ours, theirs in NAMES.items()}))
