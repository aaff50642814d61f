"""Linear attention with a constant-size state."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor, nn

from space.block import Block, BlockOptions, State, block
from space.blocks.rules import must_decode, must_divide
from space.ops.linear_attention import linear_attention, linear_attention_state, positive_features
from space.shape import Shape


@block("linear_attention", role="mixer", layout="sequence", causal=True, paper="linear-attention")
class LinearAttention(Block):
    """Attention with phi(q).phi(k) in place of the softmax, phi(x) = elu(x) + 1. x [B, L, D] -> [B, L, D].

    y_t = phi(q_t)' S_t / (phi(q_t)' z_t), S_t = sum_s phi(k_s) v_s', z_t = sum_s phi(k_s): over s <= t if causal
    (worked in chunks, linear in L), else over all s. Decodes with the constant state (S, z). Katharopoulos et al. 2020,
    arXiv:2006.16236, eqs. 7 to 12.
    """

    class Options(BlockOptions):
        heads: int = Field(ge=1, le=1024, description="heads H")
        head_dim: int | None = Field(None, ge=1, le=4096, description="width E of a head; none: D / H")
        causal: bool | None = Field(None, description="later positions are hidden; none: as the input asks")
        bias: bool = Field(True, description="bias on the projections")

    @classmethod
    def normalise(cls, shape: Shape, options: Any) -> Any:
        options = super().normalise(shape, options)
        return options.model_copy(
            update={
                "head_dim": None if options.head_dim == shape.dim / options.heads else options.head_dim,
            }
        )

    @classmethod
    def check(cls, shape: Shape, options: Any) -> None:
        if options.head_dim is None:
            must_divide("heads", options.heads, shape.dim, "dim")

    def __init__(self, shape: Shape, options: Options) -> None:
        super().__init__()
        self.heads = options.heads
        self.head_dim = shape.dim // options.heads if options.head_dim is None else options.head_dim
        self.causal_sum = shape.causal if options.causal is None else options.causal
        self.qkv = nn.Linear(shape.dim, 3 * self.heads * self.head_dim, bias=options.bias)
        self.out = nn.Linear(self.heads * self.head_dim, shape.dim, bias=options.bias)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi(q), phi(k) and v, each [B, H, L, E]."""
        q, k, v = self.qkv(x).unflatten(-1, (3 * self.heads, self.head_dim)).transpose(1, 2).chunk(3, dim=1)
        return positive_features(q), positive_features(k), v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(x)
        return self.out(linear_attention(q, k, v, self.causal_sum).transpose(1, 2).flatten(2))

    def init_state(self, batch: int, length: int = 0) -> State:
        must_decode(self.kind, self.causal_sum)
        return {"sum": self.out.weight.new_zeros(batch, self.heads, self.head_dim, self.head_dim + 1)}

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v = self.split(x)
        total = linear_attention_state(k, v, state["sum"])
        y = q @ total
        y = y[..., :-1] / (y[..., -1:] + 1e-6)
        return self.out(y.transpose(1, 2).flatten(2)), {"sum": total}
