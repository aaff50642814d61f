"""Cases for the contract suite, derived from the registry: every kind on every shape it takes, each option varied."""

from __future__ import annotations

import itertools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch
from pydantic import ValidationError
from torch import Tensor

from space import registry
from space.block import Block, Node, infer_shape, instantiate
from space.errors import InputError
from space.shape import Shape

SHAPES = {
    "sequence": Shape("sequence", 8, 12),
    "causal": Shape("sequence", 8, 12, causal=True),
    "image-sequence": Shape("sequence", 8, 12, height=3, width=4),
    "grid": Shape("grid", 8, height=6, width=4),
    "vector": Shape("vector", 8),
    "video": Shape("video", 8, frames=4, height=6, width=4),
    "video-sequence": Shape("sequence", 8, 12, frames=3, height=2, width=2),
    "tokens": Shape("tokens", 11, 12),
    "causal-tokens": Shape("tokens", 11, 12, causal=True),
}
NUMBERS = (2, 4, 1, 3, 8, 6, 0.5)
CHILDREN: dict[str, Node] = {
    "norm": {"rms_norm": {}},
    "mixer": {"depthwise_conv": {}},
    "channel": {"mlp": {"ratio": 2.0}},
    "reduce": {"pool": {}},
    "": {"mlp": {"ratio": 1.0}},
}


@dataclass(frozen=True)
class Case:
    """One block on one input shape."""

    kind: str
    shape_name: str
    node: Node
    shape: Shape

    def __str__(self) -> str:
        options = ",".join(f"{k}={v}" for k, v in self.node[self.kind].items())
        return f"{self.kind}-{self.shape_name}-{options}".replace(" ", "")

    def build(self, shape: Shape | None = None) -> Block:
        """The block with fixed weights, in float64; every parameter moved off its special start (ones, zeros)."""
        torch.manual_seed(0)
        block = instantiate(self.node, shape or self.shape).double()
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return block

    def input(self, batch: int = 2, shape: Shape | None = None, seed: int = 1) -> Tensor:
        """A fixed random input."""
        shape = shape or self.shape
        generator = torch.Generator().manual_seed(seed)
        if shape.layout == "tokens":
            return torch.randint(shape.dim, shape.size(batch), generator=generator)
        return torch.randn(shape.size(batch), generator=generator, dtype=torch.float64)


def alternatives(cls: type[Block], name: str) -> list[Any]:
    """Values worth trying for one option, from its type alone."""
    slot = cls.slots.get(name)
    if slot is not None:
        children = [CHILDREN[role] for role in slot.roles or ("",)]
        return [[child, CHILDREN["norm"]] for child in children] if slot.many else children
    return _values(cls.Options.model_fields[name].annotation)


def _values(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [v for part in get_args(annotation) for v in _values(part)]
    if origin is Annotated:
        return _values(get_args(annotation)[0])
    if origin is Literal:
        return list(get_args(annotation))
    if origin in (list, tuple):
        return [[v] for v in _values(get_args(annotation)[0])[:1]]
    if annotation is bool:
        return [True, False]
    if annotation is float:
        return list(NUMBERS)
    if annotation is int:
        return [n for n in NUMBERS if isinstance(n, int)]
    return [None] if annotation in (None, types.NoneType) else []


def works(node: Node, shape: Shape) -> bool:
    """True where the options are valid and the block can take the shape."""
    try:
        infer_shape(node, shape)
    except (ValidationError, InputError):
        return False
    return True


def _nodes(cls: type[Block], shape: Shape, varied: bool) -> Iterator[Node]:
    """The plainest node that works on a shape; where `varied`, also each option at other values."""
    if cls.example and works({cls.kind: dict(cls.example)}, shape):
        yield {cls.kind: dict(cls.example)}
    required = [name for name, field in cls.Options.model_fields.items() if field.is_required()]
    combinations = itertools.product(*(alternatives(cls, name) for name in required))
    base = next((c for c in combinations if works({cls.kind: dict(zip(required, c, strict=True))}, shape)), None)
    if base is None:
        return
    options = dict(zip(required, base, strict=True))
    yield {cls.kind: options}
    if not varied:
        return
    for name, field in cls.Options.model_fields.items():
        chosen = 0
        for value in alternatives(cls, name):
            node = {cls.kind: options | {name: value}}
            if value != options.get(name, field.default) and chosen < 3 and works(node, shape):
                chosen += 1
                yield node


def cases_of(cls: type[Block]) -> list[Case]:
    """Every case of one kind."""
    cases: list[Case] = []
    seen: set[str] = set()
    for name, shape in SHAPES.items():
        if shape.layout in cls.layouts:
            # Options are varied on the first shape of each layout, and on causal ones where that makes a difference.
            varied = shape.layout not in seen or (shape.causal and not cls.pointwise)
            found = [Case(cls.kind, name, node, shape) for node in _nodes(cls, shape, varied)]
            if found:
                seen.add(shape.layout)
            cases += found
    return cases


def all_cases() -> list[Case]:
    """Every case of every registered kind."""
    return [case for cls in registry.all_blocks().values() for case in cases_of(cls)]


def first_cases() -> list[Case]:
    """The case with the fewest options of every kind on every shape it takes."""
    return list({(case.kind, case.shape_name): case for case in reversed(all_cases())}.values())


def numeric_bounds(cls: type[Block]) -> Iterator[tuple[str, float]]:
    """(option, value just outside) for every bound of a numeric option."""
    for name, field in cls.Options.model_fields.items():
        for mark in field.metadata:
            for attribute, step in (("ge", -1), ("gt", 0), ("le", 1), ("lt", 0)):
                bound = getattr(mark, attribute, None)
                if bound is not None:
                    yield name, bound + step
