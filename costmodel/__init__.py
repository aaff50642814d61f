"""What an architecture costs on real hardware, without running it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from costmodel.architecture_cost import Cost, HardwareCost, cost, peak_over_time
    from costmodel.blocks import clear_cache, node_table
    from costmodel.describe import describe_profile, describe_profiles
    from costmodel.energy import Operations, operation_energy, operations
    from costmodel.growth import growth_of, growth_text
    from costmodel.hardware import Profile, hardware_names, load_profile
    from costmodel.memory_plan import PlanOptions
    from costmodel.papers import paper_features
    from costmodel.precision import Precision
    from costmodel.pricing import Priced, price
    from costmodel.record import PHASES, trace_module
    from costmodel.screening import Screen, Screened
    from costmodel.table import OperatorTable, peak_activation_bytes
    from costmodel.views import VIEWS, view

_HOME = {
    "Cost": "costmodel.architecture_cost",
    "HardwareCost": "costmodel.architecture_cost",
    "OperatorTable": "costmodel.table",
    "Operations": "costmodel.energy",
    "PlanOptions": "costmodel.memory_plan",
    "Precision": "costmodel.precision",
    "VIEWS": "costmodel.views",
    "PHASES": "costmodel.record",
    "Priced": "costmodel.pricing",
    "Profile": "costmodel.hardware",
    "Screen": "costmodel.screening",
    "Screened": "costmodel.screening",
    "clear_cache": "costmodel.blocks",
    "describe_profile": "costmodel.describe",
    "describe_profiles": "costmodel.describe",
    "cost": "costmodel.architecture_cost",
    "operation_energy": "costmodel.energy",
    "operations": "costmodel.energy",
    "paper_features": "costmodel.papers",
    "view": "costmodel.views",
    "growth_of": "costmodel.growth",
    "growth_text": "costmodel.growth",
    "hardware_names": "costmodel.hardware",
    "load_profile": "costmodel.hardware",
    "node_table": "costmodel.blocks",
    "peak_activation_bytes": "costmodel.table",
    "peak_over_time": "costmodel.architecture_cost",
    "price": "costmodel.pricing",
    "trace_module": "costmodel.record",
}

__all__ = [
    "PHASES",
    "VIEWS",
    "Cost",
    "HardwareCost",
    "Operations",
    "OperatorTable",
    "PlanOptions",
    "Precision",
    "Priced",
    "Profile",
    "Screen",
    "Screened",
    "clear_cache",
    "cost",
    "describe_profile",
    "describe_profiles",
    "growth_of",
    "growth_text",
    "hardware_names",
    "load_profile",
    "node_table",
    "operation_energy",
    "operations",
    "paper_features",
    "peak_activation_bytes",
    "peak_over_time",
    "price",
    "trace_module",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'costmodel' has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = found
    return found
