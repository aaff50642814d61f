"""JSON Schema of a space file, for editors: every block with its options, choices wherever a value stands."""

from __future__ import annotations

import inspect
from typing import Any

from space.architecture import FORMAT
from space.block import Block, Role, Slot
from space.inputs import INPUT_KINDS
from space.measures import DIMENSIONS, ON_DEVICE, TASK_METRICS
from space.registry import all_blocks
from space.search_space import Vocabulary
from space.settings import SearchSettings, Settings, TrainingSettings

Schema = dict[str, Any]
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE: Schema = {
    "type": "string",
    "pattern": rf"^\${_NAME}$",
    "description": "a name of `choices` or `definitions`",
}
_ARITHMETIC: Schema = {"type": "string", "pattern": r"^\$\{.*\}$", "description": "arithmetic on named choices"}


def space_schema(vocabulary: Vocabulary | None = None) -> Schema:
    """JSON Schema (2020-12) of a space file.

    It knows every registered block, its options with bounds and defaults, and the settings; what depends on shapes is
    for `nas check` to say. `vocabulary` adds the strategies and the devices that the rooms above know.
    """
    vocabulary = vocabulary or Vocabulary()
    kinds = all_blocks()
    roles = {slot.roles for cls in kinds.values() for slot in cls.slots.values()} | {()}
    defs: Schema = {"reference": _REFERENCE, "arithmetic": _ARITHMETIC, "value": {}}
    for held in sorted(roles):
        defs[_slot_name(held)] = _block(kinds, held)
    for kind, cls in kinds.items():
        defs[f"block.{kind}"] = _options(cls)
    settings = {"search": _settings(SearchSettings), "training": _settings(TrainingSettings)}
    if vocabulary.strategies is not None:
        settings["search"]["properties"]["strategy"]["enum"] = list(vocabulary.strategies)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Blockwright space",
        "type": "object",
        "additionalProperties": False,
        "anyOf": [{"required": ["input", "architecture"]}, {"required": ["extends"]}],
        "properties": {
            "blockwright": {"const": FORMAT, "description": "format of the document"},
            "name": {"type": "string", "minLength": 1, "maxLength": 100, "description": "name of the study"},
            "paper": {
                "type": ["string", "array"],
                "items": {"type": "string"},
                "description": "catalogue ids of the papers it is from",
            },
            "extends": {"type": "string", "description": "a preset or another file to start from"},
            "overrides": {"type": "object", "description": "path -> value, put into what `extends` gives"},
            "input": _input(),
            "task": {"type": ["string", "object"], "description": "what is learned (`nas tasks` lists them)"},
            "choices": _named("named choices: one pick each, the same wherever `$name` stands"),
            "definitions": _named("named fragments: `$name` pastes one, and each use picks anew"),
            "architecture": {"$ref": f"#/$defs/{_slot_name(())}", "description": "the network"},
            "objectives": _objectives(vocabulary.hardware or ()),
            "constraints": {
                "type": ["array", "null"],
                "items": {"type": "string", "pattern": "[<>]"},
                "description": "such as `params <= 200K` or `count(attention) <= 2`",
            },
            **settings,
        },
        "$defs": defs,
    }


def _slot_name(roles: tuple[Role, ...]) -> str:
    return "block" if not roles else f"block of {' or '.join(roles)}"


def _block(kinds: dict[str, type[Block]], roles: tuple[Role, ...]) -> Schema:
    """A block for a slot that takes these roles (empty: any), or a choice of such."""
    taken = {*roles, "topology"} if "norm" not in roles else {"norm"}
    fitting = {kind: cls for kind, cls in kinds.items() if not roles or cls.role in taken or kind == "identity"}
    bare = [
        kind for kind, cls in fitting.items() if not any(f.is_required() for f in cls.Options.model_fields.values())
    ]
    own = f"#/$defs/{_slot_name(roles)}"
    body = {
        kind: {"$ref": f"#/$defs/block.{kind}", "description": inspect.getdoc(cls)} for kind, cls in fitting.items()
    }
    return {
        "anyOf": [
            {"enum": bare},
            {"type": "null"},
            {"$ref": "#/$defs/reference"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": {"choice": {"type": "array", "minItems": 1, "items": {"$ref": own}}, **body},
            },
        ]
    }


