"""Stopping a run: SIGTERM, Ctrl-C, and a lease that was lost."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType


class Stopped(BaseException):
    """The run was asked to stop (SIGTERM); what is finished is in the store."""


class StopSignals:
    """Turns SIGTERM into Stopped and Ctrl-C into KeyboardInterrupt, where nothing is torn by it.

    They are raised at once while `interruptible`, and otherwise by the next `check`: never inside a transaction, nor
    between a result and its commit. Outside the main thread signals stay as they are. Use as a context manager.
    """

    def __init__(self) -> None:
        self._asked: type[BaseException] | None = None
        self._at_once = False
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._take)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if error is None:
            self.check()

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._asked = Stopped if number == signal.SIGTERM else KeyboardInterrupt
        if self._at_once:
            self._at_once = False
            raise self._asked

    def check(self) -> None:
        """Raise what a signal asked for since."""
        if self._asked is not None:
            raise self._asked

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """A signal is raised at once while inside (main thread)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def sleep(self, seconds: float) -> None:
        """Sleep, unless a signal comes or came: how the store waits for a database that is away."""
        with self.interruptible():
            time.sleep(seconds)
