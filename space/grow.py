"""Growing a trained network without changing what it computes."""

from __future__ import annotations

from typing import Any

import torch

from space.block import Block, instantiate
from space.errors import InputError
from space.ops.pattention import append_tokens


def grow_tokens(block: Block, tokens: int) -> Block:
    """A `pattention` or `pattention_attention` with more parameter tokens that gives the same outputs (gelu norm).

    New keys and values are zeros and the scale keeps its old number of tokens. Raises InputError for another kind, for
    fewer tokens than there are, and for the softmax norm, to which a zero score is a weight.
    """
    options: dict[str, Any] = block.block_options.model_dump()
    if "tokens" not in options or "scale_tokens" not in options:
        raise InputError(f"{block.kind} has no parameter tokens to grow (pattention and pattention_attention have)")
    if options["norm"] != "gelu":
        raise InputError("the softmax norm gives appended zeros a weight; only norm: gelu grows without a change")
    count = tokens - options["tokens"]
    if count < 0:
        raise InputError(f"tokens must be {options['tokens']} or more to grow; got {tokens}")
    held = options["scale_tokens"] or options["tokens"]
    grown = instantiate({block.kind: options | {"tokens": tokens, "scale_tokens": held}}, block.block_shape)
    first = next(block.parameters())
    grown.to(device=first.device, dtype=first.dtype).train(block.training)
    with torch.no_grad():
        grown.load_state_dict(
            {
                name: append_tokens(value, count) if name.endswith(("keys", "values")) else value
                for name, value in block.state_dict().items()
            }
        )
    return grown
