"""Convolutions whose batch norm folds into them, and the state of whatever holds some."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold_batch_norm(conv: nn.Conv1d | nn.Conv2d | nn.Linear, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution (or linear map) equal in eval mode to `norm(conv(x))`.

    W'_o = W_o g_o / sqrt(v_o + eps), b'_o = (b_o - m_o) g_o / sqrt(v_o + eps) + beta_o. A `norm` that isn't a batch norm
    counts as the identity. Jacob et al. 2017, arXiv:1712.05877, section 3.2.
    """
    weight: Tensor = conv.weight
    bias: Tensor = weight.new_zeros(weight.shape[0]) if conv.bias is None else conv.bias
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        return weight, bias
    scale, shift = batch_norm_affine(norm)
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), bias * scale + shift


def batch_norm_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift per channel that a batch norm applies in eval mode."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def embed_kernel(kernel: Tensor, size: int) -> Tensor:
    """The same kernel [O, I, k, k] with zeros around it, `size` wide: equal under a padding wider by as much."""
    before = (size - kernel.shape[-1]) // 2
    after = size - kernel.shape[-1] - before
    return F.pad(kernel, (before, after, before, after))


class ConvNorm(nn.Module):
    """2-D convolution and batch norm, x [B, C, H, W] -> [B, D, H', W']; `deployed` is one convolution with a bias.

    Zeros of (kernel - 1) // 2 on each side unless `padding` says otherwise. `bias` None: only where there's no norm.
    """

    def __init__(
        self,
        width: int,
        out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        norm: bool = True,
        bias: bool | None = None,
        deployed: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            width,
            out,
            kernel,
            stride=stride,
            padding=(kernel - 1) // 2 if padding is None else padding,
            groups=groups,
            bias=(norm and deployed) or (not norm if bias is None else bias),
        )
        self.norm = nn.BatchNorm2d(out) if norm and not deployed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias with the norm folded in."""
        return fold_batch_norm(self.conv, self.norm)

    def folded(self) -> dict[str, Tensor]:
        """State of the deployed twin."""
        if isinstance(self.norm, nn.Identity):
            return self.state_dict()
        weight, bias = self.kernel_and_bias()
        return {"conv.weight": weight, "conv.bias": bias}


def folded_state(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """State of a module's deployed twin: what each part with a method `folded` says, the other tensors as they are."""
    own = getattr(module, "folded", None)
    if own is not None:
        return {prefix + name: value for name, value in own().items()}
    children = dict(module.named_children())
    state = {
        prefix + name: value for name, value in module.state_dict().items() if name.split(".", 1)[0] not in children
    }
    for name, child in children.items():
        state |= folded_state(child, f"{prefix}{name}.")
    return state
