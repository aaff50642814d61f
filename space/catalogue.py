"""The blocks as data, for the command line, the docs and the dashboard."""

from __future__ import annotations

import inspect
import json
from typing import Any

from space import registry
from space.block import Block


def describe_blocks() -> list[dict[str, Any]]:
    """`{"kind", "role", "paper", "causal", "decode", "options"}` of every block."""
    return [
        {
            "kind": kind,
            "role": cls.role,
            "paper": ", ".join(cls.papers),
            "causal": cls.causal or any("causal" in child for child in cls.Options.model_fields),
            "decode": has_decode(cls),
            "options": {name: option["type"] for name, option in _options(cls).items()},
        }
        for kind, cls in registry.all_blocks().items()
    ]


def describe_block(kind: str) -> dict[str, Any]:
    """One block in full: text of its documentation, layouts, options, a YAML snippet. Raises NameUnknown."""
    cls = registry.get(kind)
    options = _options(cls)
    required = {name: _example(cls, name) for name, o in options.items() if o["default"] == "required"}
    required |= {name: json.dumps(value) for name, value in cls.example.items()}
    inner = ", ".join(f"{name}: {value}" for name, value in required.items())
    return {
        "kind": kind,
        "role": cls.role,
        "paper": ", ".join(cls.papers),
        "causal": cls.causal,
        "decode": has_decode(cls),
        "layouts": list(cls.layouts),
        "text": inspect.cleandoc(cls.__doc__ or ""),
        "options": options,
        "snippet": f"- {kind}: {{{inner}}}" if inner else f"- {kind}",
    }


def has_decode(cls: type[Block]) -> bool:
    """True where the block can be run one position at a time."""
    return cls.pointwise or cls.step is not Block.step


def _options(cls: type[Block]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, field in cls.Options.model_fields.items():
        default = "required" if field.is_required() else json.dumps(field.get_default(call_default_factory=True))
        found[name] = {"type": _type(cls, name), "default": default, "description": field.description or ""}
    return found


def _type(cls: type[Block], name: str) -> str:
    if name in cls.slots:
        slot = cls.slots[name]
        what = " or ".join(slot.roles) or "any"
        return f"list of {what} blocks" if slot.many else f"{what} block"
    schema = cls.Options.model_json_schema()["properties"][name]
    return " | ".join(_word(part) for part in schema.get("anyOf", [schema]))


def _word(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(json.dumps(v) for v in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    word = {"integer": "int", "number": "float", "boolean": "bool", "string": "text", "null": "null"}.get(
        schema.get("type", ""), schema.get("type", "any")
    )
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is None and high is None:
        return word
    opening = "[" if "minimum" in schema else "("
    closing = "]" if "maximum" in schema else ")"
    return f"{word} in {opening}{low if low is not None else '-inf'}, {high if high is not None else 'inf'}{closing}"


def _example(cls: type[Block], name: str) -> str:
    if name in cls.slots:
        return "[...]" if cls.slots[name].many else "..."
    schema = cls.Options.model_json_schema()["properties"][name]
    return str(schema.get("minimum", 1)) if schema.get("type") in ("integer", "number") else "..."
