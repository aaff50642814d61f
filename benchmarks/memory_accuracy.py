"""Peak memory as predicted and as torch's own CPU allocator recorded it, inference and training.

    python benchmarks/memory_accuracy.py [--only NAME ...]

"all": weights, buffers, optimizer moments, input and activations. "activations": what a run takes besides weights and
moments. Checkpointed: every outer block under torch.utils.checkpoint.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from costmodel import cost
from costmodel.memory_measure import measure_peak
from nas.loading import load_space
from space import Architecture, build
from space.shipped import named_file

EXAMPLES = Path(__file__).parents[1] / "examples"
CASES: list[tuple[str, int, int | None]] = [  # preset, or example space with a seed; batch
    ("vit_tiny_16", 2, None),
    ("swin_tiny", 2, None),
    ("convnext_tiny", 2, None),
    ("efficientnet_b0", 4, None),
    ("mobilenet_v2", 4, None),
    ("efficientvit_m0", 8, None),
    ("fastvit_t8", 2, None),
    ("poolformer_s12", 2, None),
    ("tnt_small", 2, None),
    ("cvt_13", 2, None),
    ("sret_tiny", 2, None),
    ("cmt_tiny", 4, None),
    ("t2t_vit_7", 2, None),
    ("recnext_m1", 4, None),
    ("mvitv2_tiny", 1, None),
    ("uniformer_small", 1, None),
    ("bert_base", 1, None),
    ("fnet_base", 1, None),
    ("pocket-vision.yaml", 256, 0),
    ("pocket-vision.yaml", 256, 1),
    ("pocket-vision.yaml", 256, 2),
    ("byte-lm.yaml", 16, 0),
    ("byte-lm.yaml", 16, 1),
    ("byte-lm.yaml", 16, 2),
    ("recall.yaml", 64, 0),
    ("recall.yaml", 64, 1),
]
SITUATIONS = (("inference", False), ("training", False), ("training", True))


def architecture_of(name: str, seed: int | None) -> Architecture:
    """A preset, or one candidate of an example space."""
    space = load_space(EXAMPLES / name if name.endswith(".yaml") else named_file(name))
    return space.only() if seed is None else space.sample(seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="some of the cases")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread; MB predicted, MB measured, predicted / measured")
    print(
        f"{'architecture':<22} {'batch':>5} {'phase':<22} {'predicted':>10} {'measured':>10} {'all':>7} {'activations':>12}"
    )
    errors: dict[str, list[tuple[float, float]]] = {}
    for name, batch, seed in CASES:
        if only and name not in only:
            continue
        architecture = architecture_of(name, seed)
        for phase, checkpoint in SITUATIONS:
            told = cost(architecture, "x86-core", phase, batch, checkpoint=checkpoint).hardware["x86-core"]
            seen = measure_peak(build(architecture), batch, phase, checkpoint)
            size = 8 if architecture.input_shape.layout == "tokens" else 4
            given = size * torch.Size(architecture.input_shape.size(batch)).numel()
            standing = seen.standing - given
            whole = told.peak_memory_bytes / seen.total
            part = (told.peak_memory_bytes - standing) / (seen.total - standing)
            what = f"{phase}, checkpointed" if checkpoint else phase
            errors.setdefault(what, []).append((abs(whole - 1), abs(part - 1)))
            label = name if seed is None else f"{name.removesuffix('.yaml')} #{seed}"
            print(
                f"{label:<22} {batch:>5} {what:<22} {told.peak_memory_bytes / 1e6:>10.2f} {seen.total / 1e6:>10.2f}"
                f" {whole:>7.3f} {part:>12.3f}",
                flush=True,
            )
    for what, found in errors.items():
        for title, column in (("all", 0), ("activations", 1)):
            values = [f[column] for f in found]
            within = sum(v <= 0.1 for v in values)
            print(
                f"{what}, {title}: {within} of {len(values)} within 10 %,"
                f" mean {statistics.mean(values):.1%}, worst {max(values):.1%}"
            )


if __name__ == "__main__":
    main()
