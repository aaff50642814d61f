"""Attention and message passing on graphs over the positions."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
import torch

from space.block import instantiate
from space.errors import ShapeError
from space.ops import naive
from space.ops.graphs import grid_neighbours, grid_spectrum, ring_neighbours, ring_spectrum
from space.shape import Shape
from tests.space.blocks.attention.witness import IMAGE, PLAIN, built, join, macs, qkv_of, same

RING = nx.circulant_graph(12, [1, 2])
GRID = nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 4), ordering="sorted")


@pytest.mark.paper("graph-transformer")
def test_neighbours_are_those_of_the_graph() -> None:
    for graph, (index, present) in ((RING, ring_neighbours(12, 2)), (GRID, grid_neighbours(3, 4))):
        for node in range(12):
            assert sorted(index[node][present[node]].tolist()) == sorted([node, *graph.neighbors(node)])


@pytest.mark.paper("graph-transformer")
@pytest.mark.parametrize(("graph", "waves"), [(RING, ring_spectrum(12, 2, 11)), (GRID, grid_spectrum(3, 4, 11))])
def test_closed_form_eigenvectors(graph: nx.Graph, waves: torch.Tensor) -> None:
    laplacian = nx.laplacian_matrix(graph).toarray().astype(float)
    u = waves.double().numpy()
    values = np.einsum("li,lj,ji->i", u, laplacian, u)
    np.testing.assert_allclose(laplacian @ u, u * values, atol=1e-5)
    np.testing.assert_allclose(u.T @ u, np.eye(11), atol=1e-5)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(laplacian)[1:], atol=1e-5)


@pytest.mark.paper("graph-transformer")
def test_complete_graph_is_softmax_attention() -> None:
    block, x = built({"graph_attention": {"heads": 2}}, PLAIN)
    torchs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        torchs.in_proj_weight.copy_(block.qkv.weight)
        torchs.in_proj_bias.copy_(block.qkv.bias)
    torchs.out_proj.load_state_dict(block.out.state_dict())
    same(block(x), torchs(x, x, x, need_weights=False)[0])


@pytest.mark.paper("graph-transformer")
@pytest.mark.parametrize(
    ("shape", "graph", "options"), [(PLAIN, RING, {"graph": "ring", "reach": 2}), (IMAGE, GRID, {"graph": "grid"})]
)
def test_written_edge_by_edge(shape, graph: nx.Graph, options: dict) -> None:
    block, x = built({"graph_attention": {"heads": 2, "laplacian": 3, "edge_features": True, **options}}, shape)
    index = block.neighbours.tolist()
    q, k, v = qkv_of(block, x + block.position(block.spectrum), 2)
    y = torch.empty_like(v)
    for i in range(12):
        near = [i, *graph.neighbors(i)]
        edge = torch.stack(
            [block.edge[:, index[i].index(j) if j != i else (2 if graph is RING else 0)] for j in near], 1
        )
        s = (q[:, :, i : i + 1] * k[:, :, near] * edge).sum(-1) / math.sqrt(4)
        y[:, :, i] = (s.softmax(-1).unsqueeze(2) @ v[:, :, near]).squeeze(2)
    same(block(x), block.out(join(y)))


@pytest.mark.paper("graph-transformer")
def test_work_is_linear_in_the_edges() -> None:
    def mixing(length: int, reach: int) -> float:
        node = {"graph_attention": {"heads": 2, "graph": "ring", "reach": reach}}
        return macs(node, Shape("sequence", 8, length)) - length * 4 * 64

    for length, reach in ((64, 1), (64, 5), (256, 5)):
        assert mixing(length, reach) == 2 * 8 * length * (2 * reach + 1)


@pytest.mark.paper("graph-transformer")
def test_signs_flip_in_training_only() -> None:
    node = {"graph_attention": {"heads": 2, "graph": "ring", "laplacian": 6, "sign_flips": True}}
    block, x = built(node, PLAIN)
    same(block(x), block(x))
    block.train()
    outputs = [block(x) for _ in range(8)]
    assert max((o - outputs[0]).abs().max() for o in outputs) > 1e-3


@pytest.mark.paper("graph-transformer")
def test_a_grid_needs_an_image() -> None:
    with pytest.raises(ShapeError, match="from an image"):
        instantiate({"graph_attention": {"heads": 2, "graph": "grid"}}, PLAIN)


@pytest.mark.paper("mpnn-virtual-node")
def test_broadcast_mean_is_linear_attention_of_constant_features() -> None:
    block, x = built({"virtual_node": {"local": "none", "ratio": 0}}, PLAIN)
    ones = x.new_ones(2, 1, 12, 1)
    mean, _ = naive.linear_attention(ones, ones, x.unsqueeze(1), causal=False, eps=0.0)
    same(block(x), block.own(x) + mean[:, 0])


@pytest.mark.paper("mpnn-virtual-node")
@pytest.mark.parametrize(
    ("shape", "graph", "local"), [(PLAIN, RING, {"local": "ring", "reach": 2}), (IMAGE, GRID, {"local": "grid"})]
)
@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_messages_written_out(shape, graph: nx.Graph, local: dict, pool: str) -> None:
    block, x = built({"virtual_node": {"pool": pool, **local}}, shape)
    weights = (
        torch.full((2, 12, 1), 1 / 12, dtype=x.dtype) if pool == "mean" else (x @ block.gather.weight.t()).softmax(1)
    )
    y = block.own(x) + block.update((weights * x).sum(1, keepdim=True))
    for i in range(12):
        y[:, i] += block.near(x[:, list(graph.neighbors(i))].mean(1))
    same(block(x), y)


@pytest.mark.paper("mpnn-virtual-node")
@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_equivariant_to_the_symmetries_of_its_graph(pool: str) -> None:
    everyone, x = built({"virtual_node": {"local": "none", "pool": pool}}, PLAIN)
    order = torch.randperm(12)
    same(everyone(x[:, order]), everyone(x)[:, order])
    ring, _ = built({"virtual_node": {"pool": pool}}, PLAIN)
    same(ring(x.roll(5, 1).flip(1)), ring(x).roll(5, 1).flip(1))


@pytest.mark.paper("mpnn-virtual-node")
def test_cost_is_linear() -> None:
    one, two, four = (macs({"virtual_node": {}}, Shape("sequence", 8, n)) for n in (64, 128, 256))
    assert four - two == 2 * (two - one) == 2 * 64 * 2 * 64
