"""How long the command line takes to answer. Run: python benchmarks/startup.py [REPEATS]"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = (
    ("nas --help", ["--help"]),
    ("nas run --help", ["run", "--help"]),
    ("nas --version", ["--version"]),
    ("nas rnu (a mistake)", ["rnu"]),
    ("nas hardware", ["hardware"]),
    ("nas blocks", ["blocks"]),
    ("nas check", ["check", "examples/pocket-vision.yaml", "--samples", "1"]),
)


def seconds(arguments: list[str]) -> float:
    """Wall-clock time of one command in a new process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nas", *arguments], capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> None:
    """Print a table: fastest, median, slowest."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(f"{'command':<22}{'fastest':>10}{'median':>10}{'slowest':>10}")
    for name, arguments in COMMANDS:
        taken = sorted(seconds(arguments) for _ in range(repeats))
        print(f"{name:<22}" + "".join(f"{t:>8.2f} s" for t in (taken[0], statistics.median(taken), taken[-1])))


if __name__ == "__main__":
    main()
