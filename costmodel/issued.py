"""Which calls of operators a table holds: those that run something, not those that only make views."""

from __future__ import annotations

from typing import Any

from costmodel.formulas import FREE, formula_of
from costmodel.liveness import tensors_in

FREE_WHEN_SHARED = frozenset({"resolve_conj", "resolve_neg", "reshape", "contiguous"})

_looked_up: dict[Any, tuple[str, bool, Any]] = {}


def look_up(func: Any) -> tuple[str, bool, Any]:
    """Name, whether it takes no time, and the formula (None: none is known) of an operator."""
    found = _looked_up.get(func)
    if found is None:
        namespace, _, name = func._schema.name.partition("::")
        free = namespace in ("aten", "prim") and (name in FREE or (func.is_view and name not in FREE_WHEN_SHARED))
        formula = formula_of(name) if namespace == "aten" else None
        if namespace != "aten":
            name = f"{namespace}.{name}"
        found = _looked_up[func] = (name, free, formula)
    return found


def issues_row(func: Any, args: Any, out: Any) -> str:
    """The name under which a recording writes this call down, empty for one that takes no time (a view, say)."""
    name, free, _ = look_up(func)
    if not free and name in FREE_WHEN_SHARED:
        results, operands = tensors_in(out), tensors_in(args)
        free = bool(results and operands) and results[0] is operands[0]
    return "" if free else name
