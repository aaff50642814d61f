"""Tables composed of cached blocks equal the trace of the whole module, for every composite here."""

from __future__ import annotations

import pytest

from costmodel import node_table
from space.shape import Shape
from tests.space.blocks.topology.whole import assert_composed_equals_traced

SERIES = Shape("sequence", 32, length=24, causal=True)
PLAIN = Shape("sequence", 32, length=24)
GRID = Shape("grid", 32, height=8, width=8)
LAYER = {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2}}}}
MLP = {"mlp": {"ratio": 2}}
CONV = {"depthwise_conv": {"kernel": 3}}


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ({"cell": {"edges": [LAYER, {"zero": {}}, MLP, LAYER, MLP, {"identity": {}}]}}, SERIES),
        ({"cell": {"edges": [CONV, CONV, {"identity": {}}, {"zero": {}}, MLP, CONV]}}, GRID),
        ({"hourglass": {"factor": 3, "inner": LAYER}}, SERIES),
        ({"hourglass": {"factor": 5, "inner": LAYER, "shorten": "linear", "spread": "linear"}}, PLAIN),
        ({"long_skip": {"early": [LAYER, MLP], "middle": LAYER, "late": [MLP, LAYER]}}, SERIES),
        ({"long_skip": {"early": [CONV], "late": [CONV], "fuse": "sum"}}, GRID),
        ({"modality_split": {"spans": [5, 3], "heads": 4, "channel": MLP}}, SERIES),
        ({"modality_split": {"spans": [5, 3, 2], "modalities": 3, "heads": 4}}, PLAIN),
        ({"augmented_shortcut": {"block": LAYER, "size": 8, "paths": 2}}, SERIES),
        ({"augmented_shortcut": {"block": MLP, "structure": "dense"}}, PLAIN),
        ({"forward_cross_tokens": {"depth": 3, "heads": 4, "channel": MLP, "layer_scale": 0.1}}, GRID),
        ({"recursive_block": {"heads": 4, "loops": 1, "groups": [4], "channel": MLP}}, PLAIN),
        ({"dual_stream": {"split": 16, "first": CONV, "second": MLP}}, GRID),
        ({"dual_stream": {"split": 16, "first": MLP, "second": MLP, "fuse": "cross_context", "heads": 2}}, PLAIN),
        (
            {
                "parallel_branches": {
                    "main": [CONV, CONV],
                    "side": [{"pool": {}}, MLP],
                    "main_dims": [32, 32],
                    "side_dims": [32, 32],
                    "fusion_points": [0],
                    "output": "concat",
                }
            },
            GRID,
        ),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else str(v).split(" ")[0],
)
def test_composed_tables(node, shape) -> None:
    assert_composed_equals_traced(node, shape)


@pytest.mark.parametrize(
    ("node", "shape"),
    [
        ({"pre_loop_post": {"pre": MLP, "loop": LAYER, "post": MLP, "loops": 3, "injection": True}}, SERIES),
        ({"recursive_block": {"heads": 4, "loops": 3, "groups": [4, 2, 1], "channel": MLP, "between": MLP}}, PLAIN),
    ],
    ids=["pre_loop_post", "recursive_block"],
)
def test_composed_tables_of_loops(node, shape) -> None:
    assert_composed_equals_traced(node, shape, again=True)


def test_a_child_that_sees_fewer_positions_keeps_the_state_of_those() -> None:
    node = {"hourglass": {"factor": 4, "inner": LAYER}}
    inner = [node_table(LAYER, SERIES, "decode", 1, context)[1].state_bytes for context in (16, 64)]
    held = node_table(node, SERIES, "decode", 1, 64)[1].state_bytes
    assert held == inner[0] + (3 + 4) * 32 * 4
    assert inner[1] == 4 * inner[0]
