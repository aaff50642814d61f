"""The cell: its graph, its canonical form, NAS-Bench-201's count of cells."""

from __future__ import annotations

import itertools

import pytest
import torch

from space.block import infer_shape, instantiate
from space.blocks.topology.cell import both, canonical, edge_pairs, live_pairs
from space.errors import ShapeError
from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.topology.whole import built

SHAPE = Shape("sequence", 8, 5)
A, B, C = ({"mlp": {"ratio": float(r)}} for r in (1, 2, 3))
SKIP, NONE = {"identity": {}}, {"zero": {}}


def test_a_cell_is_the_sum_over_its_edges() -> None:
    block, x = built({"cell": {"edges": [A, B, C, SKIP, A, B]}}, SHAPE)
    f = block.edges
    h1 = f[0](x)
    h2 = f[1](x) + f[2](h1)
    torch.testing.assert_close(block(x), x + f[4](h1) + f[5](h2))


def canonical_edges(edges: list) -> list:
    """The triangle of the canonical graph, `zero` where it has no edge."""
    graph = canonical(dict(zip(edge_pairs(len(edges), None), edges, strict=True)))
    last = max((j for _, j in graph), default=1)
    return [graph.get((i, j), NONE) for j in range(1, last + 1) for i in range(j)]


def test_a_cell_without_a_way_through_is_zero() -> None:
    text = "{input: {kind: series, channels: 8, length: 5}, architecture: {cell: [mlp, zero, zero, zero, zero, mlp]}}"
    assert SearchSpace.from_text(text).sample().node == NONE


@pytest.mark.parametrize(
    ("edges", "canonical"),
    [
        ([A, NONE, NONE, B, NONE, NONE], [B]),
        ([A, NONE, B, NONE, NONE, C], [A, NONE, B, NONE, NONE, C]),
        ([NONE, A, NONE, NONE, B, C], [A, NONE, C]),
        ([SKIP, NONE, NONE, A, B, NONE], [both(A, B)]),
        ([A, NONE, SKIP, NONE, B, C], [A, NONE, both(B, C)]),
        ([A, B, SKIP, NONE, NONE, C], [both(A, B), NONE, C]),
        ([NONE] * 6, [NONE]),
        ([SKIP, SKIP, SKIP, SKIP, SKIP, SKIP], [both(both(SKIP, SKIP), both(SKIP, SKIP))]),
        ([A, B, NONE, NONE, C, SKIP], [A, B, C]),
    ],
)
def test_canonical_edges(edges, canonical) -> None:
    assert canonical_edges(edges) == canonical


def test_the_names_of_inner_nodes_do_not_matter() -> None:
    one = [A, B, NONE, NONE, C, SKIP, NONE, NONE, A, B]
    other = [B, A, NONE, NONE, SKIP, C, NONE, A, NONE, B]
    assert canonical_edges(one) == canonical_edges(other)


def naive_sum(ops: tuple[str, ...]) -> str:
    """A cell as a nested sum, flattened: what its output is, not telling which parts are shared."""
    terms: list[tuple[str, ...]] = [("x",)]
    for j in range(1, 4):
        into = ops[j * (j - 1) // 2 :]
        found: list[str] = []
        for i in range(j):
            if into[i] == "skip":
                found += terms[i]
            elif into[i] != "none" and terms[i]:
                found.append(f"{into[i]}({'+'.join(terms[i])})")
        terms.append(tuple(sorted(found)))
    return "+".join(terms[3])


def unique_string(ops: tuple[str, ...]) -> str:
    """NAS-Bench-201's own string of a cell, `zero` followed through (Dong & Yang 2020, section 2.1)."""
    names = ["0"]
    for j in range(1, 4):
        into = ops[j * (j - 1) // 2 :]
        parts = []
        for i in range(j):
            if names[i] == "#" or into[i] == "none":
                parts.append("#")
            elif into[i] == "skip":
                parts.append(names[i])
            else:
                parts.append(f"({names[i]})@{into[i]}")
        names.append("+".join(sorted(parts)))
    return names[3]


def test_all_cells_of_nas_bench_201() -> None:
    nodes = {"none": NONE, "skip": SKIP, "conv1": A, "conv3": B, "pool": C}
    ours: dict[str, str] = {}
    for ops in itertools.product(nodes, repeat=6):
        key = str(canonical_edges([nodes[op] for op in ops]))
        assert ours.setdefault(key, naive_sum(ops)) == naive_sum(ops)
    sums = {naive_sum(ops) for ops in itertools.product(nodes, repeat=6)}
    assert len(sums) <= len(ours) <= 6466
    assert len({unique_string(ops) for ops in itertools.product(nodes, repeat=6)}) == 6466


def test_equal_cells_are_one_document() -> None:
    text = """
    input: {kind: image, shape: [3, 8, 8]}
    architecture:
      sequence:
        - conv_stem: {dim: 8}
        - cell: [mlp, zero, {choice: [identity, zero]}, {choice: [identity, zero]}, zero, mlp]
        - classifier: {classes: 2}
    """
    found = list(SearchSpace.from_text(text).enumerate())
    assert len(found) == 4
    zero = next(a for a in found if '"zero":' in a.text)
    assert instantiate(zero.node, zero.input_shape)(torch.randn(1, 3, 8, 8)).shape == (1, 2)


@pytest.mark.parametrize(("edges", "nodes"), [(1, 2), (3, 3), (6, 4), (10, 5)])
def test_edges_and_nodes(edges, nodes) -> None:
    pairs = edge_pairs(edges, None)
    assert len(pairs) == edges
    assert pairs[-1] == (nodes - 2, nodes - 1)
    assert live_pairs(pairs, nodes - 1) == pairs


def test_ends_name_the_edges_there_are() -> None:
    sparse, x = built({"cell": {"edges": [A, B, C], "ends": [0, 1, 0, 3, 1, 3]}}, SHAPE)
    whole, _ = built({"cell": {"edges": [A, NONE, NONE, B, C, NONE]}}, SHAPE)
    whole.edges[0], whole.edges[3], whole.edges[4] = sparse.edges
    assert torch.equal(sparse(x), whole(x))


@pytest.mark.parametrize("ends", [[0, 1, 0], [0, 1, 2, 2, 0, 2], [0, 2, 0, 1, 1, 2], [0, 1]])
def test_ends_that_fit_no_graph_are_refused(ends) -> None:
    with pytest.raises(ShapeError, match="ends must be two rising nodes for each of the 3 edges"):
        infer_shape({"cell": {"edges": [A] * 3, "ends": ends}}, SHAPE)


def test_a_number_of_edges_without_nodes_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"n \(n - 1\) / 2 edges; got 4 \(try 3 or 6, or give"):
        infer_shape({"cell": {"edges": [A] * 4}}, SHAPE)
