"""The space room: the YAML language, architectures, blocks, and building a module."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Architecture": "architecture",
    "build": "architecture",
    "canonical_json": "architecture",
    "shape_of_input": "architecture",
    "Automaton": "automaton",
    "Block": "block",
    "BlockOptions": "block",
    "BlockSlot": "block",
    "ChannelSlot": "block",
    "MixerSlot": "block",
    "NormSlot": "block",
    "infer_shape": "block",
    "instantiate": "block",
    "parse_node": "block",
    "walk_nodes": "block",
    "all_blocks": "registry",
    "grow_tokens": "grow",
    "load_plugin": "registry",
    "papers": "paper_index",
    "shipped_file": "shipped",
    "shipped_files": "shipped",
    "executed": "fused",
    "executed_share": "fused",
    "recording": "fused",
    "deploy": "deployment",
    "deployed_node": "deployment",
    "Shape": "shape",
    "SearchSpace": "search_space",
    "Vocabulary": "search_space",
    "load_space": "search_space",
    "Constraint": "measures",
    "Measure": "measures",
    "Objective": "measures",
    "parse_constraint": "measures",
    "parse_measure": "measures",
    "YamlNode": "yaml_loader",
    "load_yaml": "yaml_loader",
    "load_yaml_file": "yaml_loader",
    "parse_quantity": "yaml_loader",
    "mixes_positions": "mixing",
    "unmixed_share": "mixing",
    "SearchSettings": "settings",
    "TrainingSettings": "settings",
    "space_schema": "schema",
    "architecture_graph": "graph",
    "BlockwrightError": "errors",
    "Diverged": "errors",
    "EvaluationError": "errors",
    "ExportError": "errors",
    "InputError": "errors",
    "LimitExceeded": "errors",
    "NameUnknown": "errors",
    "NotUnrolled": "errors",
    "OptionError": "errors",
    "Problem": "errors",
    "ShapeError": "errors",
    "SpaceError": "errors",
    "StoreError": "errors",
    "StudyLocked": "errors",
    "did_you_mean": "errors",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'space' has no attribute {name!r}")
    return getattr(importlib.import_module(f"space.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return __all__
