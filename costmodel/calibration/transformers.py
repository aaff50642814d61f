"""Whole transformers of public measurements as documents: pre-norm layers of the stated sizes."""

from __future__ import annotations

from typing import Any

ENCODERS = ("bert", "roberta", "vit", "deit")
"""Beginnings of model names whose attention looks both ways."""


def transformer_document(model: str, sizes: dict[str, int]) -> dict[str, Any]:
    """A transformer with learned positions, biased projections and GELU channels, and an output over the vocabulary.

    `sizes` holds layers, dim, heads, mlp_dim, vocab, length. Models named as encoders attend both ways.
    """
    causal = not model.lower().startswith(ENCODERS)
    layer = {
        "layer": {
            "norm": {"layer_norm": {}},
            "mixer": {"attention": {"heads": sizes["heads"], "bias": True}},
            "channel": {"mlp": {"ratio": sizes["mlp_dim"] / sizes["dim"]}},
        }
    }
    blocks = [
        {"token_embed": {"dim": sizes["dim"], "position": "learned"}},
        *[layer] * sizes["layers"],
        {"layer_norm": {}},
        {"lm_head": {"vocab": sizes["vocab"]}},
    ]
    return {
        "blockwright": 1,
        "input": {"kind": "tokens", "vocab": sizes["vocab"], "length": sizes["length"], "causal": causal},
        "architecture": {"sequence": {"blocks": blocks}},
    }
