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

from space.errors import InputError, Problem
from space.inputs import INPUT_KINDS, check_input
from space.shape import Shape
from space.yaml_loader import Mark, dump_yaml, from_plain

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
    picks: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "picks", MappingProxyType(dict(self.picks)))

    def __reduce__(self) -> tuple[type[Architecture], tuple[str, dict[str, Any]]]:
        return Architecture, (self.text, dict(self.picks))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], picks: Mapping[str, Any] | None = None) -> Architecture:
        """From a document as `document` gives it. Raises InputError where it isn't one, or can't be built."""
        try:
            made = cls(canonical_json(document), picks or {})
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"an architecture document holds JSON values only: {error}") from None
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
        if document["blockwright"] != FORMAT or isinstance(document["blockwright"], bool):
            raise InputError(f"the document's format is {document['blockwright']!r}; this Blockwright reads {FORMAT}")
        problems: list[Problem] = []
        check_input(from_plain(document["input"], Mark("", 0, 0)), problems)
        if problems:
            raise InputError(f"not an architecture document: {problems[0].path}: {problems[0].message}")
        try:
            assert self.output_shape
        except InputError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise InputError(f"not an architecture document: {' '.join(str(error).split())[:200]}") from None

    def to_yaml(self) -> str:
        """The document as YAML, readable by `from_yaml` and by every command that takes an architecture."""
        document = self.document
        ordered = {key: document[key] for key in ("blockwright", "input", "architecture")}
        return dump_yaml(ordered)

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
    if kind == "video":
        channels, frames, height, width = declared["shape"]
        return Shape("video", channels, frames=frames, height=height, width=width)
    raise InputError(f"unknown input kind {kind!r}; known: {', '.join(INPUT_KINDS)}")


def _diff(path: str, here: Any, there: Any) -> Any:
    if isinstance(here, dict) and isinstance(there, dict):
        for key in [*here, *(k for k in there if k not in here)]:
            yield from _diff(f"{path}.{key}" if path else key, here.get(key), there.get(key))
    elif isinstance(here, list) and isinstance(there, list):
        for i in range(max(len(here), len(there))):
            yield from _diff(f"{path}[{i}]", here[i] if i < len(here) else None, there[i] if i < len(there) else None)
    elif here != there:
        yield path, here, there
