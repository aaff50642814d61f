"""Tables composed of cached blocks equal the trace of the whole module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from costmodel import blocks, clear_cache, node_table, peak_activation_bytes, trace_module
from costmodel.blocks import Layout, Situation, _plain_layout
from costmodel.composition import Composition
from costmodel.table import C
from costmodel.written import Written
from space import build
from space.block import instantiate
from space.errors import InputError, ShapeError
from space.search_space import SearchSpace
from space.shape import Shape

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
COUNTS = (
    "macs",
    "macs_executed",
    "vector_flops",
    "transcendentals",
    "bytes_read",
    "bytes_written",
    "weight_bytes",
)
SERIES = Shape("sequence", 32, length=24, causal=True)


def layer(mixer: dict[str, Any], ratio: int = 2) -> dict[str, Any]:
    return {"layer": {"norm": {"rms_norm": {}}, "mixer": mixer, "channel": {"mlp": {"ratio": ratio}}}}


def whole(node: dict[str, Any], shape: Shape, phase: str, batch: int = 2):
    with torch.device("meta"):
        module = instantiate(node, shape)
        dtype = torch.int64 if shape.layout == "tokens" else torch.float32
        x = torch.empty(shape.size(batch), dtype=dtype)
    return trace_module(module, x, phase=phase), module


def assert_equal(composed, traced) -> None:
    for name in COUNTS:
        assert composed.total(name) == traced.total(name), name
    for kernels in (None, [], ["attention"], ["selective_scan"]):
        assert peak_activation_bytes(composed, kernels) == peak_activation_bytes(traced, kernels)


@pytest.mark.parametrize("phase", ["inference", "training"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_candidates_of_the_examples(path: Path, phase: str) -> None:
    space = SearchSpace.from_file(path)
    for seed in range(4):
        architecture = space.sample(seed=seed)
        composed, segment = node_table(architecture.node, architecture.input_shape, phase, batch=2)
        traced, _ = whole(architecture.node, architecture.input_shape, phase)
        assert composed.unknown == []
        assert_equal(composed, traced)
        assert segment.parameters == sum(p.numel() for p in build(architecture).parameters())


@pytest.mark.parametrize("phase", ["inference", "training"])
def test_residual_nets_row_by_row(phase: str) -> None:
    node = {"sequence": {"blocks": [layer({"attention": {"heads": 2}}), layer({"depthwise_conv": {"kernel": 3}}, 3)]}}
    composed, _ = node_table(node, SERIES, phase, batch=2)
    traced, _ = whole(node, SERIES, phase)
    assert_equal(composed, traced)
    assert sorted(composed.names()) == sorted(traced.names())


def test_branches_and_aliases() -> None:
    inner = [{"identity": {}}, {"mlp": {"ratio": 2}}, {"sequence": {"blocks": [{"rms_norm": {}}, {"identity": {}}]}}]
    node = {"residual": {"block": {"parallel": {"branches": inner, "fuse": "sum"}}}}
    for phase in ("inference", "training"):
        composed, _ = node_table(node, SERIES, phase, batch=2)
        assert_equal(composed, whole(node, SERIES, phase)[0])


def test_shared_weights_count_once_and_run_every_time() -> None:
    node = {"repeat": {"times": 3, "share": "weights", "block": layer({"attention": {"heads": 2}})}}
    once = node_table(node["repeat"]["block"], SERIES)
    for phase in ("inference", "training"):
        composed, segment = node_table(node, SERIES, phase, batch=2)
        traced, module = whole(node, SERIES, phase)
        assert segment.parameters == once[1].parameters == sum(p.numel() for p in module.parameters())
        assert composed.total("macs") == traced.total("macs")
        assert composed.bytes_allocated.sum() - composed.bytes_freed.sum() == pytest.approx(
            traced.bytes_allocated.sum() - traced.bytes_freed.sum()
        )
        rows = composed.total("bytes_read"), traced.total("bytes_read")
        assert rows[0] == pytest.approx(rows[1], rel=0.02)


ROWS = [
    [layer({"attention": {"heads": 2}}), layer({"depthwise_conv": {"kernel": 3}}, 3), {"layer_norm": {}}],
    [{"identity": {}}, {"mlp": {"ratio": 2}}, {"identity": {}}],
    [{"identity": {}}, {"identity": {}}],
    [{"rms_norm": {}}, {"depthwise_conv": {"kernel": 3}}, {"rms_norm": {}}],
    [{"residual": {"block": {"sequence": {"blocks": [{"rms_norm": {}}, {"mlp": {}}]}}}}, {"selective_ssm": {}}],
]


def situations(shape: Shape) -> list[Situation]:
    found = [Situation("inference", 1), Situation("inference", 3)]
    return [*found, Situation("decode", 2, 7)] if shape.causal and shape.layout in ("tokens", "sequence") else found


def assert_rows_agree(node: dict[str, Any], shape: Shape, layout: Layout | None = None) -> None:
    """A row put together from its blocks is what recording it around stand-ins gives, field by field."""
    written = Written.of(node)
    assert written.row
    for situation in situations(shape):
        taken = layout or _plain_layout(shape, situation)
        made = blocks._row(written, shape, situation, taken)
        recorded = Composition(blocks._segment, written.text, shape, situation, taken).record()
        assert sorted(made.patches[0]) == sorted(recorded.patches[0])
        assert np.array_equal(made.rows(0), recorded.rows(0))
        assert made.paths() == recorded.paths()
        for name in ("lengths", "regions", "output", "inputs", "result", "parameters", "active", "state_bytes"):
            assert getattr(made, name) == getattr(recorded, name), name


@pytest.mark.parametrize("row", ROWS)
def test_rows_are_put_together_as_recorded(row: list[dict[str, Any]]) -> None:
    assert_rows_agree({"sequence": {"blocks": row}}, SERIES)


def test_rows_of_the_examples_are_put_together_as_recorded() -> None:
    for path in EXAMPLES:
        architecture = SearchSpace.from_file(path).sample(seed=1)
        assert_rows_agree(architecture.node, architecture.input_shape)


def test_a_row_takes_its_input_as_it_lies() -> None:
    transposed = Layout((1, 24, 32), (0, 1, 24))
    node = {"sequence": {"blocks": [{"rms_norm": {}}, {"mlp": {"ratio": 2}}]}}
    situation = Situation("inference", 1)
    made = blocks._row(Written.of(node), SERIES, situation, transposed)
    recorded = Composition(blocks._segment, Written.of(node).text, SERIES, situation, transposed).record()
    assert np.array_equal(made.rows(0), recorded.rows(0))


def test_known_blocks_are_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clear_cache()
    a, b = layer({"attention": {"heads": 2}}), layer({"depthwise_conv": {"kernel": 3}})
    node_table({"sequence": {"blocks": [a, b]}}, SERIES)
    recorded = []
    original = Composition.record
    monkeypatch.setattr(Composition, "record", lambda self: recorded.append(self.kind) or original(self))
    table, _ = node_table({"sequence": {"blocks": [b, a, a, b]}}, SERIES)
    assert recorded == []
    assert_equal(table, whole({"sequence": {"blocks": [b, a, a, b]}}, SERIES, "inference", batch=1)[0])
    node_table({"sequence": {"blocks": [b, a, a, b]}}, SERIES, "training")
    node_table({"sequence": {"blocks": [a, b, a]}}, SERIES, "training")
    assert recorded.count("attention") == recorded.count("depthwise_conv") == 1


def test_the_cache_forgets_the_oldest() -> None:
    cache = blocks._Cache(most_rows=10)
    segments = [node_table({"rms_norm": {}}, SERIES.with_(dim=d))[1] for d in (4, 8, 12)]
    for i, segment in enumerate(segments):
        cache.put(i, segment)
    assert cache.get(0) is None
    assert cache.get(2) is segments[2]
    assert cache.rows <= 10


def test_paths_name_the_document_node() -> None:
    table, _ = node_table({"sequence": {"blocks": [layer({"attention": {"heads": 2}}), {"layer_norm": {}}]}}, SERIES)
    paths = {table.blocks[int(i)] for i in table.block}
    assert "sequence[0].layer.mixer.attention" in paths
    assert "sequence[0].layer" in paths
    assert "sequence[1].layer_norm" in paths


def test_decode_reads_a_cache_that_grows_and_a_state_that_does_not() -> None:
    heads, batch = 2, 3
    attention = {"sequence": {"blocks": [layer({"attention": {"heads": heads, "kv_heads": 1}})] * 2}}
    for context in (1, 10, 100):
        table, segment = node_table(attention, SERIES, "decode", batch, context)
        assert segment.state_bytes == 2 * 2 * batch * context * (32 // heads) * 4
        scores = batch * heads * (context + 1)
        attended = table.matrix[table.kind == 5]
        assert attended[:, C["macs"]].sum() == 2 * scores * 2 * (32 // heads)
    scan = layer({"selective_ssm": {}})
    sizes = {node_table(scan, SERIES, "decode", 1, context)[1].state_bytes for context in (1, 100)}
    assert len(sizes) == 1
    assert sizes.pop() > 0


def test_loop_keeps_a_state_for_every_pass() -> None:
    block = layer({"attention": {"heads": 2}})
    one = node_table(block, SERIES, "decode", 1, 16)[1].state_bytes
    loop = {"repeat": {"times": 3, "share": "weights", "block": block}}
    assert node_table(loop, SERIES, "decode", 1, 16)[1].state_bytes == 3 * one


def test_a_block_without_decode_form_says_so() -> None:
    shape = SERIES.with_(causal=False)
    with pytest.raises(InputError, match="decode"):
        node_table({"sequence": {"blocks": [{"fourier_mixer": {}}]}}, shape, "decode", 1, 8)


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ShapeError):
        node_table({"sequence": {"blocks": [{"attention": {"heads": 5}}]}}, SERIES)


def test_a_block_traces_the_same_on_real_tensors() -> None:
    for mixer in ({"attention": {"heads": 2}}, {"selective_ssm": {}}, {"linear_attention": {"heads": 2}}):
        node = layer(mixer)
        for phase in ("inference", "training"):
            on_meta, _ = node_table(node, SERIES, phase, batch=2)
            real = trace_module(instantiate(node, SERIES), torch.randn(SERIES.size(2)), phase=phase)
            assert_equal(on_meta, real)
