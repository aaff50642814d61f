"""Checking one option of a block, and saying in a few words what it wants."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from space.block import Block
from space.errors import did_you_mean

_adapters: dict[tuple[type, str], TypeAdapter] = {}


def adapter(cls: type[Block], option: str) -> TypeAdapter:
    """The validator of one option of a block."""
    key = (cls.Options, option)
    if key not in _adapters:
        field: FieldInfo = cls.Options.model_fields[option]
        annotation: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        _adapters[key] = TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))
    return _adapters[key]


_EXPECTED = {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "dict_type": "a mapping",
    "none_required": "nothing",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def expected(error: ValidationError) -> str:
    """What a pydantic error asked for, in a few words."""
    parts = []
    for detail in error.errors(include_url=False):
        kind, context = detail["type"], detail.get("ctx", {})
        if kind in _BOUNDS:
            sign, key = _BOUNDS[kind]
            parts.append(f"{sign} {_plainly(context[key])}")
        elif kind == "literal_error":
            options = re.findall(r"'([^']*)'", context["expected"])
            parts.append(f"one of {context['expected']}{did_you_mean(str(detail.get('input')), options)}")
        else:
            parts.append(_EXPECTED.get(kind, detail["msg"][:1].lower() + detail["msg"][1:]))
    return " or ".join(dict.fromkeys(parts))


def _plainly(bound: Any) -> str:
    return str(int(bound)) if isinstance(bound, float) and bound.is_integer() else str(bound)
