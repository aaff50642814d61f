"""Fast tests first: what takes long runs after everything that doesn't."""

from __future__ import annotations

import os
import signal

import pytest

# The tensors of the tests are small, and the tests run side by side: one thread each, set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts its background jobs deaf to Ctrl-C, and children inherit that; the tests that send it need ears.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: any(item.get_closest_marker(mark) for mark in ("slow", "browser")))
