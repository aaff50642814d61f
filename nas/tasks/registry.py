"""The one list of tasks: filled by defining classes, read by everything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from space import InputError, OptionError, did_you_mean
from space.kinds import Kinds

if TYPE_CHECKING:
    from nas.tasks.base import Task

tasks: Kinds[Task] = Kinds("task", "nas.tasks")
all_tasks = tasks.all


def task_names() -> list[str]:
    """Names of every task."""
    return list(all_tasks())


def make_task(spec: Any, declared: Mapping[str, Any], base: Path | None = None) -> Task:
    """The task that a space file's `task:` names: `digits`, `{digits: {options}}` or `{text_file: path}`.

    `declared` is the document's `input`; relative paths start at `base` (the space file's folder). Raises InputError.
    """
    if isinstance(spec, str):
        return _make(spec, {}, declared, base)
    if not isinstance(spec, Mapping) or len(spec) != 1:
        raise InputError(f"expected a task's name, or {{name: {{options}}}}; got {spec!r}")
    ((kind, value),) = spec.items()
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        shorthand = tasks.get(kind).shorthand
        if shorthand is None:
            raise InputError(f"task {kind}: expected a mapping of options; got {value!r}")
        value = {shorthand: value}
    return _make(kind, value, declared, base)


def restore_task(reference: Mapping[str, Any], declared: Mapping[str, Any]) -> Task:
    """The task of a job, from its `reference` (`{"name", "options"}`). Raises InputError."""
    return _make(reference["name"], reference.get("options") or {}, declared, None)


def describe() -> list[dict[str, Any]]:
    """One JSON-able row a task: kind, summary, input, head, metrics, primary, options."""
    from nas.tasks.base import DIRECTIONS

    rows = []
    for kind, cls in all_tasks().items():
        options = [
            {
                "name": name,
                "default": None if field.is_required() else field.default,
                "required": field.is_required(),
                "description": field.description or "",
            }
            for name, field in cls.Options.model_fields.items()
        ]
        rows.append(
            {
                "kind": kind,
                "summary": (cls.__doc__ or "").strip().split("\n")[0],
                "input": dict(cls.accepts),
                "head": cls.head,
                "metrics": {name: DIRECTIONS[name] for name in cls.metrics},
                "primary": cls.metrics[0],
                "options": options,
            }
        )
    return rows


def _make(kind: str, raw: Mapping[str, Any], declared: Mapping[str, Any], base: Path | None) -> Task:
    cls = tasks.get(kind)
    try:
        options = cls.Options.model_validate(dict(raw))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = str(detail["loc"][0]) if detail["loc"] else ""
        known = list(cls.Options.model_fields)
        if detail["type"] == "extra_forbidden":
            listing = ", ".join(known) or "it takes none"
            message = f"task {kind}: unknown option {name!r}{did_you_mean(name, known)}; known: {listing}"
        elif detail["type"] == "missing":
            message = f"task {kind}: the option {name!r} is missing (write `{kind}: {{{name}: ...}}`)"
        else:
            message = f"task {kind}: option {name}: {detail['msg'].lower()}; got {detail['input']!r}"
        raise OptionError(message, name) from None
    return cls(options, declared, base)
