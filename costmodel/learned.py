"""What a calibration changes in prices: efficiencies learned by class, and factors from whole networks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.correction import Calibration, ClassModel, evaluator, fade
from costmodel.features import Physical, features_of
from costmodel.hardware import Profile
from costmodel.rates import MANY_UNITS, Rates
from costmodel.shapes import Shapes
from costmodel.table import KIND, KINDS, C, Matrix, intern_name, operator_name

SCAN_REGIONS = ("selective_scan", "scan")
MANY_NAMES = 2.0**24
"""More than operators and regions have names."""
PRODUCT_SIZES = ("m", "n", "k", "batch", "groups", "itemsize", "kv_itemsize")
OPERATOR_SIZES = (*PRODUCT_SIZES, "given", "made", "weights", "workspace")
"""What features read of Shapes, on devices of many units and of a few cores."""
FEWEST_TO_SORT = 2048
"""From so many operators of a class on, equal ones are found first."""
MOSTLY_DIFFERENT = 0.9
"""Unless so large a share of a sample differs: then sorting costs more than it saves."""


@dataclass
class Fitted:
    """Columns that a calibration replaces; `floor` is the bound at peak that no estimate goes below, `added` seconds
    that come with the region an operator stands in."""

    expected: Matrix
    high: Matrix
    low: Matrix
    floor: Matrix
    extrapolated: NDArray[np.bool_]
    added: Matrix | float = 0.0


def correct(
    f: Fitted,
    profile: Profile,
    rates: Rates,
    kind: NDArray[np.int64],
    shapes: Shapes,
    compute: Matrix,
    memory: Matrix,
    overhead: Matrix,
) -> None:
    """Put what the calibration learned of each class in place; far from its samples the profile's own estimate stays."""
    assert profile.calibration is not None
    if profile.calibration.operators:
        memory = own_traffic(shapes, rates)
    if profile.calibration.whole is not None and profile.calibration.whole.regions:
        f.added = _of_regions(profile.calibration.whole.regions, shapes)
    for name, model, at in _models(profile.calibration, kind, shapes, compute + memory > 0):
        launch = np.full(len(at), rates.overhead[KIND[name]])
        physical = Physical(compute[at], memory[at], launch, rates.units, rates.bandwidths[rates.activation_levels[-1]])
        sizes = shapes if len(at) == len(kind) else shapes.take(at)
        log_ratio, beyond, base = _learned(model, name, sizes, physical, rates.units >= MANY_UNITS)
        # A fused operator has no launch of its own: what it saves is taken off again.
        learned = np.maximum(base * np.exp(log_ratio) - (launch - overhead[at]), 1e-9)
        left = fade(beyond)
        floor = f.floor[at] * model.floor
        expected = np.exp(left * np.log(learned) + (1 - left) * np.log(np.maximum(f.expected[at], 1e-12)))
        f.expected[at] = expected = np.maximum(expected, floor)
        widened = np.exp(model.high) * (profile.spread.value ** (1 - left))
        f.high[at] = expected * np.maximum(widened, 1.0)
        f.low[at] = np.where(left > 0.99, np.clip(expected * np.exp(min(model.low, 0.0)), floor, None), floor)
        f.floor[at] = floor
        f.extrapolated[at] = beyond > 0


def _of_regions(regions: dict[str, float], shapes: Shapes) -> Matrix:
    """Seconds that each operator's region adds to it."""
    inside = shapes.inside.astype(np.intp)
    codes = {intern_name(name): seconds for name, seconds in regions.items()}
    by_code = np.zeros(max(int(inside.max(initial=0)), *codes) + 1)
    by_code[list(codes)] = list(codes.values())
    return by_code[inside]


def own_traffic(shapes: Shapes, rates: Rates) -> Matrix:
    """Seconds that the operators' bytes take from the level that holds them, weights with the rest."""
    moved = shapes.given + shapes.made + shapes.weights
    levels = rates.activation_levels
    place = np.minimum(np.searchsorted(rates.sizes[levels], moved), len(levels) - 1)
    return moved / rates.bandwidths[levels[place]]


def operator_keys(kind: str, name: str, inside: str) -> list[str]:
    """Keys of `Calibration.operators` for an operator of this class and name, the narrowest first.

    `inside` names the region that it runs in, one operator after the other; empty for none.
    """
    plain = f"{kind}.{name}"
    return [f"{plain} in {inside}", f"{plain} inside"] if inside else [plain]


