"""Spaces of small networks that `nas calibrate` draws from besides those that ship.

A small network runs again before its kernels have left the nearest caches, so its operators are faster than the same in
a large one; a calibration needs networks of both sizes.
"""

from __future__ import annotations

_LAYERS = """
    - repeat:
        times: {int: [1, 5]}
        block:
          layer:
            norm: {choice: [rms_norm, layer_norm]}
            mixer:
              choice:
                - attention: {heads: {choice: [1, 2, 4]}, kv_heads: {choice: [1, 2]}, rotary: {choice: [true, false]}}
                - attention: {heads: {choice: [2, 4]}, window: {choice: [8, 16]}}
                - linear_attention: {heads: {choice: [1, 2, 4]}}
                - selective_ssm: {state: {choice: [4, 8, 16]}, expand: {choice: [1, 2]}}
                - depthwise_conv: {kernel: {choice: [3, 4, 5, 8]}}
                - identity
            channel:
              choice:
                - mlp: {ratio: {choice: [1, 2, 4]}}
                - swiglu: {ratio: {choice: [1, 2, 3]}}
                - identity
"""
_IMAGES = """
name: small-images-{side}
input: {{kind: image, shape: [{channels}, {side}, {side}]}}
architecture:
  sequence:
    - patch_embed: {{patch: {{choice: [2, 4]}}, dim: {{choice: [16, 24, 32, 48, 64]}}, position: {{choice: [none, learned]}}}}
{layers}
    - classifier: {{classes: 10}}
"""
_TEXTS = """
name: small-texts-{length}
input: {{kind: tokens, vocab: {vocab}, length: {length}}}
architecture:
  sequence:
    - token_embed: {{dim: {{choice: [32, 64, 96, 128]}}, position: {{choice: [none, learned]}}}}
{layers}
    - lm_head: {{vocab: {vocab}}}
"""


def small_spaces() -> list[str]:
    """YAML texts: images of 8 to 16 pixels, texts of 32 to 128 tokens."""
    # On a grid of pixels only a square kernel has a middle.
    grid = _LAYERS.replace("[3, 4, 5, 8]", "[3, 5, 7]")
    images = [_IMAGES.format(side=side, channels=c, layers=grid) for side, c in ((8, 1), (12, 3), (16, 1))]
    texts = [_TEXTS.format(length=n, vocab=v, layers=_LAYERS) for n, v in ((32, 64), (64, 32), (128, 256))]
    return images + texts
