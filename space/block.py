"""What a block is: one class that holds its options, its shape rules, its torch code and its decode step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from space.errors import InputError, NameUnknown, ShapeError
from space.shape import Layout, Shape

Role = Literal["mixer", "channel", "norm", "stem", "head", "reduce", "topology"]
Node = dict[str, Any]
"""A block in a document: `{kind: {option: value}}`, where a slot's value is again a node or a list of nodes."""
State = dict[str, Any]


class BlockOptions(BaseModel):
    """Base of every block's `Options`: unknown names are refused, nothing is coerced, instances are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class SlotRole:
    """Marks an option that holds a block; `roles` are those it takes besides topology (empty: any)."""

    roles: tuple[Role, ...] = ()


BlockSlot = Annotated[dict[str, Any], SlotRole()]
MixerSlot = Annotated[dict[str, Any], SlotRole(("mixer", "reduce"))]
ChannelSlot = Annotated[dict[str, Any], SlotRole(("channel",))]
NormSlot = Annotated[dict[str, Any], SlotRole(("norm",))]


@dataclass(frozen=True)
class Slot:
    """An option of a composite that holds blocks."""

    name: str
    roles: tuple[Role, ...]
    many: bool


class Block(nn.Module):
    """Base of every block.

    A leaf is built as `cls(shape, options)`. A composite, one whose `Options` has slots, is built as
    `cls(shape, options, *children, **named_children)` with the children its `connect` asked for, in that order.
    Every built instance carries `block_shape`, `block_options` and `block_children` (name -> Block).

    A leaf's `__init__` reads `options.<name>` and `shape.<field>` only, so that the export can turn them into plain
    arguments, and every helper it uses is a function or class of `space`, `torch` or the standard library.
    """

    kind: ClassVar[str]
    role: ClassVar[Role]
    layouts: ClassVar[tuple[Layout, ...]]
    causal: ClassVar[bool]
    pointwise: ClassVar[bool]
    papers: ClassVar[tuple[str, ...]]
    """Catalogue ids of its ideas, the main one first."""
    slots: ClassVar[dict[str, Slot]]
    shorthand: ClassVar[str | None] = None
    """The option that a YAML value fills when it isn't a mapping of options (`sequence: [...]`)."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Options of the YAML snippet in the manual, where the required ones at their lower bounds would make none.

    They must work on every shape of 8 channels with a side of 4 or 6, on 12 positions, that the block takes.
    """
    Options: ClassVar[type[BlockOptions]]

    block_shape: Shape
    block_options: Any
    block_children: dict[str, Block]

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        """Options in their canonical form at this shape: two that build the same network become equal.

        Here an option `causal` left open becomes what the input asks; an override starts from `super().normalise`.
        """
        asked = getattr(options, "causal", False) is None
        return options.model_copy(update={"causal": shape.causal}) if asked else options

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        """Raise ShapeError where these options can't work on this input shape."""

    @classmethod
    def infer(cls, shape: Shape, options: Any) -> Shape:
        """Output shape of a leaf (the input shape, unless a block says otherwise)."""
        return shape

    @classmethod
    def connect(cls, shape: Shape, options: Any, child: Callable[..., Shape]) -> Shape:
        """Output shape; a composite calls `child(options.<slot>, in_shape, ...)` for each block it holds, in order.

        `child(slot_value, shape, name="", keep=False, index=None) -> Shape` gives the child's output shape. `name` is
        the constructor argument that takes the child (empty: the next positional one); `keep` demands an output equal
        to its input (`"layout"`: of the same layout); `index` counts repetitions of one slot that pick anew.
        """
        return cls.infer(shape, options)

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        """The canonical node of a resolved composite; None where it does nothing."""
        node = dict(options)
        for name, slot in cls.slots.items():
            filled = [c.node for c in children if c.slot == name]
            if slot.many:
                node[name] = [n if n is not None else {"identity": {}} for n in filled]
            elif filled:
                node[name] = filled[0] if filled[0] is not None else {"identity": {}}
        return {cls.kind: node}

    @classmethod
    def most_repetitions(cls, values: dict[str, list[Any]]) -> int:
        """How often a composite repeats its slots with new picks at most, given what its other options may be.

        0 where no slot is repeated with new picks.
        """
        return 0

    @classmethod
    def layout_for(cls, shape: Shape, options: Any) -> Layout:
        """The layout in which this block wants an input of this shape: as it comes, or the first it knows."""
        return shape.layout if shape.layout in cls.layouts else cls.layouts[0]

    @classmethod
    def is_causal(cls, options: Any) -> bool:
        """True where output position t depends on input positions <= t only."""
        own = getattr(options, "causal", None)
        return cls.causal if own is None else bool(own)

    @classmethod
    def mixes(cls, options: Any) -> bool:
        """False where positions surely don't meet in this block (what it holds, and a head's final pooling, aside)."""
        return not (cls.pointwise or cls.role in ("norm", "head") or (cls.role == "stem" and cls.causal))

    @classmethod
    def validate_at(cls, shape: Shape, options: Any) -> None:
        """All rules of this block at this shape. Raises ShapeError."""
        if shape.layout not in cls.layouts:
            raise ShapeError(f"{cls.kind} takes {' or '.join(cls.layouts)}; got {shape}")
        if shape.causal and cls.role != "head" and not cls.slots and not cls.is_causal(options):
            raise ShapeError(
                f"{cls.kind} lets a position see later ones, but the input is causal"
                " (choose another block, or set `causal: false` in `input`)",
                "causal" if "causal" in cls.Options.model_fields else "",
            )
        cls.check(shape, options)

    def deployed_state(self) -> dict[str, Tensor]:
        """State of the deployed twin of a block that folds, from this one's weights and statistics.

        A block folds if it has an option `deployed`; built with `deployed: true` it computes in eval mode what the
        training form does, with fewer operators.
        """
        return self.state_dict()

    def init_state(self, batch: int, length: int = 0) -> State:
        """Decode state after `length` positions (contents zero until steps fill it).

        Raises InputError for a block that has no decode form.
        """
        if self.slots:
            return {name: child.init_state(batch, length) for name, child in self.block_children.items()}
        if self.pointwise:
            return {}
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """One position, x [B, 1, D] (token ids [B, 1]) -> (y [B, 1, D], next state); equals `forward` on the prefix."""
        if self.pointwise:
            return self(x), state
        raise InputError(f"{self.kind} has no decode form: its output needs the whole input")


