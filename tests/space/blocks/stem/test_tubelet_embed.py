"""Tubelets against a naive cut, and the image as the video of one frame."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

VIDEO = Shape("video", 3, frames=4, height=6, width=4)
IMAGE = Shape("grid", 3, height=6, width=4)


@pytest.mark.paper("uni4eye")
def test_each_tubelet_is_mapped_alone() -> None:
    block = instantiate({"tubelet_embed": {"dim": 5, "patch": 2, "frames": 2, "position": "learned"}}, VIDEO).double()
    x = torch.randn(2, 3, 4, 6, 4, dtype=torch.float64)
    rows = []
    for t in range(2):
        for i in range(3):
            for j in range(2):
                tubelet = x[:, :, 2 * t : 2 * t + 2, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten(1)
                rows.append(tubelet @ block.project.weight.flatten(1).t() + block.project.bias)
    torch.testing.assert_close(block(x), torch.stack(rows, dim=1) + block.position)


@pytest.mark.paper("uni4eye")
@pytest.mark.parametrize(("frames", "patch"), [(1, 2), (2, 2), (4, 1)])
def test_parameters(frames: int, patch: int) -> None:
    node = {"tubelet_embed": {"dim": 5, "patch": patch, "frames": frames}}
    assert sum(p.numel() for p in instantiate(node, VIDEO).parameters()) == 3 * frames * patch**2 * 5 + 5
    out = infer_shape(node, VIDEO)
    assert (out.frames, out.height, out.width, out.length) == (
        4 // frames,
        6 // patch,
        4 // patch,
        96 // (frames * patch**2),
    )


@pytest.mark.paper("uni4eye")
def test_an_image_is_a_video_of_one_frame() -> None:
    node = {"tubelet_embed": {"dim": 5, "patch": 2}}
    volume = instantiate(node, VIDEO.with_(frames=1)).double()
    image = instantiate(node, IMAGE).double()
    assert sum(p.numel() for p in image.parameters()) == sum(p.numel() for p in volume.parameters())
    image.load_state_dict({"project.weight": volume.project.weight[:, :, 0], "project.bias": volume.project.bias})
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(image(x), volume(x.unsqueeze(2)))
    flat = instantiate({"patch_embed": {"dim": 5, "patch": 2}}, IMAGE).double()
    flat.load_state_dict(image.state_dict())
    torch.testing.assert_close(image(x), flat(x))


def test_tubelets_that_overlap_in_time() -> None:
    block = instantiate({"tubelet_embed": {"dim": 5, "patch": 2, "frames": 2, "reach": 3}}, VIDEO).double()
    x = torch.randn(2, 3, 4, 6, 4, dtype=torch.float64)
    padded = torch.cat([torch.zeros_like(x[:, :, :1]), x, torch.zeros_like(x[:, :, :1])], dim=2)
    first = padded[:, :, 2:5, :2, :2].flatten(1) @ block.project.weight.flatten(1).t() + block.project.bias
    torch.testing.assert_close(block(x)[:, 6], first)


def test_positions_of_a_video_merge_as_pixels_do() -> None:
    node = {"tubelet_embed": {"dim": 5, "patch": 2, "frames": 2}}
    pixels, positions = instantiate(node, VIDEO).double(), instantiate(node, VIDEO.as_sequence()).double()
    positions.load_state_dict(pixels.state_dict())
    x = torch.randn(2, 3, 4, 6, 4, dtype=torch.float64)
    torch.testing.assert_close(positions(x.flatten(2).transpose(1, 2)), pixels(x))
    assert infer_shape(node, VIDEO.as_sequence()) == infer_shape(node, VIDEO)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"frames": 3, "patch": 1}, VIDEO, "frames must divide the frames 4; got 3 (try 1, 2 or 4)"),
        ({"frames": 2, "patch": 1}, IMAGE, "frames must divide the frames 1; got 2 (try 1)"),
        ({"patch": 4}, VIDEO, "patch must divide the height 6; got 4 (try 2, 3 or 6)"),
        ({"patch": 1}, Shape("sequence", 8, 12), "takes a video, an image or the sequence of one"),
    ],
)
def test_refusals(options: dict[str, int], shape: Shape, message: str) -> None:
    with pytest.raises(ShapeError) as caught:
        infer_shape({"tubelet_embed": {"dim": 5, **options}}, shape)
    assert message in str(caught.value)
