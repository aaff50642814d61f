"""How long a million candidates take, and whether the tables say what `cost` says of the same architectures.

    python benchmarks/screening.py [SPACE.yaml ...] [--count 1000000] [--compared 1000]
    python benchmarks/screening.py --check [SPACE.yaml ...]

For each space: seconds to turn it into tables, to draw and to price `--count` candidates (all costs on every device that
the file names, feasibility included); the largest relative difference of any cost from `cost` over `--compared` random
candidates; and beside it the peer, torch's FlopCounterMode running the built module on `meta`, which gives MACs only (median of
50 candidates; building is shown apart).

`--check` runs `nas check` on every shipped space and example instead, each in a process of its own, and prints whether it
was screened or sampled, how many candidates were judged, and the seconds it took, loading of torch included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from costmodel import Screen
from nas.loading import load_space
from nas.measuring import all_constraints, known_untrained, measure_costs
from nas.screening import judge_many
from space import Measure, SearchSpace, build

EXAMPLES = Path(__file__).parents[1] / "examples"
SHIPPED = Path(__file__).parents[1] / "space" / "spaces"
_ALWAYS = ("params", "macs", "vector_flops", "weight_bytes", "state_bytes")


def measures_of(space: SearchSpace) -> list[Measure]:
    """What the file asks for, and all counts and costs on each of its devices."""
    named = [*(o.measure for o in space.objectives), *(c.measure for c in all_constraints(space))]
    devices = dict.fromkeys(m.hardware for m in named if m.hardware) or {"stm32f746": None}
    asked = [Measure(name) for name in _ALWAYS]
    asked += [Measure(name, device) for device in devices for name in ("latency", "energy", "peak_memory")]
    return [m for m in dict.fromkeys([*asked, *named]) if known_untrained(m) and Screen.covers(m)]


def largest_difference(screen: Screen, measures: list[Measure], count: int) -> float:
    """Largest relative difference between tables and `cost`, over every measure and candidate."""
    words = screen.automaton.draw(count, 1)
    found = screen.values(words, measures)
    worst = 0.0
    for i, word in enumerate(words):
        for measure, told in measure_costs(screen.architecture(word), measures).items():
            screened = found[measure]
            for mine, own in ((screened.expected, told.value), (screened.low, told.low), (screened.high, told.high)):
                if mine is not None and own is not None:
                    worst = max(worst, abs(float(mine[i]) - own) / max(abs(own), 1e-30) if own != mine[i] else 0.0)
    return worst


def peer(screen: Screen, count: int = 50) -> tuple[float, float]:
    """Median seconds that FlopCounterMode takes for one candidate, and that building it on `meta` takes."""
    building, counting = [], []
    for word in screen.automaton.draw(count, 2):
        architecture = screen.architecture(word)
        start = time.thread_time()
        with torch.device("meta"):
            module = build(architecture).eval()
        shape = architecture.input_shape
        dtype = torch.int64 if shape.layout == "tokens" else torch.float32
        x = torch.empty(shape.size(1), dtype=dtype, device="meta")
        built = time.thread_time()
        with torch.no_grad(), FlopCounterMode(display=False):
            module(x)
        building.append(built - start)
        counting.append(time.thread_time() - built)
    return statistics.median(counting), statistics.median(building)


def check_all(paths: list[str]) -> None:
    """`nas check --json` of every space, one row each."""
    print(f"{'space':24} {'method':9} {'candidates':>10} {'feasible':>8} {'seconds':>7}  reason")
    for path in paths:
        start = time.perf_counter()
        command = [sys.executable, "-m", "nas", "check", path, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXAMPLES.parent)
        seconds = time.perf_counter() - start
        told = json.loads(done.stdout)
        method = "screened" if told["screened"] else "sampled"
        share = told["feasible"] / told["samples"]
        print(
            f"{Path(path).stem:24} {method:9} {told['samples']:10,} {share:8.1%} {seconds:7.1f}  {told['reason']}",
            flush=True,
        )


def main() -> None:
    """Print one row a space."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("spaces", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--compared", type=int, default=1000)
    args = parser.parse_args()
    examples = sorted(map(str, EXAMPLES.glob("*.yaml")))
    if args.check:
        check_all(
            [str(Path(p).resolve()) for p in args.spaces] or [*examples, *sorted(map(str, SHIPPED.glob("*.yaml")))]
        )
        return
    torch.set_num_threads(1)
    print(
        f"{'space':16} {'architectures':>16} {'costs':>5} {'automaton s':>11} {'draw s':>7} {'tables + prices s':>17}"
        f" {'feasible':>8} {'us each':>7} {'difference':>10} {'FlopCounterMode us':>18} {'+ build us':>10} {'ratio':>7}"
    )
    for path in args.spaces or examples:
        space = load_space(path)
        start = time.perf_counter()
        screen = Screen(space)
        made = time.perf_counter()
        words = screen.automaton.draw(args.count, 0)
        drawn = time.perf_counter()
        measures = measures_of(space)
        judged = judge_many(screen, words, measures, all_constraints(space))
        priced = time.perf_counter()
        each = (priced - start) / args.count
        difference = largest_difference(screen, measures, args.compared)
        counting, building = peer(screen)
        print(
            f"{space.name:16} {screen.automaton.size() or 0:16,} {len(measures):5} {made - start:11.2f} {drawn - made:7.2f}"
            f" {priced - drawn:17.2f} {np.mean(judged.feasible):8.1%} {each * 1e6:7.2f} {difference:10.1e}"
            f" {counting * 1e6:18,.0f} {building * 1e6:10,.0f} {counting / each:7,.0f}"
        )


if __name__ == "__main__":
    main()