def _models(
    calibration: Calibration, kind: NDArray[np.int64], shapes: Shapes, works: NDArray[np.bool_]
) -> Iterator[tuple[str, ClassModel, NDArray[np.int64]]]:
    """The class, the model and the rows of each model that has some; of rows that do any work."""
    if not calibration.operators:
        for name, model in calibration.classes.items():
            at = np.flatnonzero((kind == KIND[name]) & works)
            if len(at):
                yield name, model, at
        return
    # One number for each combination of class, name and region.
    combined = (shapes.name * MANY_NAMES + shapes.inside) * len(KINDS) + kind
    for code in np.unique(combined[works]):
        at = np.flatnonzero((combined == code) & works)
        of_class = KINDS[kind[at[0]]]
        keys = operator_keys(of_class, operator_name(shapes.name[at[0]]), operator_name(shapes.inside[at[0]]))
        known = [calibration.operators[key] for key in keys if key in calibration.operators]
        if known or of_class in calibration.classes:
            yield of_class, known[0] if known else calibration.classes[of_class], at


def _learned(
    model: ClassModel, name: str, shapes: Shapes, physical: Physical, many_units: bool
) -> tuple[Matrix, Matrix, Matrix]:
    """log(time / base), octaves beyond the samples, and base; operators of equal sizes are worked out once."""
    if len(physical.compute) < FEWEST_TO_SORT:
        found = features_of(name, shapes, physical, many_units)
        return *evaluator(model).ratio(found), found.base
    sizes = PRODUCT_SIZES if many_units else OPERATOR_SIZES
    columns = np.stack([*(getattr(shapes, size) for size in sizes), physical.compute, physical.memory])
    # A random projection names each set of sizes by one number; equal sizes have equal numbers.
    weights = np.random.default_rng(0).random(len(columns)) / np.maximum(columns.max(axis=1), 1e-300)
    sample = np.random.default_rng(1).integers(0, columns.shape[1], min(columns.shape[1], 8 * FEWEST_TO_SORT))
    if len(np.unique(weights @ columns[:, sample])) > MOSTLY_DIFFERENT * len(np.unique(sample)):
        found = features_of(name, shapes, physical, many_units)
        return *evaluator(model).ratio(found), found.base
    key = weights @ columns
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    part = Physical(
        physical.compute[first], physical.memory[first], physical.overhead[first], physical.units, physical.bytes_per_s
    )
    found = features_of(name, shapes.take(first), part, many_units)
    log_ratio, beyond = evaluator(model).ratio(found)
    return log_ratio[back], beyond[back], found.base[back]


def scaled_kind(m: Matrix) -> NDArray[np.int64]:
    """The class whose factor of whole networks a row takes: its own, or `scan` for the steps inside a scan's region,
    which are issued in a tight loop and start faster than others."""
    kind = m[:, C["kind"]].astype(np.int64)
    inside = np.flatnonzero((m[:, C["region"]] > 0) & (m[:, C["is_summary"]] == 0))
    if len(inside):
        scans = [intern_name(name) for name in SCAN_REGIONS]
        kind[inside[np.isin(m[inside, C["region_kind"]], scans)]] = KIND["scan"]
    return kind


def scale_whole(f: Fitted, profile: Profile, kind: NDArray[np.int64], overhead: Matrix) -> None:
    """Factors that runs of whole networks gave, and the seconds that regions and (on its first operator) a run add."""
    assert profile.calibration is not None
    scales = profile.calibration.whole
    if scales is None or not len(kind):
        return
    factor, starts = (
        np.array([by_class.get(name, 1.0) for name in KINDS])[kind] for by_class in (scales.classes, scales.launches)
    )
    launch = np.minimum(overhead, f.expected)
    expected = np.maximum(launch * starts + (f.expected - launch) * factor + f.added, f.floor)
    change = expected / np.maximum(f.expected, 1e-15)
    f.high, f.low = f.high * change, np.maximum(f.low * change, f.floor)
    expected[0] += scales.run_s
    f.high[0] += scales.run_s
    f.high = np.minimum(f.high, np.maximum(expected * np.exp(scales.high), expected)) if scales.n else f.high
    f.low = np.clip(expected * np.exp(min(scales.low, 0.0)), f.floor, None) if scales.n else f.low
    f.expected = expected
    f.extrapolated &= ~np.isin(kind, [KIND[name] for name in scales.classes])
