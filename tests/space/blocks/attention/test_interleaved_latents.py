"""Groups that talk through latents."""

from __future__ import annotations

import pytest
import torch

from space.shape import Shape
from tests.space.blocks.attention.witness import PLAIN, built, macs, same


def options(**more: object) -> dict:
    return {"interleaved_latents": {"heads": 2, "group_size": 4, "latents_per_group": 2, **more}}


@pytest.mark.paper("fit")
def test_one_group_without_global_layers_is_plain_attention() -> None:
    block, x = built(options(group_size=12, global_depth=0, norm="none"), PLAIN)
    torchs = torch.nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    layer = block.local[0]
    with torch.no_grad():
        torchs.in_proj_weight.copy_(torch.cat([layer.q.weight, layer.kv.weight]))
        torchs.in_proj_bias.copy_(torch.cat([layer.q.bias, layer.kv.bias]))
    torchs.out_proj.load_state_dict(layer.out.state_dict())
    same(block(x), torchs(x, x, x, need_weights=False)[0])


@pytest.mark.paper("fit")
def test_without_global_layers_groups_do_not_meet() -> None:
    for depth, reach in ((0, 4), (1, 12)):
        block, x = built(options(global_depth=depth), PLAIN)
        jacobian = torch.autograd.functional.jacobian(lambda t, b=block: b(t[None])[0, 0].sum(), x[0])
        assert int((jacobian.abs().sum(-1) > 0).sum()) == reach


@pytest.mark.paper("fit")
def test_layers_written_out() -> None:
    block, x = built(options(local_depth=2, global_depth=2, ratio=2), PLAIN)
    groups = [x[:, i : i + 4] for i in (0, 4, 8)]
    for layer in block.local:
        groups = [layer(g) for g in groups]
    latents = [block.read(block.latents.expand(2, -1, -1), g) for g in groups]
    mixed = torch.cat(latents, 1)
    for layer in block.among:
        mixed = layer(mixed)
    groups = [block.write(g, z) for g, z in zip(groups, mixed.chunk(3, 1), strict=True)]
    same(block(x), torch.cat(groups, 1) - x)


@pytest.mark.paper("fit")
def test_local_scores_cost_the_square_of_each_group() -> None:
    def cost(size: int) -> float:
        return macs(options(group_size=size, global_depth=0), PLAIN)

    assert cost(4) - cost(2) == 2 * 8 * 12 * (4 - 2)
    assert cost(12) == 12 * 4 * 64 + 2 * 8 * 12 * 12


@pytest.mark.paper("fit")
def test_the_best_group_grows_with_the_cube_root() -> None:
    """Scores 2 D (L n + (m L / n)^2 + 2 m L): least near n = (2 m^2 L)^(1/3), so 8 times the length doubles it."""

    def best(length: int) -> int:
        def cost(size: int) -> float:
            return length * size + (2 * length / size) ** 2

        sizes = [2**i for i in range(1, 9)]
        shape = Shape("sequence", 8, length)
        scores = {n: macs(options(group_size=n), shape) - projections(length, n) for n in sizes}
        for n in sizes:
            assert scores[n] == 2 * 8 * (cost(n) + 2 * 2 * length)
        return min(sizes, key=scores.__getitem__)

    def projections(length: int, size: int) -> float:
        latents = 2 * length // size
        return 64 * (4 * length + 4 * latents + (2 * latents + 2 * length) + (2 * length + 2 * latents))

    assert best(4096) == 32
    assert best(8 * 4096) == 64
