"""The search spaces that come along: each loads, says what it is for, and what it draws can be built and priced."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from costmodel import cost, hardware_names, node_table
from costmodel.table import C
from nas import load_space as checked
from space import Architecture, SearchSpace, build, load_space
from space.shipped import SPACES

FILES = sorted(SPACES.glob("*.yaml"))
every_space = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])


def test_there_are_enough() -> None:
    assert len(FILES) >= 12


@every_space
def test_it_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"\nname: {path.stem}\n" in text
    space = checked(path.stem)
    assert len(space.objectives) >= 2
    assert any(objective.measure.is_cost for objective in space.objectives)


def assert_priced(architecture: Architecture) -> None:
    table, segment = node_table(architecture.node, architecture.input_shape)
    assert table.unknown == []
    assert segment.parameters > 0
    assert table.total("macs") > 0


@every_space
def test_candidates_differ_and_are_priced(path: Path) -> None:
    space = load_space(path)
    drawn = [space.sample(seed=seed) for seed in range(60)]
    assert len({a.id for a in drawn}) >= min(20, 10**space.log10_size / 4)
    for architecture in drawn[:3]:
        assert_priced(architecture)


@pytest.mark.slow
@every_space
def test_two_hundred_candidates_are_built_and_priced(path: Path) -> None:
    space = load_space(path)
    for seed in range(200):
        architecture = space.sample(seed=seed)
        assert_priced(architecture)
        with torch.device("meta"):
            build(architecture)


@every_space
def test_a_candidate_is_built_as_it_is_priced(path: Path) -> None:
    architecture = load_space(path).sample(seed=1)
    with torch.device("meta"):
        module = build(architecture)
    assert sum(p.numel() for p in module.parameters()) == cost(architecture).params


def test_a_space_goes_by_its_name() -> None:
    assert load_space("nas-bench-201").name == "nas-bench-201"
    own = SearchSpace.from_text("extends: wide-attention\nname: own\nchoices: {layers: {choice: [4]}}")
    assert {a.id for a in own.enumerate()} < {a.id for a in load_space("wide-attention").enumerate()}


# NAS-Bench-201's own figures of the smallest and the largest cell on CIFAR-10 (its API's cost information).
@pytest.mark.parametrize(
    ("operation", "params", "macs"), [("zero", 73_306, 7.78305), ("$conv_3x3", 1_531_546, 220.11969)]
)
def test_published_ends_of_nas_bench_201(operation: str, params: int, macs: float) -> None:
    space = load_space("nas-bench-201")
    assert round(10**space.log10_size) == 15_625
    found = cost(space.from_picks(dict.fromkeys(space.sites, operation)))
    assert found.params == params
    assert found.macs / 1e6 == pytest.approx(macs, abs=2e-5)


def test_equal_cells_of_nas_bench_201_are_one_architecture() -> None:
    space = load_space("nas-bench-201")
    picks = dict.fromkeys(space.sites, "zero") | {"choices.edge_03": "$conv_3x3"}
    dead = picks | {"choices.edge_01": "$conv_1x1"}
    moved = dict.fromkeys(space.sites, "zero") | {"choices.edge_01": "identity", "choices.edge_13": "$conv_3x3"}
    assert space.from_picks(picks).id == space.from_picks(dead).id == space.from_picks(moved).id


def aspects() -> dict[int, SearchSpace]:
    text = "extends: wide-attention\nchoices: {{layers: {{choice: [{}]}}}}\noverrides:\n  {}.channel: {{mlp: {{ratio: 4}}}}\n"
    mixer = "  {}.mixer: {{attention: {{heads: '${{16 // layers}}', head_dim: 32}}}}"
    at = "architecture.sequence[1].repeat.block.layer"
    return {n: SearchSpace.from_text(text.format(n, at) + mixer.format(at)) for n in (1, 2, 4, 8, 16)}


@pytest.mark.paper("wide-attention")
def test_width_for_depth_keeps_attention_and_drops_channels() -> None:
    latencies = []
    for layers, space in aspects().items():
        architecture = space.sample()
        module = build(architecture)
        sizes = {"qkv": 0, "out": 0, "channel": 0}
        for name, parameter in module.named_parameters():
            for part in sizes:
                sizes[part] += parameter.numel() if f".{part}." in name and name.endswith("weight") else 0
        assert sizes["qkv"] + sizes["out"] == 4 * 128 * 16 * 32
        assert sizes["channel"] == layers * 2 * 4 * 128**2
        latencies.append(cost(architecture, hardware=["h100-sxm"]).hardware["h100-sxm"].latency_s)
    assert latencies == sorted(latencies)
    assert latencies[-1] > 3 * latencies[0]


@pytest.mark.paper("nas-efficient-transformers")
def test_one_mixer_alone_is_a_part_of_the_mixed_space() -> None:
    mixed = load_space("mixed-attention")
    at = "architecture.sequence[1].repeat.block.layer.mixer"
    text = f"extends: mixed-attention\noverrides:\n  {at}: {{linear_attention: {{heads: $heads}}}}"
    for seed in range(10):
        drawn = SearchSpace.from_text(text).sample(seed=seed)
        picks = dict(drawn.picks)
        for i in range(picks["architecture.sequence[1].repeat.times"]):
            picks[at.replace("layer", f"layer[{i}]")] = "linear_attention"
        assert mixed.from_picks(picks).id == drawn.id


@pytest.mark.paper("nas-efficient-transformers")
@pytest.mark.parametrize(("length", "ratio"), [(16, 0.5), (32, 1.0), (128, 4.0)])
def test_linear_attention_costs_less_beyond_the_width_of_a_head(length: int, ratio: float) -> None:
    from space.shape import Shape

    width, heads = 128, 4
    shape = Shape("sequence", width, length=length)
    scores = {}
    for kind in ("attention", "linear_attention"):
        table, _ = node_table({kind: {"heads": heads}}, shape)
        scores[kind] = table.matrix[table.select()][:, C["macs"]].sum() - 4 * length * width**2
    assert scores["attention"] == 2 * length**2 * width
    assert scores["linear_attention"] == pytest.approx(2 * length * width * width / heads, rel=0.05)
    assert scores["attention"] / scores["linear_attention"] == pytest.approx(ratio, rel=0.05)


def test_devices_are_known() -> None:
    for path in FILES:
        for objective in load_space(path).objectives:
            assert objective.measure.hardware is None or objective.measure.hardware in hardware_names()