def _options(cls: type[Block]) -> Schema:
    """The options of one block, or what stands for them."""
    plain = cls.Options.model_json_schema().get("properties", {})
    required = [name for name, held in cls.Options.model_fields.items() if held.is_required()]
    properties = {
        name: _slot(cls.slots[name], plain[name]) if name in cls.slots else _option(plain[name]) for name in plain
    }
    forms: list[Schema] = [
        {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
    ]
    if not required:
        forms.append({"type": "null"})
    if cls.shorthand:
        forms.append(properties[cls.shorthand])
    return {"description": inspect.getdoc(cls), **(forms[0] if len(forms) == 1 else {"anyOf": forms})}


def _slot(slot: Slot, plain: Schema) -> Schema:
    held: Schema = {"$ref": f"#/$defs/{_slot_name(slot.roles)}"}
    told = {"description": plain["description"]} if "description" in plain else {}
    return {**told, "type": "array", "minItems": 1, "items": held} if slot.many else {**told, **held}


def _option(plain: Schema) -> Schema:
    """A value of an option, or a choice, a range, a name or arithmetic that gives one."""
    told: Schema = {key: plain[key] for key in ("description", "default") if key in plain}
    bare = {key: value for key, value in plain.items() if key not in ("description", "default", "title")}
    return {**told, **_chosen(bare)}


def _chosen(bare: Schema) -> Schema:
    types = {part.get("type") for part in bare.get("anyOf", [bare])}
    forms: list[Schema] = [bare, {"$ref": "#/$defs/reference"}]
    if types & {"integer", "number"}:
        forms.append({"$ref": "#/$defs/arithmetic"})
    if "array" in types:
        forms.append({"type": "array"})
    nested = {"anyOf": [bare, {"type": "object"}, {"type": "string", "pattern": r"^\$"}]}
    forms.append(_form({"choice": {"type": "array", "minItems": 1, "items": nested}}, "choice"))
    if types & {"integer", "number"}:
        forms += _ranges()
    return {"anyOf": forms}


def _ranges() -> list[Schema]:
    ends = {"type": "array", "minItems": 2, "maxItems": 2}
    step, log = {"type": "integer", "minimum": 1}, {"type": "boolean"}
    return [
        _form({"int": {**ends, "items": {"type": "integer"}}, "step": step, "log": log}, "int"),
        _form({"float": {**ends, "items": {"type": "number"}}, "log": log}, "float"),
    ]


def _form(properties: Schema, required: str) -> Schema:
    return {"type": "object", "additionalProperties": False, "required": [required], "properties": properties}


def _named(description: str) -> Schema:
    names = {"type": ["object", "null"], "additionalProperties": False, "patternProperties": {f"^{_NAME}$": {}}}
    return {**names, "description": description}


def _settings(model: type[Settings]) -> Schema:
    made = model.model_json_schema()
    for held in made["properties"].values():
        held.pop("title", None)
    return {"type": ["object", "null"], "additionalProperties": False, "properties": made["properties"]}


def _input() -> Schema:
    size = {"type": "integer", "minimum": 1}
    fields: Schema = {
        "vocab": {**size, "description": "number of different tokens"},
        "channels": {**size, "description": "values a position"},
        "length": {**size, "description": "positions"},
        "causal": {"type": "boolean", "description": "a position may depend on earlier ones only"},
    }
    forms = []
    for kind, told in INPUT_KINDS.items():
        names = [form.split(":")[0] for form in told]
        if "shape" in names:
            axes = told[0].split("[")[1].rstrip("]")
            count = axes.count(",") + 1
            fields["shape"] = {
                "type": "array",
                "items": size,
                "minItems": count,
                "maxItems": count,
                "description": axes,
            }
        forms.append(
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["kind", *(name for name in names if name != "causal")],
                "properties": {"kind": {"const": kind}, **{name: fields[name] for name in names}},
            }
        )
    return {"anyOf": forms, "description": "what goes into the network"}


def _objectives(hardware: tuple[str, ...]) -> Schema:
    direction = {"enum": ["max", "min"]}
    known = [*TASK_METRICS, *(name for name in DIMENSIONS if name not in ON_DEVICE)]
    known += [f"{name}@{device}" for name in ON_DEVICE for device in hardware]
    return {
        "type": ["object", "null"],
        "properties": dict.fromkeys(known, direction),
        "additionalProperties": direction,
        "description": "measure -> max or min",
    }
