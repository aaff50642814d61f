"""Presets against timm and transformers: the peer's weights, copied by a map of names, give the peer's outputs.

Runs where those are installed: `PYTHONPATH=. python tests/peers/vit.py [PRESET ...]`. Weights are random, moved off
their special starts; everything is float64. Prints the relative error of each preset and fails above 1e-5.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from space import build, load_space
from space.extends import PRESETS
from tests.peers.common import importable

Weights = dict[str, Tensor]


TABLES = ("cls_token", "dist_token", "pos_embed", "patch_pos")
LAYER = {
    "norm1": "mixer_norm.norm",
    "attn.qkv": "mixer.qkv",
    "attn.proj": "mixer.out",
    "norm2": "channel_norm.norm",
    "mlp.fc1": "channel.expand",
    "mlp.fc2": "channel.project",
}


def timm_weights(kind: str) -> tuple[nn.Module, Weights]:
    """A timm model with random weights, and those; tables lose their batch axis."""
    import timm

    peer = shaken(timm.create_model(kind))
    return peer, {name: t[0] if name in TABLES else t for name, t in peer.state_dict().items()}


def vit(kind: str) -> tuple[nn.Module, Weights]:
    """timm's VisionTransformer, and the distilled one with two tokens and heads."""
    peer, held = timm_weights(kind)
    depth = len(peer.blocks)
    names = {
        "patch_embed.proj": "blocks.0.project",
        "norm": f"blocks.{depth + 2}.norm",
        "head": f"blocks.{depth + 2}.score",
    }
    for i in range(depth):
        names |= {f"blocks.{i}.{theirs}": f"blocks.{i + 2}.{ours}" for theirs, ours in LAYER.items()}
    names["head_dist"] = f"blocks.{depth + 2}.teacher"
    tokens = torch.cat([held[name] for name in ("cls_token", "dist_token") if name in held])
    return peer, renamed(held, names) | {"blocks.1.token": tokens, "blocks.1.position": held["pos_embed"]}


def tnt(kind: str) -> tuple[nn.Module, Weights]:
    """timm's TNT; its queries and keys are one map, its values another."""
    peer, held = timm_weights(kind)
    names = {
        "pixel_embed.proj": "conv",
        "norm1_proj": "embed.norm",
        "proj": "embed.project",
        "norm2_proj": "embed.out_norm",
    }
    inner = {"norm_in": "mixer_norm.norm", "attn_in.proj": "mixer.out", "norm_mlp_in": "channel_norm.norm"}
    outer = {"norm_out": "mixer_norm.norm", "attn_out.proj": "mixer.out", "norm_mlp": "channel_norm.norm"}
    fusion = {"norm1_proj": "norm", "proj": "project", "norm2_proj": "out_norm"}
    made = {
        "word_position": held["pixel_pos"].flatten(2)[0].T,
        "token": held["cls_token"],
        "position": held["patch_pos"],
    }
    for i in range(len(peer.blocks)):
        streams = (
            ("inner", inner | {"mlp_in.fc1": "channel.expand", "mlp_in.fc2": "channel.project"}, "attn_in"),
            ("outer", outer | {"mlp.fc1": "channel.expand", "mlp.fc2": "channel.project"}, "attn_out"),
        )
        for stream, parts, attention in streams:
            names |= {f"blocks.{i}.{theirs}": f"{stream}.{i}.{ours}" for theirs, ours in parts.items()}
            maps = [held[f"blocks.{i}.{attention}.{part}.weight"] for part in ("qk", "v")]
            made[f"{stream}.{i}.mixer.qkv.weight"] = torch.cat(maps)
        names |= {f"blocks.{i}.{theirs}": f"fusions.{i}.{ours}" for theirs, ours in fusion.items()}
    made |= renamed(held, names)
    head = renamed(held, {"norm": "blocks.1.norm", "head": "blocks.1.score"})
    return peer, {f"blocks.0.{name}": tensor for name, tensor in made.items()} | head


