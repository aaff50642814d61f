"""Lists of blocks that a composite cycles through over its depth."""

from __future__ import annotations

from space.block import Child, Node


def cycle_of(children: list[Child], slot: str) -> list[Node]:
    """The shortest list that, cycled, gives the nodes of a slot in order; one `identity` for an empty slot."""
    nodes: list[Node] = [c.node if c.node is not None else {"identity": {}} for c in children if c.slot == slot]
    for length in range(1, len(nodes)):
        if all(node == nodes[i % length] for i, node in enumerate(nodes)):
            return nodes[:length]
    return nodes or [{"identity": {}}]
