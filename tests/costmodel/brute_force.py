"""Peak activation memory the slow way: a log of every storage that every operator touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Log(TorchDispatchMode):
    """Operators with the storages they read or write, all kept alive so that no address comes twice."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[int]] = []
        self.sizes: dict[int, int] = {}
        self.kept: list[Any] = []
        self.first_backward = -1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operands = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.kept.append((operands, results))
        touched = {self.see(t) for t in operands + results}
        moves_data = not func.is_view and func._schema.name not in ("aten::detach", "aten::_unsafe_view", "aten::empty")
        if moves_data:
            self.steps.append(sorted(touched))
        return out

    def see(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        self.sizes[storage._cdata] = storage.nbytes()
        return storage._cdata


def peak(module: torch.nn.Module, x: Tensor, function: Callable[[Tensor], Tensor] | None = None) -> int:
    """Largest sum, over the operators of an inference run, of the storages born so far and still to be read.

    Parameters and buffers don't count; the input is alive from the start, the result to the end.
    """
    with torch.no_grad(), Log() as log:
        given, out = log.see(x), (function or module)(x)
        result = log.see(out)
    weights = {log.see(t) for t in (*module.parameters(), *module.buffers())}
    born: dict[int, int] = {given: 0}
    last: dict[int, int] = {}
    for i, touched in enumerate(log.steps):
        for storage in touched:
            born.setdefault(storage, i)
            last[storage] = i
    last[result] = len(log.steps)
    return max(
        sum(log.sizes[s] for s in born if s not in weights and born[s] <= i <= last.get(s, -1))
        for i in range(len(log.steps))
    )
