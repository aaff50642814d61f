"""An architecture: plain data, frozen, with one id for one network."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import yaml

from space.errors import InputError
from space.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from space.block import Block, Node

FORMAT = 1
"""Version of the document's form; an architecture of a later one is refused."""


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Architecture:
    """One network. `text` is its document in canonical JSON, `picks` the choices that led to it (site -> value).

    Options equal to their default don't stand in the document (a default never changes its meaning), so two documents
    that build the same network are equal, and so are their ids.
    """

    text: str
    picks: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], picks: Mapping[str, Any] | None = None) -> Architecture:
        """From a document as `document` gives it. Raises InputError where it isn't one, or can't be built."""
        made = cls(canonical_json(document), MappingProxyType(dict(picks or {})))
        made.check()
        return made

    @classmethod
    def from_yaml(cls, text: str, file: str = "<text>") -> Architecture:
        """From YAML: a document as `to_yaml` writes it, or a space file without choices. Raises SpaceError."""
        from space.search_space import SearchSpace

        return SearchSpace.from_text(text, file).only()

    @cached_property
    def id(self) -> str:
        """sha256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def document(self) -> dict[str, Any]:
        """The document, as a fresh dict: blockwright (format), input, architecture (a node)."""
        return json.loads(self.text)

    @property
    def node(self) -> Node:
        """The root block's node."""
        return self.document["architecture"]

    @cached_property
    def input_shape(self) -> Shape:
        """Shape of the network's input."""
        return shape_of_input(self.document["input"])

    @cached_property
    def output_shape(self) -> Shape:
        """Shape of the network's output."""
        from space.block import infer_shape

        return infer_shape(self.node, self.input_shape)

    def check(self) -> None:
        """Raise InputError unless this is a document of a known format whose shapes fit."""
        document = self.document
        if not isinstance(document, dict) or set(document) != {"blockwright", "input", "architecture"}:
            raise InputError("expected an architecture document with the keys blockwright, input and architecture")
        if document["blockwright"] != FORMAT:
            raise InputError(f"the document's format is {document['blockwright']!r}; this Blockwright reads {FORMAT}")
        assert self.output_shape

    def to_yaml(self) -> str:
        """The document as YAML, readable by `from_yaml` and by every command that takes an architecture."""
        document = self.document
        ordered = {key: document[key] for key in ("blockwright", "input", "architecture")}
        return yaml.safe_dump(ordered, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)

    def diff(self, other: Architecture) -> list[tuple[str, Any, Any]]:
        """(path, here, there) for every place where two documents differ; None where a side has nothing."""
        return list(_diff("", self.document, other.document))

    def blocks(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(path, kind, options without slots) of every block, outermost first."""
        from space.block import walk_nodes

        return [(path, kind, options) for path, kind, options in walk_nodes(self.node)]

    def counts(self) -> Counter[str]:
        """Kind -> how many such blocks run; a block that shares its weights over n passes counts n times."""
        from space.block import walk_nodes

        found: Counter[str] = Counter()
        loops: list[tuple[str, int]] = []
        for path, kind, options in walk_nodes(self.node):
            loops = [(prefix, times) for prefix, times in loops if path.startswith(prefix)]
            found[kind] += math.prod(times for _, times in loops)
            if kind == "repeat":
                loops.append((f"{path}.", options["times"]))
        return found

    def build(self) -> Block:
        """The torch module, with random weights."""
        from space.block import instantiate

        return instantiate(self.node, self.input_shape)


def build(architecture: Architecture) -> Block:
    """The torch module of an architecture, with random weights."""
    return architecture.build()


def shape_of_input(declared: Mapping[str, Any]) -> Shape:
    """Shape of a document's `input`."""
    kind = declared.get("kind")
    causal = bool(declared.get("causal", kind == "tokens"))
    if kind == "image":
        channels, height, width = declared["shape"]
        return Shape("grid", channels, height=height, width=width)
    if kind == "tokens":
        return Shape("tokens", declared["vocab"], length=declared["length"], causal=causal)
    if kind == "series":
        return Shape("sequence", declared["channels"], length=declared["length"], causal=causal)
    raise InputError(f"unknown input kind {kind!r}; known: image, tokens, series")


def _diff(path: str, here: Any, there: Any) -> Any:
    if isinstance(here, dict) and isinstance(there, dict):
        for key in [*here, *(k for k in there if k not in here)]:
            yield from _diff(f"{path}.{key}" if path else key, here.get(key), there.get(key))
    elif isinstance(here, list) and isinstance(there, list):
        for i in range(max(len(here), len(there))):
            yield from _diff(f"{path}[{i}]", here[i] if i < len(here) else None, there[i] if i < len(there) else None)
    elif here != there:
        yield path, here, there
