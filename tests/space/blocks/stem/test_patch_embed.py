"""Patches that are rectangular, overlap, or span frames."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape, instantiate, parse_node
from space.errors import ShapeError
from space.shape import Shape

SPECTROGRAM = Shape("grid", 1, height=128, width=100)
CLIP = Shape("video", 3, frames=4, height=8, width=12)


def parameters(node: dict, shape: Shape) -> int:
    return sum(p.numel() for p in instantiate(node, shape).parameters())


@pytest.mark.paper("ssast")
@pytest.mark.parametrize(
    ("height", "width", "stride"), [(16, 16, None), (128, 2, None), (16, 16, 10), (8, 24, 6), (16, 16, 16)]
)
def test_number_of_patches(height: int, width: int, stride: int | None) -> None:
    """floor((T - p) / s + 1) * floor((F - q) / s + 1), as the paper counts them."""
    shape = SPECTROGRAM if stride or width == 2 else SPECTROGRAM.with_(width=96)
    node = {"patch_embed": {"patch": height, "patch_width": width, "dim": 4, "stride": stride}}
    rows = int((shape.height - height) / (stride or height) + 1)
    columns = int((shape.width - width) / (stride or width) + 1)
    out = infer_shape(node, shape)
    assert (out.length, out.height, out.width) == (rows * columns, rows, columns)
    assert instantiate(node, shape)(torch.zeros(shape.size(1))).shape == (1, rows * columns, 4)


@pytest.mark.paper("ssast")
def test_overlapping_rectangles_equal_a_loop() -> None:
    torch.manual_seed(0)
    shape = Shape("grid", 2, height=9, width=11)
    options = {"patch": 4, "patch_width": 3, "stride": 2, "dim": 5, "position": "learned"}
    block = instantiate({"patch_embed": options}, shape)
    x = torch.randn(2, 2, 9, 11)
    windows = [x[:, :, i : i + 4, j : j + 3].flatten(1) for i in range(0, 6, 2) for j in range(0, 9, 2)]
    want = torch.stack(windows, dim=1) @ block.project.weight.flatten(1).T + block.project.bias + block.position
    torch.testing.assert_close(block(x), want, rtol=1e-5, atol=1e-5)


@pytest.mark.paper("uni4eye")
def test_one_frame_of_a_volume_is_an_image() -> None:
    options = {"patch": 4, "dim": 5, "position": "learned"}
    volume = instantiate({"patch_embed": options}, CLIP.with_(frames=1))
    image = instantiate({"patch_embed": options}, Shape("grid", 3, height=8, width=12))
    state = volume.state_dict()
    image.load_state_dict({**state, "project.weight": state["project.weight"].squeeze(2)})
    x = torch.randn(2, 3, 1, 8, 12)
    torch.testing.assert_close(volume(x), image(x[:, :, 0]))


@pytest.mark.paper("uni4eye")
@pytest.mark.parametrize("frames", [1, 2, 4])
def test_parameters_of_a_volume(frames: int) -> None:
    node = {"patch_embed": {"patch": 4, "patch_width": 2, "patch_frames": frames, "dim": 5}}
    assert parameters(node, CLIP) == 3 * frames * 4 * 2 * 5 + 5
    assert infer_shape(node, CLIP) == Shape("sequence", 5, 4 // frames * 2 * 6, height=2, width=6, frames=4 // frames)


@pytest.mark.parametrize(
    ("options", "shape", "told"),
    [
        ({"patch_frames": 2}, SPECTROGRAM, "patch_frames is for a video; got 2 on an image"),
        ({"patch_frames": 3}, CLIP, "patch_frames must divide frames 4; got 3"),
        ({"patch_width": 5}, CLIP, "patch_width must divide width 12; got 5"),
        ({"patch": 9, "stride": 2}, CLIP, "patch must not exceed the height 8"),
        ({"patch_width": 13, "stride": 2}, CLIP, "patch_width must not exceed the width 12"),
    ],
)
def test_refusals(options: dict, shape: Shape, told: str) -> None:
    with pytest.raises(ShapeError, match=told):
        infer_shape({"patch_embed": {"patch": 4, "dim": 5, **options}}, shape)


def test_square_patches_side_by_side_are_written_plainly() -> None:
    cls, options = parse_node({"patch_embed": {"patch": 4, "patch_width": 4, "stride": 4, "dim": 5}})
    made = cls.normalise(CLIP, options)
    assert (made.patch_width, made.stride) == (None, None)
