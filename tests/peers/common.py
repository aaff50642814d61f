"""What the scripts against peers share: random weights, maps of names, the error of outputs.

The scripts run where timm or transformers are installed: `PYTHONPATH=. python tests/peers/swin.py`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from space import build, load_space
from space.block import Block
from space.extends import PRESETS

Weights = dict[str, Tensor]
LIMIT = 1e-5


def preset(name: str) -> Block:
    """The network of a preset, random weights."""
    return build(load_space(PRESETS / f"{name}.yaml").sample(seed=0))


_STAND_INS = torch.library.Library("torchvision", "FRAGMENT")


def importable() -> None:
    """Let timm be imported beside a torchvision built for another torch.

    That one stops at its own operators, which no model here uses: their names are enough.
    """
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            _STAND_INS.define(f"{name}(Tensor boxes, Tensor scores, float limit) -> Tensor")


def timm_model(kind: str) -> nn.Module:
    """A timm model, random weights, made by `shaken`."""
    importable()
    import timm

    return shaken(timm.create_model(kind))


def shaken(peer: nn.Module, seed: int = 0) -> nn.Module:
    """The peer in float64 and eval mode, every weight and running statistic moved off its special start."""
    torch.manual_seed(seed)
    peer = peer.double().eval()
    with torch.no_grad():
        for weight in peer.parameters():
            weight.add_((0.5 if weight.ndim == 1 else 0.05) * torch.randn_like(weight))
        for name, held in peer.named_buffers():
            if name.endswith("running_mean"):
                held.add_(0.1 * torch.randn_like(held))
            elif name.endswith("running_var"):
                held.add_(0.1 * torch.rand_like(held))
    return peer


def by_order(ours: nn.Module, theirs: nn.Module) -> Weights:
    """State of ours: the peer's tensors in the order in which both register theirs. ValueError where sizes differ.

    A linear map and a 1x1 convolution of the same weights count as equal.
    """
    mine, held = ours.state_dict(), theirs.state_dict()
    if len(mine) != len(held):
        raise ValueError(f"{len(mine)} tensors here, {len(held)} in the peer")
    state = {}
    for (name, tensor), (peer_name, value) in zip(mine.items(), held.items(), strict=True):
        if _bare(tensor) != _bare(value):
            raise ValueError(f"{name} is {list(tensor.shape)}, {peer_name} in its place {list(value.shape)}")
        state[name] = value.reshape(tensor.shape)
    return state


def _bare(tensor: Tensor) -> list[int]:
    return [n for n in tensor.shape if n != 1]


def by_names(ours: nn.Module, held: Weights, pairs: list[tuple[str, str]]) -> Weights:
    r"""State of ours: each name goes to the peer's by the first pattern that matches all of it.

    `pairs` are (pattern of our name, replacement): (r"blocks\.(\d+)\.norm\.(.*)", r"layers.\1.ln.\2"). KeyError where
    none matches or the peer has no such tensor.
    """
    state = {}
    for name, tensor in ours.state_dict().items():
        found = next(((re.fullmatch(p, name), to) for p, to in pairs if re.fullmatch(p, name)), None)
        if found is None:
            raise KeyError(f"no pattern for {name}")
        match, to = found
        assert match is not None
        state[name] = held[match.expand(to)].reshape(tensor.shape)
    return state


def compare(ours: nn.Module, theirs: nn.Module, state: Weights, x: Tensor) -> float:
    """Largest difference of the outputs over the peer's largest output, in float64 and eval mode."""
    ours = ours.double().eval()
    ours.load_state_dict(state, strict=True)
    theirs = theirs.double().eval()
    x = x.double() if x.is_floating_point() else x
    with torch.no_grad():
        want = theirs(x)
        return float((ours(x) - want).abs().max() / want.abs().max())


def report(cases: dict[str, Callable[[], float]]) -> int:
    """Run the cases named on the command line, or all; print each error. Exit status: 1 where one is too large."""
    worst = 0.0
    for name in sys.argv[1:] or cases:
        error = cases[name]()
        worst = max(worst, error)
        print(f"{name:24} relative error {error:.1e}", flush=True)
    return int(not worst < LIMIT)
