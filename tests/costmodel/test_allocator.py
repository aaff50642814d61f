"""A process that keeps its memory touches it for the first time once."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from costmodel.calibration.allocator import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back, kept = faults(), keep_memory()
faults()
print(kept, given_back, faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_memory_that_is_freed_stays_with_the_process() -> None:
    told = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout.split()
    if told[0] == "False":
        pytest.skip("this C library has no mallopt")
    given_back, after = (int(word) for word in told[1:])
    # 48 MB are 11,700 pages of 4 KB, or 24 of 2 MB.
    assert given_back >= 20 * 23
    assert after <= given_back // 20


def test_another_library_has_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    from costmodel.calibration import allocator

    class Without:
        def __init__(self, name: object) -> None:
            assert name is None

    monkeypatch.setattr(allocator.ctypes, "CDLL", Without)
    assert allocator.keep_memory() is False
