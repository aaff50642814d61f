"""Speed of our mixers beside others' on this CPU, one thread, in one run.

    python benchmarks/blocks_vs_peers.py [--pairs 9] [--threads 1]

Needs transformers, mambapy and flash-linear-attention (with fla-core; its naive forms need no triton) for their rows; a
row whose peer isn't installed says so. Ours and theirs run in turn; the ratio is the median over the pairs of theirs
to ours in CPU time of this thread, which other work on the machine disturbs less than the clock; the least of each
is printed beside. `differ`: largest difference of the two outputs over the largest output, same inputs and weights.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from space.block import Block, instantiate
from space.ops.decay_attention import decay_attention
from space.ops.delta_rule import gated_delta_rule
from space.ops.gated_linear_attention import gated_linear_attention
from space.ops.linear_attention import linear_attention, positive_features
from space.ops.wkv import wkv
from space.shape import Shape

LENGTH, DIM = 1024, 384
Pair = tuple[Callable[[], Tensor], Callable[[], Tensor]]


def block(kind: str, **options: Any) -> Block:
    """A causal block at the size measured."""
    return instantiate({kind: options}, Shape("sequence", DIM, LENGTH, causal=True)).eval()


def sequence() -> Tensor:
    """The input of a block."""
    return torch.randn(1, LENGTH, DIM)


def heads(count: int = 3, width: int = DIM // 6) -> list[Tensor]:
    """Tensors [1, 6, L, E]."""
    return [torch.randn(1, 6, LENGTH, width) for _ in range(count)]


def load(ours: nn.Module, theirs: nn.Module, prefixes: dict[str, str]) -> None:
    """Our weights into theirs by name; the first of the prefixes that a name has is replaced."""
    state = {}
    for name, weight in ours.state_dict().items():
        own = next((p for p in prefixes if name.startswith(p)), "")
        state[prefixes.get(own, "") + name.removeprefix(own)] = weight
    theirs.load_state_dict(state)


def quiet_transformers() -> None:
    """Import transformers without its warnings, and without a torchvision that is there but broken."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *rest: None if name.startswith("torchvision") else find(name, *rest)
    import transformers

    transformers.logging.set_verbosity_error()


def fla_naive(name: str) -> ModuleType:
    """A file of flash-linear-attention's naive forms, alone: the package itself wants triton."""
    for entry in sys.path:
        path = Path(entry) / "fla" / "ops" / name / "naive.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location(f"fla_naive_{name}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ModuleNotFoundError("No module named 'fla'", name="fla")


def mamba_transformers() -> Pair:
    from transformers import MambaConfig
    from transformers.models.mamba.modeling_mamba import MambaMixer

    ours, x = block("selective_ssm"), sequence()
    theirs = MambaMixer(MambaConfig(hidden_size=DIM, state_size=16), layer_idx=0).eval()
    load(ours, theirs, {"path.conv.": "conv1d.", "path.": ""})
    return lambda: ours(x), lambda: theirs(x)


def mamba_mambapy() -> Pair:
    from mambapy.mamba import MambaBlock, MambaConfig

    ours, x = block("selective_ssm"), sequence()
    theirs = MambaBlock(MambaConfig(d_model=DIM, n_layers=1)).eval()
    load(ours, theirs, {"path.conv.": "conv1d.", "path.": ""})
    return lambda: ours(x), lambda: theirs(x)


