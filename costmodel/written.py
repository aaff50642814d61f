"""A document node with its canonical text, and that of every block where it's a row of blocks."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from space.block import Node, infer_shape, parse_node
from space.shape import Shape

MAX_CACHED_TEXTS = 4096

encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
"""The canonical JSON of a node."""


@dataclass(frozen=True)
class Written:
    """`text` is the node's canonical JSON. `row` are the blocks of a plain `sequence` with theirs, else empty."""

    node: Node
    text: str
    row: tuple[tuple[str, Node], ...] = ()

    @classmethod
    def of(cls, node: Node) -> Written:
        """Write a node down; the texts of a row's blocks make up the row's own."""
        raw: Any = node.get("sequence") if len(node) == 1 else None
        blocks = raw.get("blocks") if isinstance(raw, dict) and len(raw) == 1 else None
        if not isinstance(blocks, list) or not blocks or not all(isinstance(inner, dict) for inner in blocks):
            return cls(node, encode(node))
        row = tuple([(encode(inner), inner) for inner in blocks])
        return cls(node, f'{{"sequence":{{"blocks":[{",".join([text for text, _ in row])}]}}}}', row)

    @property
    def parts(self) -> tuple[str, ...]:
        """The texts of a row's blocks, or the node's own."""
        return tuple([text for text, _ in self.row]) or (self.text,)


@functools.lru_cache(maxsize=MAX_CACHED_TEXTS)
def inferred(text: str, shape: Shape) -> Shape:
    """Output shape of a node, given as JSON."""
    return infer_shape(json.loads(text), shape)


@functools.lru_cache(maxsize=MAX_CACHED_TEXTS)
def parsed(text: str) -> tuple[Any, Any]:
    """Block class and options of a node, given as JSON."""
    return parse_node(json.loads(text))
