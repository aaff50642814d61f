"""What a formula gives back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(slots=True)
class Count:
    """Work of one operator. `read` and `written` (bytes) stand where it doesn't touch its whole operands.

    `workspace` is memory (bytes) that a CPU's kernel takes besides the result. `real` is how many real
    multiply-accumulates each of `macs` takes.
    """

    kind: str
    macs: float = 0.0
    vector: float = 0.0
    transcendental: float = 0.0
    m: float = 0.0
    n: float = 0.0
    k: float = 0.0
    batch: float = 1.0
    read: float | None = None
    read_fixed: float = 0.0
    weight: float = 0.0
    written: float | None = None
    workspace: float = 0.0
    real: float = 1.0


Formula = Callable[[Any, Any, Any], Count]
"""`formula(args, kwargs, out)`, with the operator's own arguments and result (a tensor or a tuple)."""


def numel(tensor: Any) -> int:
    """Elements of a tensor, 0 for anything else."""
    return tensor.numel() if isinstance(tensor, Tensor) else 0


def first(out: Any) -> Tensor:
    """The first tensor of a result."""
    return out if isinstance(out, Tensor) else next(t for t in out if isinstance(t, Tensor))


def argument(args: Any, kwargs: Any, position: int, name: str, default: Any = None) -> Any:
    """An argument given by position or by name."""
    return args[position] if len(args) > position else kwargs.get(name, default)


def product(sizes: Any) -> int:
    """Product of sizes, 1 for none."""
    return math.prod(int(s) for s in sizes)
