"""Mamba, Mamba-2 and RWKV-4 against transformers, with the same weights copied by name.

    PYTHONPATH=. python tests/peers/recurrent.py [--full]

in an environment that has transformers. Prints the relative error of the logits of each; `--full` takes the presets
as they stand besides small ones of the same structure. Exits 1 where an error is 1e-5 or more.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from space import build, load_space
from space.extends import PRESETS
from tests.peers.common import LIMIT, importable


def preset(name: str, dim: int, depth: int, vocab: int, length: int) -> nn.Module:
    """The preset as published, or with fewer, narrower layers and a smaller vocabulary."""
    text = (PRESETS / f"{name}.yaml").read_text()
    small = [
        (r"dim: \{choice: \[\d+\]\}", f"dim: {{choice: [{dim}]}}"),
        (r"depth: \{choice: \[\d+\]\}", f"depth: {{choice: [{depth}]}}"),
        (r"vocab: \d+", f"vocab: {vocab}"),
        (r"length: \d+", f"length: {length}"),
    ]
    for pattern, value in small:
        text, found = re.subn(pattern, value, text)
        assert found, pattern
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.yaml"
        path.write_text(text)
        return build(load_space(path).sample(seed=0)).eval()


def copied(ours: nn.Module, theirs: nn.Module, names: list[tuple[str, Any]]) -> tuple[nn.Module, nn.Module]:
    """Our weights as theirs; `names` rewrites their names to ours, in order. None of ours may be left over.

    Ours start as published. Theirs start ten times wider, where 24 random blocks blow up any rounding by a thousand.
    """
    weights, used = ours.state_dict(), set()
    state = {}
    for name, tensor in theirs.state_dict().items():
        own = name
        for pattern, value in names:
            own = re.sub(pattern, value, own)
        used.add(own)
        state[name] = weights[own].reshape(tensor.shape)
    assert used == set(weights), used ^ set(weights)
    theirs.load_state_dict(state)
    return ours, theirs


def mamba(dim: int, depth: int, vocab: int, length: int) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with one set of weights."""
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=vocab, hidden_size=dim, num_hidden_layers=depth, state_size=16)
    theirs = MambaForCausalLM(config).eval()
    ours = preset("mamba_130m", dim, depth, vocab, length)
    scan = "|".join(["conv1d", "x_proj", "dt_proj", "A_log", "D$"])
    names: list[tuple[str, Any]] = [
        (r"^(backbone\.embeddings|lm_head)", "embed"),
        (r"^backbone\.norm_f\.weight", "norm.gain"),
        (r"^backbone\.layers\.(\d+)\.norm\.weight", r"blocks.\1.mixer_norm.gain"),
        (rf"^backbone\.layers\.(\d+)\.mixer\.({scan})", r"blocks.\1.mixer.path.\2"),
        (r"^backbone\.layers\.(\d+)", r"blocks.\1"),
        (r"conv1d", "conv"),
    ]
    return copied(ours, theirs, names)


def mamba2(dim: int, depth: int, vocab: int, length: int) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with one set of weights."""
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        vocab_size=vocab,
        hidden_size=dim,
        num_hidden_layers=depth,
        state_size=128,
        num_heads=2 * dim // 64,
        head_dim=64,
        n_groups=1,
        tie_word_embeddings=True,
    )
    theirs = Mamba2ForCausalLM(config).eval()
    ours = preset("mamba2_130m", dim, depth, vocab, length)
    names: list[tuple[str, Any]] = [
        (r"^(backbone\.embeddings|lm_head)", "embed"),
        (r"^backbone\.norm_f\.weight", "norm.gain"),
        (r"^backbone\.layers\.(\d+)\.norm\.weight", r"blocks.\1.mixer_norm.gain"),
        (r"^backbone\.layers\.(\d+)", r"blocks.\1"),
        (r"conv1d", "conv"),
    ]
    return copied(ours, theirs, names)


def rwkv(dim: int, depth: int, vocab: int, length: int) -> tuple[nn.Module, nn.Module]:
    """Ours and theirs with one set of weights; their halving of weights every six layers, for float16, is off."""
    from transformers import RwkvConfig, RwkvForCausalLM

    config = RwkvConfig(vocab_size=vocab, hidden_size=dim, num_hidden_layers=depth, rescale_every=0)
    theirs = RwkvForCausalLM(config).eval()
    ours = preset("rwkv_169m", dim, depth, vocab, length)

    def shifted(match: re.Match) -> str:
        return f"blocks.{int(match[1]) + 2}."

    names: list[tuple[str, Any]] = [
        (r"^rwkv\.embeddings", "blocks.0.embed"),
        (r"^rwkv\.blocks\.0\.pre_ln", "blocks.1.norm"),
        (r"^rwkv\.ln_out", f"blocks.{depth + 2}.norm"),
        (r"^head", f"blocks.{depth + 3}.score"),
        (r"^rwkv\.blocks\.(\d+)\.", shifted),
        (r"ln1", "mixer_norm.norm"),
        (r"ln2", "channel_norm.norm"),
        (r"attention", "mixer"),
        (r"feed_forward", "channel"),
        (r"time_decay", "decay"),
        (r"time_first", "bonus"),
        (r"time_mix_", "mix_"),
    ]
    return copied(ours, theirs, names)


def relative_error(ours: nn.Module, theirs: nn.Module, vocab: int, length: int) -> float:
    """Largest difference of the logits over the largest logit, on two random sequences."""
    ids = torch.randint(vocab, (2, length), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got, want = ours(ids), theirs(ids).logits
    return float((got - want).abs().max() / want.abs().max())


CASES: list[tuple[str, Callable[..., tuple[nn.Module, nn.Module]], tuple[int, int, int, int], torch.dtype]] = [
    ("Mamba, 2 blocks of 128", mamba, (128, 2, 500, 200), torch.float64),
    ("Mamba-2, 2 blocks of 128", mamba2, (128, 2, 500, 200), torch.float64),
    ("RWKV-4, 2 layers of 128", rwkv, (128, 2, 500, 200), torch.float32),
]
FULL = [
    ("Mamba-130M", mamba, (768, 24, 50280, 64), torch.float32),
    ("Mamba-2-130M", mamba2, (768, 24, 50288, 64), torch.float32),
    ("RWKV-4-169M", rwkv, (768, 12, 50277, 64), torch.float32),
]


def main() -> int:
    """Print the table; 1 where an error is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="also the published models themselves (2 GB)")
    chosen = [*CASES, *FULL] if parser.parse_args().full else CASES
    importable()
    import transformers

    transformers.logging.set_verbosity_error()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    worst = 0.0
    for name, make, (dim, depth, vocab, length), dtype in chosen:
        torch.manual_seed(0)
        ours, theirs = make(dim, depth, vocab, length)
        error = relative_error(ours.to(dtype), theirs.to(dtype), vocab, length)
        worst = max(worst, error)
        print(f"{name:<28}{str(dtype).removeprefix('torch.'):<10}{error:.1e}")
    return int(worst >= LIMIT)


if __name__ == "__main__":
    sys.exit(main())
