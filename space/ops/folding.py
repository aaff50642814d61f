"""Convolutions whose batch norm folds into them, and the state of whatever holds some."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold_batch_norm(conv: nn.Conv1d | nn.Conv2d | nn.Linear, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution (or linear map) equal in eval mode to `norm(conv(x))`.

    W'_o = W_o g_o / sqrt(v_o + eps), b'_o = (b_o - m_o) g_o / sqrt(v_o + eps) + beta_o. A `norm` that isn't a batch
    norm counts as the identity. Jacob et al. 2017, arXiv:1712.05877, section 3.2.
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


def identity_kernel(scale: Tensor, groups: int, size: int) -> Tensor:
    """Kernel [D, D / groups, size, size] that multiplies each channel by its `scale` [D]."""
    width = scale.shape[0]
    inner = width // groups
    kernel = scale.new_zeros(width, inner, size, size)
    channels = torch.arange(width)
    kernel[channels, channels % inner, size // 2, size // 2] = scale
    return kernel


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


class RepConv(nn.Module):
    """Parallel convolutions and norms, summed; `deployed` is one convolution. x [B, C, H, W] -> [B, D, H', W'].

    y = sum_j norm_j(W_j * x) over `branches` (odd kernel sizes up to `kernel`), plus norm(x) for `skip`. Ding et al.
    2021, arXiv:2101.03697, section 3.3.
    """

    def __init__(
        self,
        width: int,
        out: int,
        kernel: int,
        branches: tuple[int, ...],
        stride: int = 1,
        groups: int = 1,
        skip: bool = False,
        deployed: bool = False,
    ) -> None:
        super().__init__()
        self.kernel = kernel
        self.groups = groups
        self.conv: nn.Conv2d | None
        self.skip: nn.BatchNorm2d | None
        if deployed:
            self.conv = nn.Conv2d(width, out, kernel, stride=stride, padding=kernel // 2, groups=groups)
            self.branches = nn.ModuleList()
            self.skip = None
        else:
            self.conv = None
            self.branches = nn.ModuleList(ConvNorm(width, out, k, stride, groups) for k in branches)
            self.skip = nn.BatchNorm2d(width) if skip else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is not None:
            y: Tensor = self.conv(x)
            return y
        total = None if self.skip is None else self.skip(x)
        for branch in self.branches:
            added = branch(x)
            total = added if total is None else total + added
        assert total is not None
        return total

    def kernel_and_bias(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias of the one convolution equal to all branches in eval mode."""
        kernels, biases = [], []
        for branch in self.branches:
            assert isinstance(branch, ConvNorm)
            kernel, bias = branch.kernel_and_bias()
            kernels.append(embed_kernel(kernel, self.kernel))
            biases.append(bias)
        if self.skip is not None:
            scale, shift = batch_norm_affine(self.skip)
            kernels.append(identity_kernel(scale, self.groups, self.kernel))
            biases.append(shift)
        return torch.stack(kernels).sum(0), torch.stack(biases).sum(0)

    def folded(self) -> dict[str, Tensor]:
        """State of the deployed twin."""
        if self.conv is not None:
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
