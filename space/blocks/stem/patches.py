"""What stems share that cut an image or a video into patches."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from space.block import Block


class Patches(Block):
    """Base of stems with a convolution `project` over patches, and a table `position` or None. -> [B, L, D]."""

    project: nn.Module
    position: Tensor | None

    @classmethod
    def mixes(cls, options: Any) -> bool:
        return False

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(self.laid(x)).flatten(2).transpose(1, 2)
        return x if self.position is None else x + self.position

    def laid(self, x: Tensor) -> Tensor:
        """The input as the convolution takes it, [B, C, H, W] or [B, C, T, H, W]."""
        return x
