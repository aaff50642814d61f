"""Small things that the tests of the store are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from store import Store


def digest(text: str) -> str:
    """sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


OBJECTIVES = (("accuracy", "max"), ("latency@mcu", "min"))


def make_study(store: Store, name: str = "s", objectives: Sequence[tuple[str, str]] = OBJECTIVES) -> int:
    """A study; its id."""
    return store.create_study(name, "name: s\n", digest("name: s\n"), {"seed": 0}, objectives).id
