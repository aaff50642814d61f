"""Convolutional presets against timm: the peer's weights, copied by a map of names, give the peer's outputs.

Runs where timm is installed: `PYTHONPATH=. python tests/peers/fastvit.py [PRESET ...]`. Weights are random, weights and
running statistics moved off their special starts; everything is float64. Prints the relative error of each preset, the
larger of as it is and deployed, and fails above 1e-5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch
from torch import nn

from space.deployment import deploy
from tests.peers.common import Weights, by_order, compare, preset, report, timm_model

Pairs = Iterator[tuple[str, str]]


def by_pairs(ours: nn.Module, theirs: nn.Module, pairs: list[tuple[str, str]]) -> Weights:
    """State of ours: each tensor or part that is named in a pair (theirs, ours) under our name."""
    mine, held = ours.state_dict(), theirs.state_dict()
    state = {}
    for their_name, our_name in pairs:
        for name, value in held.items():
            if name == their_name or name.startswith(f"{their_name}."):
                found = our_name + name[len(their_name) :]
                state[found] = value.reshape(mine[found].shape)
    return state


def branches(theirs: str, ours: str, many: bool = True) -> Pairs:
    """A convolution of several branches, each with its norm."""
    names = ["conv_kxk.0", "conv_scale"] if many else ["large_conv", "small_conv"]
    for i, name in enumerate(names):
        yield f"{theirs}.{name}.conv", f"{ours}.branches.{i}.conv"
        yield f"{theirs}.{name}.bn", f"{ours}.branches.{i}.norm"
    yield f"{theirs}.identity", f"{ours}.skip"


def conv_ffn(theirs: str, ours: str) -> Pairs:
    yield f"{theirs}.conv.conv", f"{ours}.spatial.conv"
    yield f"{theirs}.conv.bn", f"{ours}.spatial.norm"
    yield f"{theirs}.fc1", f"{ours}.expand"
    yield f"{theirs}.fc2", f"{ours}.project"


def fastvit(ours: nn.Module, theirs: nn.Module) -> Weights:
    def pairs() -> Pairs:
        for i in range(3):
            yield from branches(f"stem.{i}", f"blocks.{i}.body")
        at = 3
        for s, stage in enumerate(theirs.stages):
            if s:
                yield from branches(f"stages.{s}.downsample.proj.0", f"blocks.{at}.body", many=False)
                yield from branches(f"stages.{s}.downsample.proj.1", f"blocks.{at + 1}.body")
                at += 2
            if hasattr(stage.pos_emb, "pos_enc"):
                yield f"stages.{s}.pos_emb.pos_enc", f"blocks.{at}.conv"
                at += 1
            for b, block in enumerate(stage.blocks):
                name = f"stages.{s}.blocks.{b}"
                if hasattr(block, "layer_scale_1"):
                    yield f"{name}.norm", f"blocks.{at}.block.blocks.0.norm"
                    yield f"{name}.token_mixer.qkv", f"blocks.{at}.block.blocks.2.qkv"
                    yield f"{name}.token_mixer.proj", f"blocks.{at}.block.blocks.2.out"
                    yield f"{name}.layer_scale_1.gamma", f"blocks.{at}.scale"
                    yield f"{name}.layer_scale_2.gamma", f"blocks.{at + 1}.scale"
                else:
                    yield from branches(f"{name}.token_mixer.mixer", f"blocks.{at}.mixer")
                    yield f"{name}.token_mixer.norm.identity", f"blocks.{at}.norm"
                    yield f"{name}.token_mixer.layer_scale.gamma", f"blocks.{at}.scale"
                    yield f"{name}.layer_scale.gamma", f"blocks.{at + 1}.scale"
                yield from conv_ffn(f"{name}.mlp", f"blocks.{at + 1}.block")
                at += 2
        yield from branches("final_conv", f"blocks.{at}.body")
        yield "final_conv.se.fc1", f"blocks.{at}.squeeze.reduce"
        yield "final_conv.se.fc2", f"blocks.{at}.squeeze.expand"
        yield "head.fc", f"blocks.{at + 1}.score"

    return by_pairs(ours, theirs, list(pairs()))


def poolformer(ours: nn.Module, theirs: nn.Module) -> Weights:
    def pairs() -> Pairs:
        yield "stem.conv", "blocks.0.body.conv"
        at = 1
        for s, stage in enumerate(theirs.stages):
            if s:
                yield f"stages.{s}.downsample.conv", f"blocks.{at}.body.conv"
                at += 1
            for b in range(len(stage.blocks)):
                name = f"stages.{s}.blocks.{b}"
                yield f"{name}.norm1", f"blocks.{at}.mixer_norm.norm"
                yield f"{name}.layer_scale1.scale", f"blocks.{at}.mixer_scale"
                yield f"{name}.norm2", f"blocks.{at}.channel_norm.norm"
                yield f"{name}.mlp.fc1", f"blocks.{at}.channel.expand"
                yield f"{name}.mlp.fc2", f"blocks.{at}.channel.project"
                yield f"{name}.layer_scale2.scale", f"blocks.{at}.channel_scale"
                at += 1
        yield "head.norm", f"blocks.{at}.norm"
        yield "head.fc", f"blocks.{at}.score"

    return by_pairs(ours, theirs, list(pairs()))


def efficientformer(ours: nn.Module, theirs: nn.Module) -> Weights:
    def pairs() -> Pairs:
        for i in (1, 2):
            yield f"stem.conv{i}", f"blocks.{i - 1}.body.conv"
            yield f"stem.norm{i}", f"blocks.{i - 1}.body.norm"
        at = 2
        for s, stage in enumerate(theirs.stages):
            if s:
                yield f"stages.{s}.downsample.conv", f"blocks.{at}.body.conv"
                yield f"stages.{s}.downsample.norm", f"blocks.{at}.body.norm"
                at += 1
            for b, block in enumerate(stage.blocks):
                name = f"stages.{s}.blocks.{b}"
                if hasattr(block.mlp if hasattr(block, "mlp") else block, "norm1"):
                    yield f"{name}.ls1.gamma", f"blocks.{at}.scale"
                    yield f"{name}.ls2.gamma", f"blocks.{at + 1}.scale"
                    for i in (1, 2):
                        yield f"{name}.mlp.fc{i}", f"blocks.{at + 1}.block.blocks.{i - 1}.body.conv"
                        yield f"{name}.mlp.norm{i}", f"blocks.{at + 1}.block.blocks.{i - 1}.body.norm"
                    at += 2
                    continue
                if hasattr(block, "mlp"):
                    yield f"{name}.norm1", f"blocks.{at}.mixer_norm.norm"
                    yield f"{name}.token_mixer.proj", f"blocks.{at}.mixer.out"
                    yield f"{name}.token_mixer.qkv", f"blocks.{at}.mixer.qkv"
                    yield f"{name}.token_mixer.attention_biases", f"blocks.{at}.mixer.bias"
                    yield f"{name}.ls1.gamma", f"blocks.{at}.mixer_scale"
                    yield f"{name}.norm2", f"blocks.{at}.channel_norm.norm"
                    yield f"{name}.mlp.fc1", f"blocks.{at}.channel.expand"
                    yield f"{name}.mlp.fc2", f"blocks.{at}.channel.project"
                    yield f"{name}.ls2.gamma", f"blocks.{at}.channel_scale"
                at += 1
        yield "norm", f"blocks.{at}.norm"
        yield "head", f"blocks.{at}.score"
        yield "head_dist", f"blocks.{at}.teacher"

    return by_pairs(ours, theirs, list(pairs()))


PEERS: dict[str, tuple[str, Callable[[nn.Module, nn.Module], Weights]]] = {
    "fastvit_t8": ("fastvit_t8", fastvit),
    "fastvit_s12": ("fastvit_s12", fastvit),
    "fastvit_sa36": ("fastvit_sa36", fastvit),
    "mobilenet_v2": ("mobilenetv2_100", by_order),
    "efficientnet_b0": ("efficientnet_b0", by_order),
    "convnext_tiny": ("convnext_tiny", by_order),
    "poolformer_s12": ("poolformer_s12", poolformer),
    "efficientformer_l1": ("efficientformer_l1", efficientformer),
    "efficientformer_l7": ("efficientformer_l7", efficientformer),
}


def error(name: str, form: Callable[[nn.Module], nn.Module] = lambda ours: ours) -> float:
    """Relative error of a preset in one of its forms."""
    kind, weights = PEERS[name]
    ours, theirs = preset(name).double().eval(), timm_model(kind)
    ours.load_state_dict(weights(ours, theirs), strict=True)
    torch.manual_seed(1)
    x = torch.randn(ours.block_shape.size(1), dtype=torch.float64)
    used = form(ours)
    return compare(used, theirs, used.state_dict(), x)


CASES: dict[str, Callable[[], float]] = {
    name: lambda name=name: max(error(name), error(name, deploy)) for name in PEERS
}

if __name__ == "__main__":
    sys.exit(report(CASES))
