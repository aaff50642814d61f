"""`extends:` and `overrides:`: a file that starts from another one."""

from __future__ import annotations

import re
from pathlib import Path

from space.errors import Problem, SpaceError, did_you_mean
from space.shipped import PRESETS, shipped_file, shipped_files
from space.yaml_loader import YamlNode, load_yaml_file, short

__all__ = ["PRESETS", "extend"]
_MERGED = ("choices", "definitions", "search", "training")
_STEP = re.compile(r"\.?([A-Za-z_@][\w@-]*)|\[(\d+)\]")
_MOST = 8


def extend(node: YamlNode, path: Path, problems: list[Problem], seen: tuple[str, ...] = ()) -> YamlNode:
    """The file with its base filled in: a section of its own replaces the base's, names and settings are merged."""
    base_node, overrides = node.value.get("extends"), node.value.get("overrides")
    own = {k: v for k, v in node.value.items() if k not in ("extends", "overrides")}
    if base_node is None:
        if overrides is not None:
            problems.append(
                overrides.mark.problem("overrides", "`overrides` needs `extends`; write the value in its place")
            )
        return YamlNode(own, node.mark, node.key_marks)
    if not isinstance(base_node.value, str):
        told = f"expected the name of a preset or a file; got {base_node.describe()}"
        raise SpaceError([*problems, base_node.mark.problem("extends", told)])
    base_path = _find(base_node, path)
    key = str(base_path.resolve())
    if key in seen or len(seen) >= _MOST:
        told = (
            f"`extends` goes in a circle ({base_node.value})"
            if key in seen
            else f"at most {_MOST} files extend one another"
        )
        raise SpaceError([*problems, base_node.mark.problem("extends", told)])
    base = load_yaml_file(base_path)
    if not base.is_map:
        raise SpaceError([base.mark.problem("", f"expected a mapping; got {base.describe()}")])
    base = extend(base, base_path, problems, (*seen, key))
    merged, marks = dict(base.value), {**base.key_marks, **node.key_marks}
    for name, section in own.items():
        held = merged.get(name)
        if name in _MERGED and held is not None and held.is_map and section.is_map:
            merged[name] = YamlNode(held.value | section.value, section.mark, held.key_marks | section.key_marks)
        else:
            merged[name] = section
    whole = YamlNode(merged, node.mark, marks)
    if overrides is not None:
        if not overrides.is_map:
            problems.append(
                overrides.mark.problem("overrides", f"expected a mapping of paths; got {overrides.describe()}")
            )
        else:
            for place, value in overrides.value.items():
                whole = _override(whole, place, value, overrides, problems)
    return whole


def _find(base_node: YamlNode, path: Path) -> Path:
    name = base_node.value
    beside = path.parent / name
    try:
        if beside.is_file():
            return beside
    except OSError as error:
        told = f"the file {short(name)} can't be read: {error.strerror or error}"
        raise SpaceError([base_node.mark.problem("extends", told)]) from None
    shipped = shipped_file(name)
    if shipped is not None:
        return shipped
    known = [stem for _, stem, _ in shipped_files()]
    told = f"no file {short(name)} beside this one, and no preset or space of that name{did_you_mean(name, known)}"
    raise SpaceError([base_node.mark.problem("extends", told)])


def _override(whole: YamlNode, place: str, value: YamlNode, section: YamlNode, problems: list[Problem]) -> YamlNode:
    steps = [name or int(index) for name, index in _STEP.findall(place)]
    if not steps or "".join(m[0] for m in _STEP.finditer(place)) != place:
        told = f"expected a path like architecture.sequence[1].repeat.times; got {short(place)}"
        problems.append(section.key_marks[place].problem("overrides", told))
        return whole

    def put(node: YamlNode, rest: list[str | int], done: str) -> YamlNode:
        if not rest:
            return value
        step = rest[0]
        if isinstance(step, int):
            if node.is_list and step < len(node.value):
                items = list(node.value)
                items[step] = put(items[step], rest[1:], f"{done}[{step}]")
                return YamlNode(items, node.mark)
            size = f"a list of {len(node.value)}" if node.is_list else node.describe()
            told = f"no entry [{step}] at {done.removeprefix('.')}, which is {size}"
        elif node.is_map and (step in node.value or len(rest) == 1):
            inner = put(node.value[step], rest[1:], f"{done}.{step}") if step in node.value else value
            return YamlNode(node.value | {step: inner}, node.mark, {step: value.mark} | node.key_marks)
        elif node.value is None and len(rest) == 1:
            return YamlNode({step: value}, node.mark, {step: value.mark})
        else:
            known = list(node.value) if node.is_map else []
            place_name = done.removeprefix(".") or "the top"
            told = (
                f"no {step!r} at {place_name}{did_you_mean(step, known)}; there: {', '.join(known) or node.describe()}"
            )
        problems.append(section.key_marks[place].problem(f"overrides.{place}", told))
        return node

    return put(whole, list(steps), "")
