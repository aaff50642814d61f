"""The body of `build_model`: one call a block, its literal arguments, and the shape it gives in a comment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from nas.export.constructor import WIDTH, constructor_of, identifier
from space import Block, ExportError, infer_shape


def walk(root: Block) -> Iterator[Block]:
    """A block and all inside it, outermost first."""
    yield root
    for child in root.block_children.values():
        yield from walk(child)


def construction(root: Block, name_of: Callable[[type[Block]], str]) -> list[str]:
    """Lines of the statement that returns the network, indented once. Raises ExportError."""
    lines = _call(root, "return ", 1, name_of)
    last, _, comment = lines[-1].partition("  # ")
    lines[-1] = last.removesuffix(",") + (f"  # {comment}" if comment else "")
    return lines


def _call(block: Block, prefix: str, depth: int, name_of: Callable[[type[Block]], str]) -> list[str]:
    pad = "    " * depth
    head = f"{pad}{prefix}{name_of(type(block))}("
    comment = f"  # {infer_shape({block.kind: block.block_options.model_dump()}, block.block_shape)}"
    arguments = _arguments(block)
    one = f"{head}{', '.join(arguments)}),{comment}"
    if not block.block_children and len(one) <= WIDTH:
        return [one]
    lines = [f"{head}{comment}"]
    for name, child in block.block_children.items():
        own = "" if name.isdecimal() else f"{identifier(name)}="
        lines += _call(child, own, depth + 1, name_of)
    joined = f"{pad}    {', '.join(arguments)}"
    if arguments and len(joined) < WIDTH:
        lines.append(f"{joined}{',' if block.block_children else ''}")
    else:
        lines += [f"{pad}    {argument}," for argument in arguments]
    return [*lines, f"{pad}),"]


def _kinds(held: dict[str, Any] | list[dict[str, Any]]) -> str:
    """What is written for an option that holds blocks: their kinds, since the blocks themselves are built beside."""
    return json.dumps([next(iter(node)) for node in held] if isinstance(held, list) else next(iter(held)))


def _arguments(block: Block) -> list[str]:
    """`name=value` for every argument whose value is not its default."""
    made = constructor_of(type(block))
    found = []
    for parameter in made.parameters if made is not None else ():
        try:
            if parameter.attribute in type(block).slots:
                value = _kinds(getattr(block.block_options, parameter.attribute))
            else:
                value = parameter.value(block.block_shape, block.block_options)
        except (AttributeError, ExportError) as error:
            raise ExportError(
                f"{type(block).__name__}.__init__ reads {parameter.origin}.{parameter.attribute}, which can't be written"
                f" out as an argument: {error}"
            ) from error
        if value != parameter.default:
            found.append(f"{parameter.name}={value}")
    return found
