"""Models of single operators, fitted to what was measured inside networks and small modules."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from costmodel.calibration.fit import FEWEST_SAMPLES, class_features, fit_class
from costmodel.calibration.measured import Measured
from costmodel.correction import ClassModel
from costmodel.hardware import Profile
from costmodel.learned import operator_keys
from costmodel.table import KINDS, C, operator_name

FEWEST_OF_OPERATOR = 8
MOST_OF_OPERATOR, MOST_OF_CLASS = 250, 150


def fit_operators(measured: Measured, profile: Profile) -> tuple[dict[str, ClassModel], dict[str, ClassModel]]:
    """Models of classes, and of each operator with at least FEWEST_OF_OPERATOR sizes, by the keys of a Calibration.

    Operators measured at equal sizes count once, with the mean of their times; of many, MOST_OF_OPERATOR are kept that
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
        key: fit_class(
            _apart(measured.take(np.array(at)), bare, MOST_OF_OPERATOR), key.split(".")[0], bare, in_place=True
        )
        for key, at in groups.items()
        if len(at) >= FEWEST_OF_OPERATOR
    }
    classes = {}
    for code in np.unique(measured.kind):
        at = np.flatnonzero(measured.kind == code)
        if len(at) >= FEWEST_SAMPLES:
            classes[KINDS[code]] = fit_class(
                _apart(measured.take(at), bare, MOST_OF_CLASS), KINDS[code], bare, in_place=True
            )
    return classes, operators


def _distinct(measured: Measured) -> Measured:
    """Each operator at each size once, with the geometric mean of its times."""
    columns = [getattr(measured.shapes, field.name) for field in fields(measured.shapes)]
    amounts = measured.rows[:, [C[name] for name in ("macs_executed", "vector_flops", "transcendentals")]]
    table = np.column_stack([measured.kind, *columns, amounts])
    _, first, back = np.unique(table, axis=0, return_index=True, return_inverse=True)
    count = np.bincount(back.reshape(-1))
    seconds = np.exp(np.bincount(back.reshape(-1), np.log(measured.seconds)) / count)
    found = measured.take(first)
    return Measured(found.rows, found.shapes, seconds, found.kind)


def _apart(measured: Measured, profile: Profile, most: int) -> Measured:
    """At most so many operators of one class, each next the one farthest from those chosen."""
    if len(measured) <= most:
        return measured
    columns = class_features(measured, KINDS[measured.kind[0]], profile, in_place=True)[0].columns.astype(np.float64)
    columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-6)
    chosen = [int(np.argmin((columns**2).sum(axis=1)))]
    distance = ((columns - columns[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < most:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((columns - columns[chosen[-1]]) ** 2).sum(axis=1))
    return measured.take(np.sort(chosen))