@dataclass(frozen=True)
class Child:
    """A resolved child of a composite: which slot it fills and its node (None: it does nothing)."""

    slot: str
    name: str
    node: Node | None


def block(
    kind: str,
    *,
    role: Role,
    layout: Layout | tuple[Layout, ...] = "sequence",
    causal: bool = False,
    pointwise: bool = False,
    paper: str | tuple[str, ...] = "",
) -> Callable[[type[Block]], type[Block]]:
    """Register a Block class under `kind`.

    `layout` names the input layouts it takes, the preferred one first; `causal` says that position t never sees later
    ones; `pointwise` that each position is treated alone (which is causal, and gives the decode step for free);
    `paper` is the catalogue id of its idea, or several. TypeError at import for a class without docstring or `Options`.
    """
    from space import registry

    def register(cls: type[Block]) -> type[Block]:
        where = registry.blocks.check(kind, cls)
        options = getattr(cls, "Options", None)
        if not (isinstance(options, type) and issubclass(options, BlockOptions)):
            raise TypeError(f"{where}: a block needs a nested class Options(BlockOptions)")
        cls.kind, cls.role = kind, role
        cls.papers = (paper,) if isinstance(paper, str) and paper else tuple(paper)
        cls.layouts = (layout,) if isinstance(layout, str) else tuple(layout)
        cls.pointwise = pointwise
        cls.causal = causal or pointwise
        cls.slots = _slots(options)
        registry.blocks.add(kind, cls)
        return cls

    return register


