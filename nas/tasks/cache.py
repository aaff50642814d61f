"""Loaded data, kept for the life of the process: a worker that runs many trials of one task reads it once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

_MOST = 4
_held: OrderedDict[Hashable, Any] = OrderedDict()
_lock = threading.Lock()


def cached(key: Hashable, load: Callable[[], Any]) -> Any:
    """`load()`, or what it gave for an equal key; the few used last are kept."""
    with _lock:
        if key not in _held:
            _held[key] = load()
        _held.move_to_end(key)
        while len(_held) > _MOST:
            _held.popitem(last=False)
        return _held[key]
