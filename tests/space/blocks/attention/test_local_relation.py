"""Local relation: naive loops, closed counts, and the video network made of it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from costmodel import cost
from space import build, load_space
from space.shape import Shape
from tests.space.blocks.attention.grids import GRID, IMAGE, VIDEO, built, macs, parameters, same


def loops(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """y[p] = sum over offsets of kernel[offset] x[p + offset] + bias. x [B, D, ...], kernel [D, ...]."""
    y = torch.zeros_like(x) + bias.view(-1, *[1] * (x.ndim - 2))
    sizes = x.shape[2:]
    for place in itertools.product(*(range(n) for n in sizes)):
        for offset in itertools.product(*(range(n) for n in kernel.shape[1:])):
            seen = [p + o - n // 2 for p, o, n in zip(place, offset, kernel.shape[1:], strict=True)]
            if all(0 <= s < n for s, n in zip(seen, sizes, strict=True)):
                y[(..., *place)] += kernel[(slice(None), *offset)] * x[(..., *seen)]
    return y


@pytest.mark.paper("uniformer")
@pytest.mark.parametrize("shape", [GRID, IMAGE], ids=["grid", "sequence"])
def test_image_affinity(shape: Shape) -> None:
    block, x = built({"local_relation": {"kernel": 3}}, shape)
    inner = block.before(x)
    if shape.layout == "sequence":
        inner = inner.transpose(1, 2).unflatten(2, (6, 4))
    y = loops(inner, block.affinity.weight[:, 0], block.affinity.bias)
    same(block(x), block.after(y if shape.layout == "grid" else y.flatten(2).transpose(1, 2)))


@pytest.mark.paper("uniformer-video")
def test_video_affinity_is_a_small_tube() -> None:
    block, x = built({"local_relation": {"kernel": 3, "project": False}}, VIDEO)
    inner = x.transpose(1, 2).unflatten(2, (4, 3, 2))
    y = loops(inner, block.affinity.weight[:, 0], block.affinity.bias)
    same(block(x), y.flatten(2).transpose(1, 2))


@pytest.mark.paper("uniformer-video")
def test_a_tube_of_one_frame_is_the_image_form_on_each_frame() -> None:
    video, x = built({"local_relation": {"kernel": 3, "frames": 1}}, VIDEO)
    image, _ = built({"local_relation": {"kernel": 3}}, Shape("sequence", 8, 6, height=3, width=2))
    state = video.state_dict()
    state["affinity.weight"] = state["affinity.weight"][:, :, 0]
    image.load_state_dict(state)
    same(video(x).unflatten(1, (4, 6)).flatten(0, 1), image(x.unflatten(1, (4, 6)).flatten(0, 1)))


@pytest.mark.paper("uniformer-video")
@pytest.mark.parametrize(("kernel", "frames", "volume"), [(5, None, 125), (3, None, 27), (3, 1, 9)])
def test_macs_a_position(kernel: int, frames: int | None, volume: int) -> None:
    node = {"local_relation": {"kernel": kernel, "frames": frames}}
    assert macs(node, VIDEO) == 24 * (volume * 8 + 2 * 8 * 8)
    assert parameters(node, VIDEO) == (volume + 1) * 8 + 2 * (8 * 8 + 8)


@pytest.mark.paper("uniformer")
def test_uniformer_at_384_pixels(tmp_path: Path) -> None:
    # 11.9 G in the repository's table, whose counter takes in the norms
    file = tmp_path / "large.yaml"
    file.write_text("extends: uniformer_small\nname: large\ninput: {kind: image, shape: [3, 384, 384]}\n")
    assert cost(load_space(file).sample(seed=0)).macs / 1e9 == pytest.approx(11.9, rel=0.01)


VIDEO_NET = """
name: video-net
input: {kind: video, shape: [3, 8, 16, 16]}
definitions:
  position: {residual: {local_relation: {kernel: 3, project: false}}}
architecture:
  sequence:
    - tubelet_embed: {dim: 16, patch: 4, frames: 2}
    - $position
    - layer: {norm: {batch_norm: {}}, mixer: {local_relation: {}}, channel: {mlp: {}}}
    - tubelet_embed: {dim: 24, patch: 2}
    - $position
    - layer: {norm: {layer_norm: {}}, mixer: {spacetime_attention: {heads: 2}}, channel: {mlp: {}}}
    - classifier: {classes: 5}
"""


@pytest.mark.paper("uniformer-video")
def test_local_and_joint_stages_make_a_network_on_video(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(VIDEO_NET)
    architecture = load_space(file).sample(seed=0)
    assert build(architecture)(torch.randn(2, 3, 8, 16, 16)).shape == (2, 5)
    local, joint = 64 * (125 * 16 + 2 * 16**2), 16 * 4 * 24**2 + 2 * 16**2 * 24
    positions = 64 * 27 * 16 + 16 * 27 * 24
    channels = 64 * 8 * 16**2 + 16 * 8 * 24**2
    embeddings = 64 * 3 * 2 * 16 * 16 + 16 * 16 * 4 * 24
    assert cost(architecture).macs == local + joint + positions + channels + embeddings + 24 * 5
