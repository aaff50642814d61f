"""Fused regions: pure-torch functions that good hardware runs as one kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


class RegionRecorder(Protocol):
    """What a tracer offers while it is active."""

    def region(
        self, kind: str, function: Callable[..., Any], args: tuple, kwargs: dict, counts: Callable[..., dict] | None
    ) -> Any:
        """Run `function(*args, **kwargs)`, record its operators as one region of `kind`, return its result."""


_recorder: ContextVar[RegionRecorder | None] = ContextVar("blockwright_region_recorder", default=None)


def fused(kind: str, counts: Callable[..., dict] | None = None) -> Callable[[F], F]:
    """Mark a pure-torch function as one fused kernel of `kind` ("attention", "selective_scan", ...).

    Outside a trace the function runs as it stands. Inside, the tracer records its inner operators and one summary
    row: a profile that lists the kernel prices the summary, another prices the inside.

    `counts(*args, **kwargs)` may give nominal figures of the summary row that differ from the sum over the inner
    operators, as a dict with any of `macs`, `macs_executed`, `vector_flops`, `transcendentals`.
    """

    def mark(function: F) -> F:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            recorder = _recorder.get()
            if recorder is None:
                return function(*args, **kwargs)
            return recorder.region(kind, function, args, kwargs, counts)

        call.fused_kind = kind  # type: ignore[attr-defined]
        return call  # type: ignore[return-value]

    return mark


_share: ContextVar[float] = ContextVar("blockwright_executed_share", default=1.0)


@contextmanager
def executed(share: float) -> Iterator[None]:
    """State that of the work inside only `share` (0 to 1) is run on average, though all of it is written out.

    For routing and early exit, where plain torch computes every branch so that shapes don't depend on data: `macs`
    counts all of it, `macs_executed` and active parameters the share. Nested shares multiply.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"a share of work lies from 0 to 1; got {share}")
    token = _share.set(_share.get() * share)
    try:
        yield
    finally:
        _share.reset(token)


@contextmanager
def fresh_share() -> Iterator[None]:
    """All of the work, whatever share is in force outside (a block traced for itself)."""
    token = _share.set(1.0)
    try:
        yield
    finally:
        _share.reset(token)


def executed_share() -> float:
    """The share in force here."""
    return _share.get()


@contextmanager
def recording(recorder: RegionRecorder) -> Iterator[None]:
    """Make `recorder` the one that fused functions of this thread report to."""
    token = _recorder.set(recorder)
    try:
        yield
    finally:
        _recorder.reset(token)
