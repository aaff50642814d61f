"""What leaves a value open: choices, ranges, and arithmetic on named choices."""

from __future__ import annotations

import json
import math
from typing import Any

from space.errors import InputError, did_you_mean
from space.expression import parse_expression
from space.naming import Names
from space.spec import BlockOf, Choice, Computed, Domain, Pick, Range, Spec, possible_values
from space.yaml_loader import YamlNode, short

_RANGE_KEYS = {"int": {"int", "step", "log"}, "float": {"float", "log"}}
_CHOICE_LIMIT = 1000
_RANGE_LIMIT = 100_000


class Choosing(Names):
    """The part of the compiler that reads `choice`, `int`, `float` and `${...}`."""

    def _choice(self, node: YamlNode, path: str, compile_one: Any) -> Spec | None:
        extra = sorted(set(node.value) - {"choice"})
        listed = node.value["choice"]
        if extra:
            self._report(
                node.key_marks[extra[0]], f"{path}.{extra[0]}", f"`choice` stands alone; got {extra[0]!r} beside it"
            )
            return None
        if not listed.is_list or not listed.value:
            self._report(
                listed.mark,
                f"{path}.choice",
                f"expected a list with at least one entry; got {'an empty list' if listed.is_list else listed.describe()}",
            )
            return None
        if len(listed.value) > _CHOICE_LIMIT:
            self._report(
                listed.mark,
                f"{path}.choice",
                f"at most {_CHOICE_LIMIT} entries; got {len(listed.value)} (use `int` or `float`)",
            )
            return None
        labels = _labels(listed.value)
        failed = False
        for i, label in enumerate(labels):
            told = ""
            if isinstance(label, float) and not math.isfinite(label):
                told = f"expected a finite number; got {label!r}"
            elif any(label == other and isinstance(label, bool) == isinstance(other, bool) for other in labels[:i]):
                told = f"{short(label)} stands twice in one choice; keep one"
            if told:
                self._report(listed.value[i].mark, f"{path}.choice[{i}]", told)
                failed = True
        kinds = [
            entry.value if isinstance(entry.value, str) else next(iter(entry.value), "") if entry.is_map else ""
            for entry in listed.value
        ]
        specs = []
        for i, entry in enumerate(listed.value):
            inner = (
                path
                if kinds.count(kinds[i]) == 1 and entry.is_map and kinds[i] not in ("choice", "int", "float")
                else f"{path}.choice[{i}]"
            )
            specs.append(compile_one(entry, inner))
        if failed or any(s is None for s in specs):
            return None
        return Choice(path, node.mark, path, tuple(specs), labels)

    def _range(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        kind = "int" if "int" in node.value else "float"
        for key in sorted(set(node.value) - _RANGE_KEYS[kind]):
            near = did_you_mean(key, _RANGE_KEYS[kind])
            told = f"`{kind}` takes {', '.join(sorted(_RANGE_KEYS[kind] - {kind}))} beside it; got {key!r}{near}"
            self._report(node.key_marks[key], f"{path}.{key}", told)
            return None
        ends = node.value[kind]
        number = int if kind == "int" else (int, float)
        plain = ends.plain()
        form = f"[low, high], two {'integers' if kind == 'int' else 'numbers'}"
        if not (
            isinstance(plain, list) and len(plain) == 2 and all(_is_number(e) and isinstance(e, number) for e in plain)
        ):
            self._report(
                ends.mark,
                f"{path}.{kind}",
                f"expected {form}; got {ends.describe() if not ends.is_list else short(plain)}",
            )
            return None
        low, high = plain
        if low > high:
            self._report(ends.mark, f"{path}.{kind}", f"the low end {low} is above the high end {high}; swap them")
            return None
        step = node.value["step"].value if "step" in node.value else 1
        log = node.value["log"].value if "log" in node.value else False
        if not isinstance(step, int) or isinstance(step, bool) or step < 1:
            self._report(
                node.value["step"].mark, f"{path}.step", f"expected an integer of at least 1; got {short(step)}"
            )
            return None
        if not isinstance(log, bool):
            self._report(node.value["log"].mark, f"{path}.log", f"expected true or false; got {short(log)}")
            return None
        if log and (low <= 0 or step != 1):
            self._report(node.mark, path, "`log: true` needs a low end above 0 and no step")
            return None
        if not (fits(ends.value[0], f"{path}.{kind}[0]", low) and fits(ends.value[1], f"{path}.{kind}[1]", high)):
            return None
        if kind == "int":
            high = low + (high - low) // step * step
            if (high - low) // step >= _RANGE_LIMIT:
                told = f"a range of more than {_RANGE_LIMIT:,} integers; narrow it or give a `step`"
                self._report(ends.mark, f"{path}.{kind}", told)
                return None
        return Range(path, node.mark, path, Domain(kind, (), low, high, step, log))

    def _computed(self, node: YamlNode, path: str, fits: Any) -> Spec | None:
        text = node.value
        if not text.endswith("}"):
            self._report(node.mark, path, f"expected `${{...}}` to end with a brace; got {text!r}")
            return None
        try:
            expression = parse_expression(text[2:-1])
        except InputError as error:
            self._report(node.mark, path, str(error))
            return None
        names: dict[str, Spec] = {}
        for name in expression.names:
            spec = self._named_choice(name, node.mark, path)
            if spec is None:
                return None
            if not all(_is_number(v) for v in possible_values(spec, 64)):
                self._report(
                    node.mark, path, f"expected `{name}` to be a choice of numbers, as ${{{expression.text}}} needs"
                )
                return None
            names[name] = spec
        made = Computed(path, node.mark, expression, names)
        return made if self._some_fit(made, node, path, fits) else None

    def _some_fit(self, spec: Spec, node: YamlNode, path: str, fits: Any) -> bool:
        """True unless none of the possible values fits the option; then the first one's reason is reported."""
        if isinstance(spec, BlockOf) or (
            isinstance(spec, Choice) and any(isinstance(a, BlockOf) for a in spec.alternatives)
        ):
            self._report(node.mark, path, f"expected a value; `{node.value}` is a block")
            return False
        try:
            values = possible_values(spec, 256)
        except InputError as error:
            self._report(node.mark, path, str(error))
            return False
        before = len(self.problems)
        for value in values:
            if fits(node, path, value):
                del self.problems[before:]
                return True
            del self.problems[before + 1 :]
        return False


def _labels(entries: list[YamlNode]) -> tuple[Pick, ...]:
    names: list[Pick] = []
    for entry in entries:
        value = entry.value
        if entry.is_map:
            names.append(next(iter(value), "{}"))
        elif entry.is_list:
            names.append(json.dumps(entry.plain()))
        else:
            names.append("identity" if value is None and any(e.is_map for e in entries) else value)
    out: list[Pick] = []
    for i, (name, entry) in enumerate(zip(names, entries, strict=True)):
        ambiguous = entry.is_map and names.count(name) > 1
        out.append(f"{name}#{names[:i].count(name) + 1}" if ambiguous else name)
    return tuple(out)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
