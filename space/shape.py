"""The shape of what flows between two blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Layout = Literal["tokens", "sequence", "grid", "video", "vector"]


@dataclass(frozen=True)
class Shape:
    """Shape of one activation, without its batch axis.

    | layout | tensor | fields |
    |---|---|---|
    | tokens | int64 [B, L] | dim = vocabulary, length = L |
    | sequence | [B, L, D] | dim = D, length = L; height and width where the positions came from a grid (row-major), |
    | | | and frames where they came from a video (frame by frame) |
    | grid | [B, D, H, W] | dim = D, height = H, width = W |
    | video | [B, D, T, H, W] | dim = D, frames = T, height = H, width = W |
    | vector | [B, D] | dim = D |

    `causal` says that position t may depend on positions <= t only (set by the input, kept by every block).
    """

    layout: Layout
    dim: int
    length: int = 0
    height: int = 0
    width: int = 0
    causal: bool = False
    frames: int = 0

    def size(self, batch: int) -> tuple[int, ...]:
        """Tensor size with the batch axis first."""
        if self.layout == "tokens":
            return (batch, self.length)
        if self.layout == "sequence":
            return (batch, self.length, self.dim)
        if self.layout == "grid":
            return (batch, self.dim, self.height, self.width)
        if self.layout == "video":
            return (batch, self.dim, self.frames, self.height, self.width)
        return (batch, self.dim)

    def with_(self, **changes: object) -> Shape:
        """A copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def as_sequence(self) -> Shape:
        """The sequence of a grid's positions, row by row, or of a video's, frame by frame; remembers them."""
        return self.with_(layout="sequence", length=max(self.frames, 1) * self.height * self.width)

    def as_grid(self) -> Shape:
        """The grid that a sequence came from."""
        return self.with_(layout="grid", length=0)

    @property
    def has_grid(self) -> bool:
        """True for a grid and for a sequence that came from one."""
        return self.height > 0 and self.frames == 0

    def __str__(self) -> str:
        if self.layout == "tokens":
            return f"tokens [B, {self.length}] of {self.dim}"
        axes = ", ".join(str(n) for n in self.size(0)[1:])
        return f"{self.layout} [B, {axes}]"
