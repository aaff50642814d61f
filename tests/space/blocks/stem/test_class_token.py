"""Class tokens, learned positions over them, and the heads that read them."""

from __future__ import annotations

import pytest
import torch

from space.block import infer_shape, instantiate
from space.errors import ShapeError
from space.shape import Shape

IMAGE = Shape("sequence", 8, 12, height=3, width=4)


def test_stand_in_front_and_lose_the_grid() -> None:
    block = instantiate({"class_token": {"tokens": 2, "position": "learned"}}, IMAGE)
    x = torch.randn(3, 12, 8)
    y = block(x)
    torch.testing.assert_close(y[:, :2], (block.token + block.position[:2]).expand(3, 2, 8))
    torch.testing.assert_close(y[:, 2:], x + block.position[2:])
    assert infer_shape({"class_token": {}}, IMAGE) == Shape("sequence", 8, 13)


def test_a_causal_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="later ones"):
        infer_shape({"class_token": {}}, IMAGE.with_(causal=True))
