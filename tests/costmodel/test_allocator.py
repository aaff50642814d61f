"""A process that keeps its memory touches it for the first time once."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from costmodel.calibration.allocator import memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
with memory_kept() as kept:
    faults()
    print(kept, given_back, faults())
resident = lambda: int(open("/proc/self/statm").read().split()[1])
before = resident()
held = torch.ones(75_000_000)
print(resident() - before > 70_000)
del held
print(resident() - before < 5_000)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_memory_that_is_freed_stays_with_the_process() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    if told[0] == "False":
        pytest.skip("this C library has no mallopt")
    given_back, after = (int(word) for word in told[1:3])
    # 48 MB are 11,700 pages of 4 KB, or 24 of 2 MB.
    assert given_back >= 20 * 23
    assert after <= given_back // 20
    assert told[3:] == ["True", "True"], "at the end memory goes back to the system as ever"


def test_another_library_has_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    from costmodel.calibration import allocator

    class Without:
        def __init__(self, name: object) -> None:
            assert name is None

    monkeypatch.setattr(allocator.ctypes, "CDLL", Without)
    with allocator.memory_kept() as kept:
        assert not kept
