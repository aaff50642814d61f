"""Fast tests first: what takes long runs after everything that doesn't."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

import pytest

# The tensors of the tests are small, and the tests run side by side: one thread each, set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts its background jobs deaf to Ctrl-C, and children inherit that; the tests that send it need ears.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: any(item.get_closest_marker(mark) for mark in ("slow", "browser")))


@pytest.fixture
def calls_at_most() -> Callable[[int], AbstractContextManager[None]]:
    """A bound on work that no busy machine can break: the calls of functions inside the `with`, Python's and C's."""

    @contextmanager
    def bounded(limit: int) -> Iterator[None]:
        made = 0

        def count(_frame: FrameType, event: str, _arg: Any) -> None:
            nonlocal made
            made += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            yield
        finally:
            sys.setprofile(before)
        assert made <= limit, f"{made:,} calls of functions; expected {limit:,} at most"

    return bounded
