"""How long it takes to ask for a cost, beside torch's FlopCounterMode on the same built module.

    python benchmarks/cost_speed.py [--repeats 15]

Prints medians. "cold": nothing cached. "warm": a 12-layer candidate never seen, made of blocks seen
before. "again": the same candidate once more. FlopCounterMode gets the module built on `meta` for nothing and runs
its forward; building is shown apart.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from costmodel import clear_cache, cost
from space import Architecture, build

DEVICES = ("h100-sxm", "x86-core")
MIXERS: list[dict[str, Any]] = [
    *({"attention": {"heads": heads, "kv_heads": kv}} for heads in (2, 4, 8) for kv in (1, 2)),
    *({"depthwise_conv": {"kernel": kernel}} for kernel in (3, 5, 7)),
    *({"selective_ssm": {"state": state}} for state in (8, 16)),
]


def candidate(rng: random.Random) -> Architecture:
    layers = [
        {
            "layer": {
                "norm": {"rms_norm": {}},
                "mixer": rng.choice(MIXERS),
                "channel": {"mlp": {"ratio": rng.choice((2, 4))}},
            }
        }
        for _ in range(12)
    ]
    blocks = [{"token_embed": {"dim": 128}}, *layers, {"lm_head": {"vocab": 256}}]
    document = {
        "blockwright": 1,
        "input": {"kind": "tokens", "vocab": 256, "length": 256, "causal": True},
        "architecture": {"sequence": {"blocks": blocks}},
    }
    return Architecture.from_document(document)


def milliseconds(action: Callable[[], Any]) -> tuple[float, float]:
    """Wall clock and CPU time of this thread, which other work on the machine disturbs less."""
    wall, own = time.perf_counter(), time.thread_time()
    action()
    return (time.perf_counter() - wall) * 1e3, (time.thread_time() - own) * 1e3


def median(values: list[tuple[float, float]]) -> tuple[float, float]:
    wall, own = zip(*values, strict=True)
    return statistics.median(wall), statistics.median(own)


def shown(value: tuple[float, float]) -> str:
    return f"{value[0]:8.2f} ({value[1]:6.2f})"


def theirs(module: torch.nn.Module, architecture: Architecture) -> None:
    tokens = torch.zeros(architecture.input_shape.size(1), dtype=torch.int64, device="meta")
    with FlopCounterMode(display=False), torch.no_grad():
        module(tokens)


def build_on_meta(architecture: Architecture) -> torch.nn.Module:
    with torch.device("meta"):
        return build(architecture).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    rng = random.Random(0)
    cost(candidate(rng), DEVICES)
    print(f"torch {torch.__version__}, 12 layers, {len(DEVICES)} devices priced, median of {repeats}")
    print("milliseconds of wall clock (of this thread's CPU time)")
    titles = ("cold", "warm", "again", "build", "FlopCounterMode")
    print(f"{'phase':<10}" + "".join(f" {title:>17}" for title in titles) + f" {'theirs / warm':>14}")
    for phase in ("inference", "training", "decode"):
        cold, warm, again, building, counter = [], [], [], [], []
        for _ in range(repeats):
            architecture = candidate(rng)
            clear_cache()
            cold.append(milliseconds(partial(cost, architecture, DEVICES, phase)))
        for mixer in MIXERS:
            for ratio in (2, 4):
                layer = {"layer": {"norm": {"rms_norm": {}}, "mixer": mixer, "channel": {"mlp": {"ratio": ratio}}}}
                seen = candidate(rng).document
                seen["architecture"]["sequence"]["blocks"][1:-1] = [layer, layer]
                cost(Architecture.from_document(seen), DEVICES, phase)
        for _ in range(repeats):
            architecture = candidate(rng)
            warm.append(milliseconds(partial(cost, architecture, DEVICES, phase)))
            again.append(milliseconds(partial(cost, architecture, DEVICES, phase)))
        for _ in range(repeats if phase == "inference" else 0):
            architecture = candidate(rng)
            building.append(milliseconds(partial(build_on_meta, architecture)))
            module = build_on_meta(architecture)
            counter.append(milliseconds(partial(theirs, module, architecture)))
        line = f"{phase:<10}" + "".join(f" {shown(median(values))}" for values in (cold, warm, again))
        if counter:
            line += f" {shown(median(building))} {shown(median(counter))} {median(counter)[1] / median(warm)[1]:13.0f}x"
        print(line)


if __name__ == "__main__":
    main()
