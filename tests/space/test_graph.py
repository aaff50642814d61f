"""The data-flow graph: one source, one sink, and shapes that agree along every edge."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import pytest

from space import Architecture, SearchSpace, all_blocks, architecture_graph, load_space

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
STEM = "input: {kind: image, shape: [1, 8, 8]}\narchitecture:\n  sequence:\n    - patch_embed: {patch: 2, dim: 8}\n"


def check(architecture: Architecture) -> nx.DiGraph:
    """The graph, after what every graph must hold."""
    graph = architecture_graph(architecture)
    assert nx.is_directed_acyclic_graph(graph)
    assert [n for n in graph if not graph.in_degree(n)] == ["input"]
    assert [n for n in graph if not graph.out_degree(n)] == ["output"]
    place = {name: i for i, name in enumerate(graph)}
    assert all(place[a] < place[b] for a, b in graph.edges)
    for before, after in graph.edges:
        if graph.nodes[after]["label"] != "concat":
            assert graph.nodes[before]["out_shape"] == graph.nodes[after]["in_shape"]
    leaves = {path for path, kind, _ in architecture.blocks() if not all_blocks()[kind].slots}
    drawn = [held for _, held in graph.nodes(data=True) if held["kind"] not in ("input", "output", "join")]
    assert {held["path"] for held in drawn} == leaves
    assert len([held for held in drawn if held["repetition"] == 1]) == len(leaves)
    assert all(graph.in_degree(n) >= 2 for n, held in graph.nodes(data=True) if held["kind"] == "join")
    return graph


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples(path: Path) -> None:
    for architecture in load_space(path).sample_many(30):
        graph = check(architecture)
        halves = sum(len({"mixer", "channel"} & set(b["layer"])) for b in layers(architecture))
        assert sum(held["kind"] == "join" for _, held in graph.nodes(data=True)) == halves
        assert sum(skip for _, _, skip in graph.edges(data="skip")) == halves


def layers(architecture: Architecture) -> list[dict]:
    """The layers of a plain stack."""
    return [b for b in architecture.node["sequence"]["blocks"] if "layer" in b]


@pytest.mark.parametrize(("fuse", "label"), [("sum", "+"), ("mean", "mean"), ("concat", "concat")])
def test_parallel_branches_meet_in_one_join(fuse: str, label: str) -> None:
    branches = "[mlp, {attention: {heads: 2}}, {depthwise_conv: {kernel: 3}}]"
    graph = check(SearchSpace.from_text(f"{STEM}    - parallel: {{branches: {branches}, fuse: {fuse}}}\n").only())
    (join,) = [n for n, held in graph.nodes(data=True) if held["kind"] == "join"]
    assert graph.nodes[join]["label"] == label
    assert graph.in_degree(join) == 3
    assert not any(graph.edges[edge]["skip"] for edge in graph.in_edges(join))
    assert graph.nodes[join]["out_shape"] == f"sequence [B, 16, {24 if fuse == 'concat' else 8}]"


def test_shared_weights_are_drawn_once_a_pass() -> None:
    graph = check(
        SearchSpace.from_text(f"{STEM}    - repeat: {{times: 3, share: weights, block: {{residual: mlp}}}}\n").only()
    )
    passes = sorted(held["repetition"] for _, held in graph.nodes(data=True) if held["kind"] == "mlp")
    assert passes == [1, 2, 3]


def test_nothing_but_identity() -> None:
    graph = check(SearchSpace.from_text("input: {kind: image, shape: [1, 8, 8]}\narchitecture: identity\n").only())
    assert list(graph) == ["input", "identity", "output"]


def test_groups_name_the_innermost_composite() -> None:
    inner = "layer: {mixer: {residual: {attention: {heads: 2}}}, channel: mlp}"
    graph = check(SearchSpace.from_text(f"{STEM}    - {inner}\n").only())
    groups = {held["kind"]: held["group"] for _, held in graph.nodes(data=True)}
    assert groups["mlp"] == "sequence[1].layer"
    assert groups["attention"] == "sequence[1].layer.mixer.residual"
