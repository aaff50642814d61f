"""Whether the positions of an input ever meet in a network, its final pooling aside."""

from __future__ import annotations

from space.automaton import Automaton
from space.block import Node, parse_node


def mixes_positions(node: Node) -> bool:
    """False where a document node, and everything in it, treats every position (patch) alone."""
    cls, options = parse_node(node)
    if cls.mixes(options):
        return True
    held = (getattr(options, name) for name in cls.slots)
    inside = [inner for value in held if value is not None for inner in (value if isinstance(value, list) else [value])]
    return any(mixes_positions(inner) for inner in inside)


def unmixed_share(automaton: Automaton) -> float:
    """Share of the candidates drawn from an automaton in which positions never meet."""
    return automaton.share([not any(map(mixes_positions, symbol)) for symbol in automaton.symbols])
