"""What composites share whose layers take their blocks from lists, cycled over the depth."""

from __future__ import annotations

from typing import Any

from space.block import Block, Child, Node


class CycledLayers(Block):
    """Base of composites with an option `times`, whose slots are lists of blocks, one a layer, cycled."""

    @classmethod
    def most_repetitions(cls, values: dict[str, list[Any]]) -> int:
        """Layers that pick anew, given the values its options may take."""
        return max(values["times"])

    @classmethod
    def document(cls, options: dict[str, Any], children: list[Child]) -> Node | None:
        return {cls.kind: {**options, **{slot: shortest_cycle(children, slot) for slot in cls.slots}}}


def shortest_cycle(children: list[Child], slot: str) -> list[Node]:
    """The shortest list that, cycled, gives the nodes of a slot in order; one `identity` for an empty slot."""
    nodes: list[Node] = [c.node if c.node is not None else {"identity": {}} for c in children if c.slot == slot]
    for length in range(1, len(nodes)):
        if all(node == nodes[i % length] for i, node in enumerate(nodes)):
            return nodes[:length]
    return nodes or [{"identity": {}}]
