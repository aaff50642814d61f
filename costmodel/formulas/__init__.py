"""What one aten operator does: one formula an operator, looked up by name.

Conventions (docs/counting.md): MACs only for matrix products and convolutions; one vector operation an output element
and arithmetic operation; exp, log, roots, tanh, erf, sin and their like are transcendentals; an FFT of length n is
5 n log2 n vector operations; layout views are nothing at all.
"""

from __future__ import annotations

from costmodel.formulas.count import Count, Formula, numel
from costmodel.formulas.layout import FREE, LAYOUT
from costmodel.formulas.matrix import MATRIX
from costmodel.formulas.pointwise import POINTWISE
from costmodel.formulas.rows import ROWS

FORMULAS: dict[str, Formula] = {**POINTWISE, **LAYOUT, **ROWS, **MATRIX}


def formula_of(name: str) -> Formula | None:
    """The formula of an aten operator by its name without overload; an in-place form (`add_`) shares it."""
    found = FORMULAS.get(name)
    if found is None and name.endswith("_") and not name.endswith("__"):
        found = FORMULAS.get(name[:-1])
    return found


__all__ = ["FORMULAS", "FREE", "Count", "Formula", "formula_of", "numel"]
