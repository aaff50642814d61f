"""The checks of the catalogue rows that live in the cost model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from costmodel import PlanOptions, cost, load_profile, node_table, paper_features, peak_activation_bytes
from costmodel.energy import operations
from costmodel.memory_graph import capture
from costmodel.memory_patches import tiled
from costmodel.memory_plan import plan
from costmodel.table import KIND, C
from space import papers
from space.block import instantiate
from space.errors import InputError
from space.ops.dct_approximation import addition_count, cosine_matrix, integer_matrix
from space.ops.fft_conv import fft_convolve
from space.ops.monarch import monarch_convolve, monarch_transform
from space.shape import Shape

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Net:
    node: dict[str, Any]
    input_shape: Shape
    id: str = "net"


def sequence(length: int, dim: int = 32, causal: bool = False) -> Shape:
    return Shape("sequence", dim, length=length, causal=causal)


@pytest.mark.parametrize("paper", sorted(paper_features()))
def test_every_idea_has_its_module_and_its_test(paper: str) -> None:
    found = papers(paper_features())[paper]
    assert any(place.startswith("cost model: ") for place in found["where"])
    assert found["tests"]
    module = paper_features()[paper].rsplit("(", 1)[1].removesuffix(")")
    assert (ROOT / module).is_file()


@pytest.mark.paper("flashattention-2")
def test_fused_attention_moves_bytes_linear_in_the_length_and_the_same_macs() -> None:
    fused, plain = [load_profile("h100-sxm"), load_profile("h100-sxm").model_copy(update={"kernels": []})]
    working, moved = {}, {}
    for length in (512, 1024, 2048):
        node, shape = {"attention": {"heads": 2}}, sequence(length)
        table, _ = node_table(node, shape)
        for name, profile in (("fused", fused), ("plain", plain)):
            rows = table.matrix[table.select(profile.kernels)]
            # Nominal MACs: 4 n d^2 of the projections and 2 n^2 d of the attention, fused or not.
            assert rows[:, C["macs"]].sum() == 4 * length * 32**2 + 2 * length**2 * 32
            inside = rows[rows[:, C["region"]] > 0]
            moved[name, length] = (inside[:, C["bytes_read"]] + inside[:, C["bytes_written"]]).sum()
            working[name, length] = peak_activation_bytes(table, profile.kernels)
    for sizes in (working, moved):
        assert sizes["fused", 2048] == pytest.approx(2 * sizes["fused", 1024])
        assert sizes["plain", 2048] / sizes["plain", 1024] > 3.5
    causal = cost(Net({"attention": {"heads": 2}}, sequence(512, causal=True)))
    whole = cost(Net({"attention": {"heads": 2}}, sequence(512)))
    assert causal.macs == whole.macs
    assert whole.macs_executed - causal.macs_executed == 2 * 32 * (512 * 511 // 2)
    assert 225e12 / load_profile("a100-sxm-80gb").matrix_flop_per_s["float16"].value == pytest.approx(0.72, abs=0.005)


@pytest.mark.paper("flashfftconv")
@pytest.mark.parametrize("length", [1, 7, 64, 100])
def test_transforms_of_matrix_products_convolve_as_fft(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, length, 3, generator=generator, dtype=torch.float64)
    kernel = torch.randn(3, length, generator=generator, dtype=torch.float64)
    x = torch.stack([u, u.flip(1)])
    spectrum = torch.fft.fft(torch.complex(x[0], x[1]), dim=1)
    assert torch.allclose(monarch_transform(x), torch.stack([spectrum.real, spectrum.imag]))
    assert torch.allclose(monarch_convolve(u, kernel, 0), fft_convolve(u, kernel, 0))
    part = torch.cat([kernel[:, : length // 2 + 1], torch.zeros_like(kernel)[:, length // 2 + 1 :]], dim=1)
    short = monarch_convolve(u, kernel[:, : length // 2 + 1], 0)
    assert torch.allclose(short, monarch_convolve(u, part, 0))
    assert torch.allclose(monarch_convolve(u, kernel, 0, keep=1.0), monarch_convolve(u, kernel, 0))


@pytest.mark.paper("flashfftconv")
def test_products_are_priced_on_matrix_units_and_never_below_the_roofline() -> None:
    long, whole = sequence(1024), {"long_conv": {"transform": "products"}}
    c = cost(Net(whole, long), ["h100-sxm", "x86-core"])
    for one in c.hardware.values():
        assert one.latency_low_s <= one.latency_s <= one.latency_high_s
        peak = max(v.value for v in one.profile.matrix_flop_per_s.values())
        assert one.latency_low_s >= 2 * c.macs_executed / peak
    kinds = set(c.table.matrix[c.table.select([]), C["kind"]].astype(int))
    assert KIND["fft"] not in kinds
    assert c.macs > 0
    by_fft = cost(Net({"long_conv": {}}, long))
    assert by_fft.macs == 0
    summary = c.table.matrix[c.table.select()]
    assert c.hardware["h100-sxm"].table.total("bytes_read") < c.table.matrix[c.table.select([]), C["bytes_read"]].sum()
    assert len(summary) < len(c.table.matrix[c.table.select([])])


TRANSFORMER = {
    "sequence": {
        "blocks": [
            {"token_embed": {"dim": 32}},
            {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2}}}},
        ]
    }
}  # fmt: skip
TOKENS = Shape("tokens", 50, length=100)


@pytest.mark.paper("bytetransformer")
def test_packed_lengths_cost_their_sums_and_padded_ones_the_longest() -> None:
    net = Net(TRANSFORMER, TOKENS)
    lengths = [100, 20, 60, 60]  # on average 0.6 of the longest
    linear = (4 + 2 * 2) * 32**2
    packed, padded = cost(net, "h100-sxm", lengths=lengths), cost(net, "h100-sxm", lengths=lengths, padding="max")
    assert packed.macs == linear * sum(lengths) + 2 * 32 * sum(n * n for n in lengths)
    assert padded.macs == linear * 4 * 100 + 2 * 32 * 4 * 100**2
    assert linear * sum(lengths) == 0.6 * linear * 4 * 100
    assert packed.hardware["h100-sxm"].latency_s < padded.hardware["h100-sxm"].latency_s
    assert packed.hardware["h100-sxm"].peak_memory_bytes < padded.hardware["h100-sxm"].peak_memory_bytes
    assert packed.params == padded.params == cost(net).params


@pytest.mark.paper("bytetransformer")
@pytest.mark.parametrize("phase", ["inference", "training", "decode"])
def test_equal_lengths_coincide_packed_and_padded(phase: str) -> None:
    blocks = [*TRANSFORMER["sequence"]["blocks"], {"lm_head": {"vocab": 50}}]
    net = Net({"sequence": {"blocks": blocks}}, Shape("tokens", 50, length=40, causal=True))
    told = [cost(net, "h100-sxm", phase, lengths=[40] * 3, padding=padding) for padding in ("packed", "max")]
    told.append(cost(net, "h100-sxm", phase, batch=3, length=40))
    assert told[0].to_json() == told[1].to_json() == told[2].to_json()


@pytest.mark.paper("mcuformer")
def test_a_plan_holds_at_most_what_liveness_and_all_tensors_side_by_side_hold() -> None:
    image = Shape("grid", 3, height=32, width=32)
    layer = {"layer": {"mixer": {"attention": {"heads": 2}}, "channel": {"low_rank_mlp": {"rank": 4}}}}
    node = {
        "sequence": {
            "blocks": [{"patch_embed": {"patch": 4, "dim": 16}}, layer, layer, {"classifier": {"classes": 10}}]
        }
    }
    graph = capture(node, image)
    table, _ = node_table(node, image)
    liveness = plan(graph, PlanOptions(in_place=False, join=False, reorder=False))
    assert liveness.peak_bytes == peak_activation_bytes(table, [])
    best = plan(graph)
    assert best.peak_bytes <= liveness.peak_bytes <= best.naive
    assert sorted(best.order) == list(range(len(graph.operators)))
    small = cost(Net(node, image), "stm32f746", plan=PlanOptions()).hardware["stm32f746"]
    assert small.dtype == "int8"
    assert small.peak_memory_bytes == best.peak_bytes / 4
    assert small.fits


@pytest.mark.paper("mcuformer")
def test_candidates_over_320_kb_are_rejected_and_patches_let_them_in() -> None:
    inner = [{"conv_bn": {"dim": 16, "kernel": 3, "stride": 2}}, {"conv_bn": {"dim": 16, "kernel": 3, "stride": 2}},
             {"conv_bn": {"dim": 32, "kernel": 3, "stride": 2}}, {"classifier": {"classes": 10}}]  # fmt: skip
    net = Net({"sequence": {"blocks": inner}}, Shape("grid", 3, height=224, width=224))
    whole = cost(net, "stm32f746").hardware["stm32f746"]
    assert whole.peak_memory_bytes > 320e3
    assert not whole.fits
    once = cost(net, "stm32f746", patches=(1, 1)).hardware["stm32f746"]
    assert once.peak_memory_bytes == whole.peak_memory_bytes
    small = cost(net, "stm32f746", patches=(4, 4))
    assert small.hardware["stm32f746"].peak_memory_bytes < 320e3
    assert small.hardware["stm32f746"].fits
    assert 1 < small.macs / cost(net).macs < 1.6
    assert small.params == cost(net).params


@pytest.mark.paper("mcuformer")
def test_a_low_rank_factor_saves_only_below_the_break_even_rank() -> None:
    shape, a, b = sequence(4, dim=24), 24, 48
    whole = cost(Net({"mlp": {"ratio": 2, "bias": False}}, shape)).params
    for rank in (8, 15, 16, 17, 20):
        factored = cost(Net({"low_rank_mlp": {"ratio": 2, "rank": rank, "bias": False}}, shape)).params
        assert factored == 2 * rank * (a + b)
        assert (factored < whole) == (rank < a * b / (a + b))


@pytest.mark.paper("block-shuffle")
def test_tiles_trade_work_for_memory() -> None:
    node = {"sequence": {"blocks": [{"depthwise_conv": {"kernel": 3}}, {"mlp": {"ratio": 2}}]}}
    image = Shape("grid", 8, height=64, width=64)
    base, _ = node_table(node, image)
    peaks = {}
    for tile in (16, 32, 64):
        table, count = tiled(node, image, tile)
        assert count == (64 // tile) ** 2
        assert table.total("macs") == base.total("macs")
        peaks[tile] = peak_activation_bytes(table, [])
    assert peaks[64] == peak_activation_bytes(base, [])
    assert peaks[64] == pytest.approx(4 * peaks[32]) == pytest.approx(16 * peaks[16])
    overlapping, count = tiled(node, image, 16, overlap=4)
    assert count == 5**2
    assert overlapping.total("macs") / base.total("macs") == pytest.approx(count * 16**2 / 64**2)
    c = cost(Net(node, image), "stm32f746", tiles=(16, 4))
    assert c.macs == overlapping.total("macs")
    with pytest.raises(InputError, match="from image to image"):
        tiled({"sequence": {"blocks": [node, {"classifier": {"classes": 2}}]}}, image, 16)
    with pytest.raises(InputError, match="larger than the overlap"):
        tiled(node, image, 16, 16)


@pytest.mark.paper("dct-approximations")
@pytest.mark.parametrize("n", [8, 16, 32, 64])
def test_integer_transforms_lie_near_the_cosines(n: int) -> None:
    exact, approximate = cosine_matrix(n), integer_matrix(n)
    assert set(approximate.unique().tolist()) <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    scaled = approximate / approximate.norm(dim=1, keepdim=True)
    assert ((scaled * exact).sum(1) > 0.97).all()
    squared = (approximate @ approximate.t()) ** 2
    assert 1 - squared.diagonal().sum() / squared.sum() < 0.1
    additions, shifts = addition_count(n)
    assert 0 < additions < n * (n - 1)
    assert shifts > 0


@pytest.mark.paper("dct-approximations")
def test_integer_transforms_count_no_multiplications() -> None:
    shape = sequence(32, dim=4)
    table, _ = node_table({"dct_truncate": {"ratio": 0.5, "transform": "integer"}}, shape)
    inside = table.matrix[table.matrix[:, C["is_summary"]] > 0]
    assert len(inside) == 2
    counted = operations(table)
    assert counted.multiply == 16 * 4  # the gain of every coefficient that is kept
    assert counted.add == (32 * 16 + 16 * 16) * 4
    near = instantiate({"dct_truncate": {"ratio": 0.5, "transform": "integer"}}, shape)
    exact = instantiate({"dct_truncate": {"ratio": 0.5}}, shape)
    x = torch.linspace(-1, 1, 32)[None, :, None].expand(1, 32, 4).contiguous()
    assert torch.allclose(near(x), exact(x), atol=0.25)


@pytest.mark.paper("bytetransformer")
def test_a_block_that_works_otherwise_at_another_length_runs_for_itself() -> None:
    layer = {"layer": {"mixer": {"linear_attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2}}}}
    net = Net(
        {"sequence": {"blocks": [{"token_embed": {"dim": 32}}, layer]}}, Shape("tokens", 50, length=200, causal=True)
    )
    lengths = [200, 70, 40]
    apart = [cost(net, "h100-sxm", length=n) for n in lengths]
    packed = cost(net, "h100-sxm", lengths=lengths)
    assert packed.macs == sum(c.macs for c in apart)
    assert packed.hardware["h100-sxm"].latency_s < 0.8 * sum(c.hardware["h100-sxm"].latency_s for c in apart)
    embedded = [name for name in packed.table.names() if name == "embedding"]
    assert len(embedded) == 1