def _slots(options: type[BlockOptions]) -> dict[str, Slot]:
    found = {}
    for name, field in options.model_fields.items():
        marks = [m for m in field.metadata if isinstance(m, SlotRole)]
        many = False
        for part in get_args(field.annotation):
            if get_origin(part) is Annotated:
                inner = [m for m in get_args(part) if isinstance(m, SlotRole)]
                many = many or (bool(inner) and get_origin(field.annotation) is list)
                marks += inner
        if marks:
            found[name] = Slot(name, marks[0].roles, many)
    return found


def parse_node(node: Mapping[str, Any]) -> tuple[type[Block], Any]:
    """Block class and validated options of a document node. Raises InputError."""
    from space import registry

    if len(node) != 1:
        raise InputError(f"a block is written {{kind: {{options}}}}; got {dict(node)!r}")
    ((kind, raw),) = node.items()
    cls = registry.get(kind)
    return cls, cls.Options.model_validate(raw)


def infer_shape(node: Mapping[str, Any], shape: Shape) -> Shape:
    """Output shape of a document node on an input shape. Raises ShapeError where it can't work."""
    cls, options = parse_node(node)
    cls.validate_at(shape, options)

    def child(value: Node, inner: Shape, name: str = "", keep: bool | str = False, index: int | None = None) -> Shape:
        out = infer_shape(value, inner)
        if keep is True:
            check_kept(value, inner, out)
        return out

    return cls.connect(shape, options, child)


def check_kept(node: Mapping[str, Any], before: Shape, after: Shape) -> None:
    """Raise ShapeError unless a residual path gives back the shape it took."""
    if before != after:
        raise ShapeError(f"{next(iter(node))} must keep its input's shape here; it turns {before} into {after}")


def instantiate(
    node: Mapping[str, Any], shape: Shape, make_child: Callable[[Node, Shape], nn.Module] | None = None
) -> Block:
    """Build the module of a document node for an input shape.

    `make_child(node, shape)` may stand in for building the children (a tracer passes stand-ins there); it must return
    a module. Raises ShapeError where the node can't work on the shape.
    """
    cls, options = parse_node(node)
    cls.validate_at(shape, options)
    make = make_child or instantiate
    positional: list[nn.Module] = []
    named: dict[str, nn.Module] = {}

    def child(value: Node, inner: Shape, name: str = "", keep: bool | str = False, index: int | None = None) -> Shape:
        built = make(value, inner)
        if name:
            named[name] = built
        else:
            positional.append(built)
        out = infer_shape(value, inner)
        if keep is True:
            check_kept(value, inner, out)
        return out

    if cls.slots:
        cls.connect(shape, options, child)
    module = cls(shape, options, *positional, **named)
    module.block_shape = shape
    module.block_options = options
    children = {str(i): m for i, m in enumerate(positional)} | named
    object.__setattr__(module, "block_children", children)
    return module


def walk_nodes(node: Node, path: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, kind, options without slots) of a node and all inside it, outermost first."""
    cls, _ = parse_node(node)
    ((kind, raw),) = node.items()
    path = f"{path}.{kind}" if path else kind
    yield path, kind, {name: value for name, value in raw.items() if name not in cls.slots}
    for name, slot in cls.slots.items():
        held = raw.get(name)
        if slot.many:
            for i, inner in enumerate(held or []):
                yield from walk_nodes(inner, f"{path}.{name}[{i}]" if name != cls.shorthand else f"{path}[{i}]")
        elif held is not None:
            yield from walk_nodes(held, f"{path}.{name}")


__all__ = [
    "Block",
    "BlockOptions",
    "BlockSlot",
    "ChannelSlot",
    "Child",
    "MixerSlot",
    "NameUnknown",
    "Node",
    "NormSlot",
    "Role",
    "ShapeError",
    "Slot",
    "State",
    "block",
    "infer_shape",
    "instantiate",
    "parse_node",
    "walk_nodes",
]
