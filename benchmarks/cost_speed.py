"""How long it takes to ask for a cost, beside torch's FlopCounterMode on the same built module.

    python benchmarks/cost_speed.py [--repeats 200] [--measurements FOLDER]

Prints medians. "cold": nothing cached. "warm": a candidate never seen, made of blocks seen before ("layers new": their
norms, mixers and channel blocks were seen, but not in these pairs). "again": the same candidate once more. The
calibration is fitted to `gpu_gemm.csv` and `gpu_attention_prefill.csv` in FOLDER (200 rows each), else to made-up rows.
FlopCounterMode gets the module built on `meta` for nothing and runs its forward; building is shown apart.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from costmodel import Profile, clear_cache, cost, load_profile
from costmodel.calibration.fit import fit_classes
from costmodel.calibration.measured import Measured, join, operators_of, product_rows, read_rows, rows_of_device
from costmodel.correction import Calibration
from costmodel.table import KIND
from space import Architecture, build

ATTENTION: list[dict[str, Any]] = [
    {"attention": {"heads": heads, "kv_heads": kv}} for heads in (2, 4, 8) for kv in (1, 2)
]
HYBRID: list[dict[str, Any]] = [
    *ATTENTION,
    *({"depthwise_conv": {"kernel": kernel}} for kernel in (3, 5, 7)),
    *({"selective_ssm": {"state": state}} for state in (8, 16)),
]
SPACES: dict[str, tuple[str, int, list[dict[str, Any]], tuple[int, ...]]] = {
    "transformer": ("layer_norm", 9, ATTENTION, (1, 2, 3, 4)),
    "hybrid": ("rms_norm", 5, HYBRID, (2, 4)),
    "hybrid, 12 layers": ("rms_norm", 12, HYBRID, (2, 4)),
}
"""Name -> norm, layers, mixers, ratios of the channel block; every layer chooses for itself."""


def layer(norm: str, mixer: dict[str, Any], ratio: int) -> dict[str, Any]:
    return {"layer": {"norm": {norm: {}}, "mixer": mixer, "channel": {"mlp": {"ratio": ratio}}}}


def network(layers: list[dict[str, Any]]) -> Architecture:
    blocks = [{"token_embed": {"dim": 128}}, *layers, {"lm_head": {"vocab": 256}}]
    document = {
        "blockwright": 1,
        "input": {"kind": "tokens", "vocab": 256, "length": 256, "causal": True},
        "architecture": {"sequence": {"blocks": blocks}},
    }
    return Architecture.from_document(document)


def candidate(space: str, rng: random.Random) -> Architecture:
    norm, count, mixers, ratios = SPACES[space]
    return network([layer(norm, rng.choice(mixers), rng.choice(ratios)) for _ in range(count)])


def seen(space: str) -> Iterator[Architecture]:
    """Networks that between them hold every layer of the space."""
    norm, _, mixers, ratios = SPACES[space]
    for mixer, ratio in itertools.product(mixers, ratios):
        yield network([layer(norm, mixer, ratio)] * 2)


def new_layers(rng: random.Random) -> Iterator[tuple[Architecture, Architecture]]:
    """Pairs: a network whose layers are all new; one that has their mixers and channel blocks in other pairs before."""
    for number in itertools.count():
        ratios = [1 + number % 7 + 7 * i for i in range(9)]
        chosen = [rng.choice(ATTENTION) for _ in ratios]
        warming = [layer("layer_norm", {"identity": {}}, ratio) for ratio in ratios]
        warming += [layer("layer_norm", mixer, 2) for mixer in ATTENTION]
        yield network([layer("layer_norm", m, r) for m, r in zip(chosen, ratios, strict=True)]), network(warming)


def calibrated(folder: Path | None) -> Profile:
    """An H100 with 200 products and, of measurements, 200 attentions in its calibration."""
    base = load_profile("h100-sxm")
    rng = np.random.default_rng(0)
    if folder is not None:
        parts = []
        for name in ("gpu_gemm", "gpu_attention_prefill"):
            path = folder / f"{name}.csv"
            rows = operators_of(rows_of_device(read_rows(path), ["h100-sxm"], path), path)
            parts.append(rows.take(rng.permutation(len(rows))[:200]))
        found = join(parts)
    else:
        m, n, k = (2.0 ** rng.integers(4, 13, 200) for _ in range(3))
        rows, shapes = product_rows(m, n, k, ["float16"] * 200)
        seconds = 5e-6 + 2 * m * n * k / 500e12 + 2 * (m * k + k * n + m * n) / 2e12
        found = Measured(rows, shapes, seconds, np.full(200, KIND["matmul"]))
    made = Calibration(base=base.name, source="benchmark", classes=fit_classes(found, base))
    return base.model_copy(update={"name": "h100 calibrated", "calibration": made})


def milliseconds(action: Callable[[], Any]) -> tuple[float, float]:
    """Wall clock and CPU time of this thread, which other work on the machine disturbs less."""
    wall, own = time.perf_counter(), time.thread_time()
    action()
    return (time.perf_counter() - wall) * 1e3, (time.thread_time() - own) * 1e3


def shown(values: list[tuple[float, float]]) -> str:
    wall, own = (statistics.median(part) for part in zip(*values, strict=True))
    return f"{wall:9.3f} ({own:7.3f})"


def theirs(module: torch.nn.Module, architecture: Architecture) -> None:
    tokens = torch.zeros(architecture.input_shape.size(1), dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False), torch.no_grad():
        module(tokens)


def build_on_meta(architecture: Architecture) -> torch.nn.Module:
    with torch.device("meta"):
        return build(architecture).eval()


def ours(space: str, profile: Profile, phase: str, repeats: int) -> tuple[str, float]:
    """A line of the table, and the median of the operators that run."""
    rng = random.Random(0)
    cold, warm, again, operators = [], [], [], []
    for _ in range(max(repeats // 40, 3)):
        clear_cache()
        cold.append(milliseconds(partial(cost, candidate(space, rng), profile, phase)))
    for known in seen(space):
        cost(known, profile, phase)
    for _ in range(repeats):
        architecture = candidate(space, rng)
        warm.append(milliseconds(partial(cost, architecture, profile, phase)))
        again.append(milliseconds(partial(cost, architecture, profile, phase)))
        operators.append(len(cost(architecture, profile, phase).hardware[profile.name].priced.rows))
    count = statistics.median(operators)
    return f"{count:>9.0f} {shown(cold):>20} {shown(warm):>20} {shown(again):>20}", count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--measurements", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    profiles = [load_profile("h100-sxm"), calibrated(args.measurements), load_profile("x86-core")]
    rng = random.Random(1)
    cost(candidate("hybrid", rng), profiles)
    print(f"torch {torch.__version__}, one thread; median of {args.repeats} new candidates, one device at a time")
    print("milliseconds of wall clock (of this thread's CPU time)\n")
    titles = ("cold", "warm", "again")
    print(f"{'candidate':<18} {'phase':<10} {'device':<16} {'operators':>9}" + "".join(f" {t:>20}" for t in titles))
    rows = [("transformer", "inference", p) for p in profiles] + [("hybrid", "inference", p) for p in profiles]
    rows += [("hybrid, 12 layers", phase, profiles[0]) for phase in ("inference", "training", "decode")]
    for space, phase, profile in rows:
        repeats = args.repeats if phase != "training" else max(args.repeats // 8, 5)
        line, _ = ours(space, profile, phase, repeats)
        print(f"{space:<18} {phase:<10} {profile.name:<16} {line}")
    warm = []
    for _, (architecture, known) in zip(range(args.repeats // 8), new_layers(rng), strict=False):
        clear_cache()
        cost(known, profiles[0])
        warm.append(milliseconds(partial(cost, architecture, profiles[0])))
    print(f"{'layers new':<18} {'inference':<10} {profiles[0].name:<16} {'':>9} {'':>20} {shown(warm):>20}")
    print("\nFlopCounterMode (MACs alone; no time, energy or memory), inference")
    print(f"{'candidate':<18} {'build on meta':>20} {'count':>20}")
    for space in SPACES:
        building, counting = [], []
        for _ in range(max(args.repeats // 10, 5)):
            architecture = candidate(space, rng)
            building.append(milliseconds(partial(build_on_meta, architecture)))
            module = build_on_meta(architecture)
            counting.append(milliseconds(partial(theirs, module, architecture)))
        print(f"{space:<18} {shown(building):>20} {shown(counting):>20}")


if __name__ == "__main__":
    main()
