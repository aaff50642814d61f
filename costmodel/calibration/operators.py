"""Models of single operators, fitted to what was measured inside networks and small modules."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from costmodel.calibration.fit import FEWEST_SAMPLES, fit_class
from costmodel.calibration.measured import Measured
from costmodel.correction import ClassModel
from costmodel.hardware import Profile
from costmodel.learned import operator_keys
from costmodel.table import KINDS, C, operator_name

FEWEST_OF_OPERATOR = 8
MOST_OF_OPERATOR, MOST_OF_CLASS = 250, 150


def fit_operators(measured: Measured, profile: Profile) -> tuple[dict[str, ClassModel], dict[str, ClassModel]]:
    """Models of classes, and of each operator with at least FEWEST_OF_OPERATOR sizes, by the keys of a Calibration.

    Operators measured at equal sizes count once, with the median of their times; of many, MOST_OF_OPERATOR are kept that
    lie far apart.
    """
    bare = profile.model_copy(update={"calibration": None})
    measured = _distinct(measured)
    groups: dict[str, list[int]] = {}
    for i, code in enumerate(measured.kind):
        name, region = operator_name(measured.shapes.name[i]), operator_name(measured.shapes.inside[i])
        for key in operator_keys(KINDS[code], name, region):
            groups.setdefault(key, []).append(i)
    operators = {
        key: fit_class(measured.take(np.array(at)), key.split(".")[0], bare, True, MOST_OF_OPERATOR)
        for key, at in groups.items()
        if len(at) >= FEWEST_OF_OPERATOR
    }
    classes = {}
    for code in np.unique(measured.kind):
        at = np.flatnonzero(measured.kind == code)
        if len(at) >= FEWEST_SAMPLES:
            classes[KINDS[code]] = fit_class(measured.take(at), KINDS[code], bare, True, MOST_OF_CLASS)
    return classes, operators


def _distinct(measured: Measured) -> Measured:
    """Each operator at each size once, with the median of its times (the lower one of an even count).

    The first of a network's equal layers may take several times as long as the others, where its kernel is made anew.
    """
    columns = [getattr(measured.shapes, field.name) for field in fields(measured.shapes)]
    amounts = measured.rows[:, [C[name] for name in ("macs_executed", "vector_flops", "transcendentals")]]
    table = np.column_stack([measured.kind, *columns, amounts])
    _, back, count = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    order = np.lexsort((measured.seconds, back.reshape(-1)))
    return measured.take(order[np.cumsum(count) - count + (count - 1) // 2])
