"""EfficientViT presets against timm: copied weights give the peer's outputs. See tests/peers/common.py."""

from __future__ import annotations

import sys
from functools import partial

import torch

from tests.peers.common import by_order, compare, preset, report, timm_model


def error(name: str) -> float:
    """Relative output error of a preset on two random images."""
    block, peer = preset(name), timm_model(name)
    return compare(block, peer, by_order(block, peer), torch.randn(2, 3, 224, 224))


if __name__ == "__main__":
    sys.exit(
        report(
            {
                f"efficientvit_{size}": partial(error, f"efficientvit_{size}")
                for size in ("m0", "m1", "m2", "m3", "m4", "m5")
            }
        )
    )
