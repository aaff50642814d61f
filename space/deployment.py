"""The deployed form of a network: every block that folds, folded."""

from __future__ import annotations

import functools
import json
from typing import Any

import torch
from torch import nn

from space import registry
from space.architecture import canonical_json
from space.block import Block, Node, instantiate, parse_node


def deployed_node(node: Node) -> Node:
    """The node with `deployed: true` in every block that folds; the same node where none does."""
    cls, _ = parse_node(node)
    ((kind, raw),) = node.items()
    made: dict[str, Any] = dict(raw)
    for name, slot in cls.slots.items():
        held = made.get(name)
        if slot.many and held is not None:
            made[name] = [deployed_node(inner) for inner in held]
        elif held is not None:
            made[name] = deployed_node(held)
    if "deployed" in cls.Options.model_fields:
        made["deployed"] = True
    return {kind: made}


def deployed_form(node: Node) -> Node:
    """`deployed_node(node)`, or this very node where no block of it folds."""
    return deployed_node(node) if folds(canonical_json(node)) else node


@functools.lru_cache(maxsize=4096)
def folds(text: str) -> bool:
    """True where a block in a node, given as JSON, folds. Raises NameUnknown for a kind that nobody knows."""
    return _folds(json.loads(text), registry.all_blocks())


def _folds(node: Node, known: dict[str, type[Block]]) -> bool:
    if len(node) != 1:
        return False  # no node; who parses it says so
    ((kind, raw),) = node.items()
    cls = known[kind] if kind in known else registry.get(kind)
    held = [raw.get(name) for name in cls.slots] if isinstance(raw, dict) else []
    inner = [one for value in held for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]
    return "deployed" in cls.Options.model_fields or any(_folds(one, known) for one in inner)


def deploy(block: Block) -> Block:
    """A new block, in eval mode, that computes what `block` does there, with its branches and norms folded.

    Weights keep their dtype and device. The given block is left as it is.
    """
    options = {name: getattr(block.block_options, name) for name in type(block).Options.model_fields}
    twin = instantiate(deployed_node({block.kind: options}), block.block_shape)
    reference = next((t for t in (*block.parameters(), *block.buffers()) if t.is_floating_point()), None)
    if reference is not None:
        twin.to(device=reference.device, dtype=reference.dtype)
    with torch.no_grad():
        _fold(block, twin)
    return twin.eval()


def _fold(block: Block, twin: Block) -> None:
    for name, child in block.block_children.items():
        _fold(child, twin.block_children[name])
    folds = getattr(twin.block_options, "deployed", False) and not block.block_options.deployed
    state = block.deployed_state() if folds else block.state_dict()
    inner = {id(m) for child in twin.block_children.values() for m in child.modules()}
    prefixes = tuple(f"{name}." for name, m in _named(twin) if id(m) in inner)
    own = {k: v for k, v in state.items() if not k.startswith(prefixes)} if prefixes else state
    result = twin.load_state_dict(own, strict=False)
    missing = [k for k in result.missing_keys if not (prefixes and k.startswith(prefixes))]
    if missing or result.unexpected_keys:
        wrong = ", ".join([*missing, *result.unexpected_keys])
        raise RuntimeError(f"{block.kind}.deployed_state does not fit the deployed form: {wrong}")


def _named(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, m) for name, m in module.named_modules() if name]