def mamba2_transformers() -> Pair:
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(hidden_size=DIM, num_heads=2 * DIM // 64, head_dim=64, state_size=128, n_groups=1)
    ours, x = block("mamba2"), sequence()
    theirs = Mamba2Mixer(config, layer_idx=0).eval()
    load(ours, theirs, {"conv.": "conv1d."})
    return lambda: ours(x), lambda: theirs(x)


def wkv_transformers() -> Pair:
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    k, v = torch.randn(2, 1, LENGTH, DIM)
    decay, bonus = torch.linspace(-5, 3, DIM), torch.randn(DIM)
    return lambda: wkv(k, v, decay.exp(), bonus)[0], lambda: rwkv_linear_attention_cpu(decay, bonus, k, v)[0]


def retention_fla() -> Pair:
    theirs, (q, k, v) = fla_naive("retention").naive_retention, heads()
    fade = torch.log1p(-(2.0 ** (-5 - torch.arange(6.0))))[:, None].expand(1, -1, LENGTH)
    return lambda: decay_attention(q / q.shape[-1] ** 0.5, k, v, fade)[0], lambda: theirs(q, k, v)


def gla_fla() -> Pair:
    theirs, (q, k, v, g) = fla_naive("gla").naive_recurrent_gla, heads(4)
    g = F.logsigmoid(g) / 16
    flipped = [t.transpose(1, 2) for t in (q, k, v, g)]
    return (
        lambda: gated_linear_attention(q / q.shape[-1] ** 0.5, k, v, g)[0],
        lambda: theirs(*flipped)[0].transpose(1, 2),
    )


def delta_inputs() -> tuple[list[Tensor], list[Tensor]]:
    q, k, v = heads()
    beta, g = torch.rand(1, 6, LENGTH), F.logsigmoid(torch.randn(1, 6, LENGTH) + 3)
    ours = [q, F.normalize(k, dim=-1), v, beta, g]
    return ours, [t.transpose(1, 2).contiguous() for t in ours]


def delta_fla_recurrent() -> Pair:
    theirs, (ours, flipped) = fla_naive("gated_delta_rule").naive_recurrent_gated_delta_rule, delta_inputs()
    return (
        lambda: gated_delta_rule(ours[0] / 8, *ours[1:])[0],
        lambda: theirs(*flipped)[0].transpose(1, 2),
    )


def delta_fla_chunk() -> Pair:
    theirs, (ours, (q, k, v, beta, g)) = fla_naive("gated_delta_rule").naive_chunk_gated_delta_rule, delta_inputs()
    return (
        lambda: gated_delta_rule(ours[0] / 8, *ours[1:])[0],
        lambda: theirs(q, k, v, g=g, beta=beta)[0].transpose(1, 2),
    )


def linear_fla() -> Pair:
    theirs, (q, k, v) = fla_naive("linear_attn").naive_recurrent_linear_attn, heads()
    q, k = positive_features(q), positive_features(k)
    flipped = [t.transpose(1, 2) for t in (q, k, v)]
    return (
        lambda: linear_attention(q, k, v, True),
        lambda: theirs(*flipped, scale=1.0, normalize=True)[0].transpose(1, 2),
    )


def attention_module() -> Pair:
    class Plain(nn.Module):
        """Linear, scaled_dot_product_attention, linear: nothing else."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(DIM, 3 * DIM), nn.Linear(DIM, DIM)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).view(1, LENGTH, 3, 6, -1).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(1, LENGTH, DIM))

    ours, theirs, x = block("attention", heads=6), Plain().eval(), sequence()
    load(ours, theirs, {})
    return lambda: ours(x), lambda: theirs(x)


def attention_multihead() -> Pair:
    ours, x = instantiate({"attention": {"heads": 6}}, Shape("sequence", DIM, LENGTH)).eval(), sequence()
    theirs = nn.MultiheadAttention(DIM, 6, batch_first=True).eval()
    load(ours, theirs, {"qkv.": "in_proj_", "out.": "out_proj."})
    return lambda: ours(x), lambda: theirs(x, x, x, need_weights=False)[0]


ROWS: list[tuple[str, Callable[[], Pair], float | None]] = [
    ("selective_ssm : transformers MambaMixer", mamba_transformers, 3.0),
    ("selective_ssm : mambapy MambaBlock", mamba_mambapy, None),
    ("mamba2 : transformers Mamba2Mixer", mamba2_transformers, 1.5),
    ("wkv : transformers RWKV on CPU", wkv_transformers, None),
    ("retention : fla naive (parallel)", retention_fla, None),
    ("gated linear attention : fla naive (loop)", gla_fla, None),
    ("gated delta rule : fla naive (loop)", delta_fla_recurrent, None),
    ("gated delta rule : fla naive (chunks)", delta_fla_chunk, None),
    ("linear attention : fla naive (loop)", linear_fla, None),
    ("attention : linear + SDPA + linear", attention_module, 0.95),
    ("attention : nn.MultiheadAttention", attention_multihead, None),
]


def cpu_seconds(action: Callable[[], Any]) -> tuple[float, float]:
    """CPU time of this thread, and the clock."""
    wall, own = time.perf_counter(), time.thread_time()
    action()
    return time.thread_time() - own, time.perf_counter() - wall


def compare(name: str, make: Callable[[], Pair], least: float | None, pairs: int) -> bool:
    """Print one row; False where the ratio falls short."""
    torch.manual_seed(0)
    try:
        ours, theirs = make()
    except ModuleNotFoundError as error:
        print(f"{name:<44}  not measured: {error.name} is not installed")
        return least is None
    want = theirs()
    differ = float((ours() - want).abs().max() / want.abs().max())
    times = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(pairs)]
    ratio = statistics.median(b[0] / a[0] for a, b in times)
    clock = statistics.median(b[1] / a[1] for a, b in times)
    least_of = [1e3 * min(t[side][0] for t in times) for side in (0, 1)]
    target = "" if least is None else f"  >= {least}: {'yes' if ratio >= least else 'NO'}"
    print(
        f"{name:<44}{least_of[0]:>8.1f} ms{least_of[1]:>9.1f} ms{ratio:>8.2f}{clock:>8.2f}{differ:>10.0e}{target}",
        flush=True,
    )
    return least is None or ratio >= least


def growth(repeats: int) -> None:
    """Print linear attention's time a position from 1,024 to 65,536 positions."""
    print(f"\n{'linear attention, causal, 6 heads of 64':<44}{'time':>11}{'a position':>14}")
    for length in (1024, 4096, 16384, 65536):
        q, k, v = (torch.randn(1, 6, length, 64) for _ in range(3))
        q, k = positive_features(q), positive_features(k)
        linear_attention(q, k, v, True)
        least = min(cpu_seconds(lambda a=(q, k, v): linear_attention(*a, True))[0] for _ in range(repeats))
        print(f"{f'L = {length:,}':<44}{1e3 * least:>8.1f} ms{1e6 * least / length:>11.2f} us")


def main() -> int:
    """Print the table; 1 where a row falls short of its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if importlib.util.find_spec("transformers"):
        quiet_transformers()
    print(f"torch {torch.__version__}, {arguments.threads} thread(s), L = {LENGTH}, D = {DIM}, float32, inference")
    print(f"{'ours : theirs':<44}{'ours':>11}{'theirs':>12}{'CPU':>8}{'clock':>8}{'differ':>10}")
    with torch.inference_mode():
        good = [compare(name, make, least, arguments.pairs) for name, make, least in ROWS]
        growth(max(3, arguments.pairs // 3))
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
