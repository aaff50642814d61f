"""Every mistake in a space file and the exact message it gives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from space import NameUnknown, SearchSpace, SpaceError, Vocabulary, all_blocks

FOLDER = Path(__file__).parent / "wrong"
FILES = sorted(FOLDER.glob("*.yaml"))
METRICS = {"digits": ("accuracy", "loss"), "byte_text": ("bits_per_byte", "loss")}
all_blocks()


def vocabulary() -> Vocabulary:
    """What the rooms above would know: three devices, four strategies, two tasks."""

    def task(spec: Any, declared: dict[str, Any], folder: Path) -> tuple[str, ...]:
        if spec not in METRICS:
            raise NameUnknown("task", str(spec), METRICS)
        return METRICS[spec]

    return Vocabulary(("h100-sxm", "stm32f746", "x86-core"), ("grid", "nsga2", "random", "tpe"), task)


def test_there_are_enough() -> None:
    assert len(FILES) >= 45
    assert {p.stem for p in FILES} == {p.stem for p in FOLDER.glob("*.expected")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_message(path: Path, calls_at_most: Callable[[int], AbstractContextManager[None]]) -> None:
    known = vocabulary()
    with calls_at_most(1_000_000), pytest.raises(SpaceError) as caught:
        SearchSpace.from_file(path, known)
    told = str(caught.value).replace(f"{FOLDER}/", "")
    assert told + "\n" == path.with_suffix(".expected").read_text(encoding="utf-8")


def test_several_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    with pytest.raises(SpaceError) as caught:
        SearchSpace.from_file(FOLDER / "many_mistakes.yaml", vocabulary())
    places = [(p.line, p.column) for p in caught.value.problems]
    assert len(places) >= 10
    assert places == sorted(places)


def test_a_flood_of_mistakes_is_cut(calls_at_most: Callable[[int], AbstractContextManager[None]]) -> None:
    text = "".join(f"key_{i}: 1\n" for i in range(5000))
    with calls_at_most(500_000), pytest.raises(SpaceError, match="the first 100 mistakes") as caught:
        SearchSpace.from_text(text)
    assert len(caught.value.problems) == 100


def test_what_the_rooms_above_know_is_only_checked_when_given() -> None:
    text = (FOLDER / "base" / "good.yaml").read_text() + "task: nonsense\nsearch: {strategy: nonsense}\n"
    assert SearchSpace.from_text(text, vocabulary=Vocabulary()).task == "nonsense"
