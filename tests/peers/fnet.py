"""FNet-base against `transformers`: the same weights, the same output. Run where transformers is installed:

PYTHONPATH=. python tests/peers/fnet.py
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from space import load_space
from space.extends import PRESETS
from tests.peers.common import importable


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of `transformers.FNetModel` under our names."""
    plain = {
        "embeddings.word_embeddings.weight": "blocks.0.embed.weight",
        "embeddings.position_embeddings.weight": "blocks.0.position",
        "embeddings.token_type_embeddings.weight": "blocks.0.types",
        "embeddings.LayerNorm": "blocks.0.norm",
        "embeddings.projection": "blocks.0.project",
    }
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.layer."))
    for i in range(layers):
        first = 1 + 4 * i
        plain[f"encoder.layer.{i}.fourier.output.LayerNorm"] = f"blocks.{first + 1}.norm"
        plain[f"encoder.layer.{i}.intermediate.dense"] = f"blocks.{first + 2}.block.expand"
        plain[f"encoder.layer.{i}.output.dense"] = f"blocks.{first + 2}.block.project"
        plain[f"encoder.layer.{i}.output.LayerNorm"] = f"blocks.{first + 3}.norm"
    plain["pooler.dense"] = f"blocks.{1 + 4 * layers}.dense"
    made = {}
    for name, value in state.items():
        old = next(key for key in plain if name == key or name.startswith(f"{key}."))
        made[plain[old] + name[len(old) :]] = value
    return made


def relative_error(dtype: torch.dtype = torch.float64) -> float:
    """Largest difference over the largest value, of the pooled output at 512 tokens."""
    importable()
    from transformers import FNetConfig, FNetModel

    torch.manual_seed(0)
    peer = FNetModel(FNetConfig()).to(dtype).eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    ours = load_space(PRESETS / "fnet_base.yaml").sample(seed=0).build().to(dtype).eval()
    ours.load_state_dict(copied(dict(peer.named_parameters())), strict=True)
    ids = torch.randint(32_000, (2, 512))
    with torch.no_grad():
        want, got = peer(ids).pooler_output, ours(ids)
    return float((got - want).abs().max() / want.abs().max())


def test_fnet_base() -> None:
    assert relative_error() < 1e-10
    assert relative_error(torch.float32) < 1e-5


if __name__ == "__main__":
    # A torchvision that doesn't fit torch would stop the import of transformers, which doesn't need it here.
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
    for kind in (torch.float64, torch.float32):
        print(f"fnet_base, {kind}: relative error {relative_error(kind):.2e}")
