"""Selective copying and recall: each example is solved by reading it, and by nothing less."""

from __future__ import annotations

import numpy as np
import pytest

from nas.tasks import IGNORE, make_task
from nas.tasks.generated import part_of_rows
from space import InputError


def tokens(vocab: int, length: int) -> dict:
    return {"kind": "tokens", "vocab": vocab, "length": length, "causal": True}


def test_copying_answers_are_the_data_tokens_in_order() -> None:
    task = make_task({"selective_copying": {"tokens": 5}}, tokens(12, 40))
    x, y = next(task.batches("train", 64))
    for inputs, targets in zip(x, y, strict=True):
        assert (inputs[-5:] == 1).all()
        assert (inputs[:-5] != 1).all()
        assert (targets[:-5] == IGNORE).all()
        assert targets[-5:].tolist() == [token for token in inputs.tolist() if token >= 2]
    places = np.argwhere(x[:, :-5] > 1)[:, 1]
    assert set(places) == set(range(35))


def test_recall_answers_are_the_values_of_the_keys() -> None:
    task = make_task({"in_context_recall": {"pairs": 6}}, tokens(16, 30))
    x, y = next(task.batches("train", 64))
    for inputs, targets in zip(x.tolist(), y.tolist(), strict=True):
        table = dict(zip(inputs[:12:2], inputs[1:12:2], strict=True))
        assert len(table) == 6
        assert targets[:12] == [IGNORE] * 12
        assert targets[12:] == [table[key] for key in inputs[12:]]
        assert max(table) < 8 <= min(table.values())


def test_pairs_follow_the_length_and_the_vocabulary() -> None:
    assert make_task("in_context_recall", tokens(32, 64)).pairs == 8
    assert make_task("in_context_recall", tokens(8, 64)).pairs == 4
    assert make_task("in_context_recall", tokens(8, 5)).pairs == 1


@pytest.mark.parametrize(
    ("spec", "declared", "message"),
    [
        ({"selective_copying": {"tokens": 9}}, tokens(16, 17), "needs a length of at least 18; got 17"),
        ("selective_copying", tokens(3, 64), "a vocab of at least 4; got 3"),
        ({"in_context_recall": {"pairs": 9}}, tokens(16, 64), "need a vocab of at least 18; got 16"),
        ({"in_context_recall": {"pairs": 8}}, tokens(16, 16), "need a length of at least 17; got 16"),
    ],
)
def test_sizes_that_cannot_be_are_refused(spec: dict, declared: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(spec, declared)


def test_too_few_different_sequences_is_said() -> None:
    task = make_task({"selective_copying": {"tokens": 1}}, tokens(4, 2))
    with pytest.raises(InputError, match=r"too few different sequences for a (validation|test) part"):
        task.prepare()


def test_parts_take_their_share() -> None:
    x = np.random.default_rng(0).integers(0, 16, (20_000, 12))
    share = np.bincount(part_of_rows(x)) / len(x)
    assert share == pytest.approx([0.75, 0.125, 0.125], abs=0.01)
