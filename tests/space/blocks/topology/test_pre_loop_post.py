"""Pre, loop, post: parameters don't grow with the passes, one pass is the plain stack, injection adds the start."""

from __future__ import annotations

import pytest
import torch

from space.search_space import SearchSpace
from space.shape import Shape
from tests.space.blocks.topology.whole import built, macs, parameters

SHAPE = Shape("sequence", 16, length=12)
LAYER = {"layer": {"norm": {"rms_norm": {}}, "mixer": {"attention": {"heads": 2}}, "channel": {"mlp": {"ratio": 2}}}}
MLP = {"mlp": {"ratio": 1}}


def looped(loops: int, injection: bool = True) -> dict:
    return {"pre_loop_post": {"pre": MLP, "loop": LAYER, "post": MLP, "loops": loops, "injection": injection}}


@pytest.mark.paper("algoformer")
def test_parameters_stay_and_macs_grow_with_the_passes() -> None:
    sizes = {parameters(looped(n), SHAPE) for n in (1, 2, 7)}
    assert sizes == {2 * parameters(MLP, SHAPE) + parameters(LAYER, SHAPE)}
    for n in (1, 2, 7):
        assert macs(looped(n), SHAPE) == 2 * macs(MLP, SHAPE) + n * macs(LAYER, SHAPE)


@pytest.mark.paper("algoformer")
@pytest.mark.parametrize("injection", [False, True])
def test_passes(injection) -> None:
    block, x = built(looped(3, injection), SHAPE)
    e = block.pre(x)
    add = e if injection else 0
    want = block.post(block.loop(block.loop(block.loop(e) + add) + add))
    torch.testing.assert_close(block(x), want)
    block.loops = 1
    torch.testing.assert_close(block(x), block.post(block.loop(e)))


def document(loops: int, injection: bool, loop: str = "mlp") -> dict:
    more = f"loops: {loops}, injection: {injection}"
    text = f"""
    input: {{kind: series, channels: 8, length: 6}}
    architecture: {{pre_loop_post: {{pre: rms_norm, loop: {loop}, post: identity, {more}}}}}
    """
    return SearchSpace.from_text(text.replace("True", "true").replace("False", "false")).sample().node


def test_what_it_is_in_other_words() -> None:
    plain = {"sequence": {"blocks": [{"rms_norm": {}}, {"mlp": {}}]}}
    assert document(1, True) == document(1, False) == plain
    loop = {"repeat": {"times": 3, "share": "weights", "block": {"mlp": {}}}}
    assert document(3, False) == {"sequence": {"blocks": [{"rms_norm": {}}, loop]}}
    assert document(3, False, "identity") == {"rms_norm": {}}
    kept = {"pre_loop_post": {"loop": {"mlp": {}}, "loops": 3, "injection": True}}
    assert document(3, True) == {"sequence": {"blocks": [{"rms_norm": {}}, kept]}}
