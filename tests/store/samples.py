"""Small things that the tests of the store are made of."""

from __future__ import annotations

import hashlib

from store import Store


def digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_study(
    store: Store, name: str = "s", objectives: object = (("accuracy", "max"), ("latency@mcu", "min"))
) -> int:
    """A study; its id."""
    return store.create_study(name, "name: s\n", digest("name: s\n"), {"seed": 0}, list(objectives)).id  # type: ignore[call-overload]