def bert() -> tuple[nn.Module, Weights]:
    """transformers' BertModel; its post-norm layer is four blocks here."""
    from transformers import BertConfig, BertModel

    peer = shaken(BertModel(BertConfig()))
    held = peer.state_dict()
    depth = peer.config.num_hidden_layers
    names = {"embeddings.LayerNorm": "blocks.0.norm", "pooler.dense": f"blocks.{4 * depth + 1}.dense"}
    made = {
        "blocks.0.embed.weight": held["embeddings.word_embeddings.weight"],
        "blocks.0.position": held["embeddings.position_embeddings.weight"],
        "blocks.0.types": held["embeddings.token_type_embeddings.weight"],
    }
    for i in range(depth):
        at, layer = 4 * i + 1, f"encoder.layer.{i}"
        names |= {
            f"{layer}.attention.output.dense": f"blocks.{at}.block.out",
            f"{layer}.attention.output.LayerNorm": f"blocks.{at + 1}.norm",
            f"{layer}.intermediate.dense": f"blocks.{at + 2}.block.expand",
            f"{layer}.output.dense": f"blocks.{at + 2}.block.project",
            f"{layer}.output.LayerNorm": f"blocks.{at + 3}.norm",
        }
        for kind in ("weight", "bias"):
            maps = [held[f"{layer}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            made[f"blocks.{at}.block.qkv.{kind}"] = torch.cat(maps)
    return peer, made | renamed(held, names)


def gpt2() -> tuple[nn.Module, Weights]:
    """transformers' GPT2LMHeadModel; its maps are stored transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    peer = shaken(GPT2LMHeadModel(GPT2Config()))
    held = {name: t.T if is_conv1d(name) else t for name, t in peer.transformer.state_dict().items()}
    names = {"ln_f": "norm.norm"}
    parts = {
        "ln_1": "mixer_norm.norm",
        "attn.c_attn": "mixer.qkv",
        "attn.c_proj": "mixer.out",
        "ln_2": "channel_norm.norm",
        "mlp.c_fc": "channel.expand",
        "mlp.c_proj": "channel.project",
    }
    for i in range(peer.config.n_layer):
        names |= {f"h.{i}.{theirs}": f"blocks.{i}.{ours}" for theirs, ours in parts.items()}
    tables = {"embed.weight": held["wte.weight"], "position": held["wpe.weight"]}
    return peer, renamed(held, names) | tables


def is_conv1d(name: str) -> bool:
    """True for a map that GPT-2 stores as [in, out]."""
    return name.endswith(".weight") and ".c_" in name


def shaken(peer: nn.Module) -> nn.Module:
    """The model in eval mode and float64, each weight moved at random."""
    torch.manual_seed(0)
    peer = peer.eval().double()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return peer


def renamed(held: Weights, names: dict[str, str]) -> Weights:
    """Weight and bias of every named module, under our name."""
    return {
        f"{ours}.{kind}": held[f"{theirs}.{kind}"]
        for theirs, ours in names.items()
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in held
    }


def output(result: object) -> Tensor:
    """The tensor of a peer's answer that the preset gives too."""
    if isinstance(result, Tensor):
        return result
    pooled = getattr(result, "pooler_output", None)
    return result.logits if pooled is None else pooled  # type: ignore[attr-defined]


PEERS: dict[str, Callable[[], tuple[nn.Module, Weights]]] = {
    "vit_tiny_16": lambda: vit("vit_tiny_patch16_224"),
    "vit_small_16": lambda: vit("vit_small_patch16_224"),
    "vit_base_16": lambda: vit("vit_base_patch16_224"),
    "deit_tiny_distilled_16": lambda: vit("deit_tiny_distilled_patch16_224"),
    "tnt_small": lambda: tnt("tnt_s_patch16_224"),
    "bert_base": bert,
    "gpt2_small": gpt2,
}


@torch.no_grad()
def relative_error(preset: str) -> float:
    """Largest difference of outputs over the largest output."""
    architecture = load_space(PRESETS / f"{preset}.yaml").sample(seed=0)
    peer, weights = PEERS[preset]()
    ours = build(architecture).double().eval()
    ours.load_state_dict(weights, strict=True)
    shape = architecture.input_shape
    torch.manual_seed(1)
    if shape.layout == "tokens":
        x = torch.randint(shape.dim, shape.size(1))
    else:
        x = torch.randn(shape.size(2), dtype=torch.float64)
    want = output(peer(x))
    return float((ours(x) - want).abs().max() / want.abs().max())


def main(wanted: list[str]) -> int:
    importable()
    errors = {}
    for preset in wanted or PEERS:
        errors[preset] = relative_error(preset)
        print(f"{preset:<24}{errors[preset]:.1e}", flush=True)
    return int(any(not error < 1e-5 for error in errors.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
