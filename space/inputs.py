"""The `input:` section."""

from __future__ import annotations

from typing import Any

from space.errors import Problem, did_you_mean
from space.yaml_loader import YamlNode, short

INPUT_KINDS: dict[str, tuple[str, ...]] = {
    "image": ("shape: [channels, height, width]",),
    "tokens": ("vocab: N", "length: N", "causal: true"),
    "series": ("channels: N", "length: N", "causal: false"),
    "video": ("shape: [channels, frames, height, width]",),
}
_LIMIT = 2**24


def check_input(node: YamlNode, problems: list[Problem]) -> dict[str, Any] | None:
    """The canonical `input` of a document; None where it was wrong (and reported)."""
    before = len(problems)

    def report(at: YamlNode, key: str, message: str) -> None:
        problems.append(at.mark.problem(f"input.{key}" if key else "input", message))

    if not node.is_map or "kind" not in node.value:
        report(node, "", f"expected a mapping with `kind:` ({', '.join(INPUT_KINDS)}); got {node.describe()}")
        return None
    kind = node.value["kind"].value
    if not isinstance(kind, str) or kind not in INPUT_KINDS:
        near = did_you_mean(str(kind), INPUT_KINDS)
        what = "unknown input kind" if isinstance(kind, str) else "expected the kind of input; got"
        told = f"{what} {node.value['kind'].describe()}{near}; known: {', '.join(INPUT_KINDS)}"
        report(node.value["kind"], "kind", told)
        return None
    known = {form.split(":")[0] for form in INPUT_KINDS[kind]} | {"kind"}
    for key in node.value:
        if key not in known:
            told = f"unknown key {key!r}{did_you_mean(key, known)}; {kind} takes: {', '.join(INPUT_KINDS[kind])}"
            problems.append(node.key_marks[key].problem(f"input.{key}", told))
    made: dict[str, Any] = {"kind": kind}
    for key in sorted(known - {"kind"}):
        held = node.value.get(key)
        if key == "causal":
            causal = kind == "tokens" if held is None else held.value
            if not isinstance(causal, bool):
                report(held or node, key, f"expected true or false; got {held.describe() if held else ''}")
            made[key] = causal
        elif held is None:
            report(node, key, f"the key {key!r} is missing; {kind} takes: {', '.join(INPUT_KINDS[kind])}")
        elif key == "shape":
            sizes = held.plain()
            form = INPUT_KINDS[kind][0].removeprefix("shape: ")
            count = form.count(",") + 1
            if not (isinstance(sizes, list) and len(sizes) == count and all(_is_size(s) for s in sizes)):
                words = {3: "three", 4: "four"}[count]
                told = f"expected {form}, {words} whole numbers from 1 to {_LIMIT:,}; got {short(sizes)}"
                report(held, key, told)
            made[key] = sizes
        else:
            if not _is_size(held.value):
                report(held, key, f"expected a whole number from 1 to {_LIMIT:,}; got {held.describe()}")
            made[key] = held.value
    return made if len(problems) == before else None


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LIMIT
