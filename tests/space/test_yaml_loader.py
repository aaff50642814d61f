"""The strict loader: YAML 1.2 scalars, places, refusals, and nothing but SpaceError for any input."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from space import InputError, SpaceError, load_yaml, load_yaml_file, parse_quantity
from space.yaml_loader import MAX_BYTES, MAX_DEPTH, dump_yaml

SCALARS = {
    "1e-3": 0.001,
    "off": "off",
    "no": "no",
    "yes": "yes",
    "2:4": "2:4",
    "1:30:00": "1:30:00",
    "010": 10,
    "0o17": 15,
    "0x1F": 31,
    "1_000": "1_000",
    ".inf": math.inf,
    "-.INF": -math.inf,
    "+12": 12,
    ".5": 0.5,
    "5.": 5.0,
    "1E+2": 100.0,
    "true": True,
    "FALSE": False,
    "TrUe": "TrUe",
    "null": None,
    "~": None,
    "2026-11-21": "2026-11-21",
    "0b11": "0b11",
    "'1'": "1",
    '"true"': "true",
    "=": "=",
    "٣": "٣",
    "²": "²",
    "1e": "1e",
    "--1": "--1",
}


@pytest.mark.parametrize("text", SCALARS)
def test_scalars_follow_yaml_1_2(text: str) -> None:
    value = load_yaml(f"key: {text}").value["key"].value
    assert value == SCALARS[text]
    assert type(value) is type(SCALARS[text])


def test_nan_is_a_number() -> None:
    assert math.isnan(load_yaml(".nan").value)


def test_places_count_from_one() -> None:
    root = load_yaml("a: 1\nb:\n  - x\n  - {c: 2}\n", "f.yaml")
    inner = root.value["b"].value[1]
    assert (root.value["a"].mark.line, root.value["a"].mark.column) == (1, 4)
    assert (inner.key_marks["c"].line, inner.key_marks["c"].column) == (4, 6)
    assert (inner.value["c"].mark.file, inner.value["c"].mark.line, inner.value["c"].mark.column) == ("f.yaml", 4, 9)


def test_windows_line_ends_and_byte_order_marks_are_fine() -> None:
    for text in ("\ufeffa: 1\r\nb: 2\r\n", "\ufeffa: 1\nb: 2".encode(), b"a: 1\r\nb: 2"):
        assert load_yaml(text).plain() == {"a": 1, "b": 2}


REFUSED = {
    "a: &x 1": "anchors",
    "a: *x": "aliases",
    "&x a: 1": "anchors",
    "a: {<<: {b: 1}}": "merge keys",
    "a: !!python/object:os.system x": "tags",
    "a: !custom x": "tags",
    "a: ! x": "tags",
    "a: 1\na: 2": "stands twice",
    "a: 1\n---\nb: 2": "second document",
    "": "empty",
    "# nothing": "empty",
    "a: [1, 2": "not valid YAML",
    "a: 'x": "not valid YAML",
    "a: b: c": "not valid YAML",
    "a: \0b": "U+0000",
    "a: \x07b": "U+0007",
    "a: \ud800": "U+D800",
    "a:\n\tb: 1": "a tab",
    "a: @b": "in quotes",
    "[a, b]: 1": "plain name",
    "? {a: 1}\n: 1": "plain name",
    "a: " + "9" * 400: "400 characters",
    "a: 0x" + "f" * 400: "402 characters",
    "k" * 300 + ": 1": "300 characters",
    "a: " + "x" * 5000: "5,000 characters",
    "%YAML 9.9\n---\na: 1": "not valid YAML",
}


@pytest.mark.parametrize("text", REFUSED, ids=range(len(REFUSED)))
def test_refusals_are_one_clear_problem(text: str) -> None:
    with pytest.raises(SpaceError) as caught:
        load_yaml(text, "f.yaml")
    assert REFUSED[text] in str(caught.value)
    assert len(caught.value.problems) == 1
    assert len(str(caught.value)) < 250


def test_depth_is_limited_exactly() -> None:
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH).is_list
    with pytest.raises(SpaceError, match="deeper than 32"):
        load_yaml("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))


BOMBS = {
    "flow": b"[" * 900_000,
    "maps": b"{a: " * 200_000,
    "block": b"- " * 400_000,
    "keys": b"? " * 400_000,
    "items": b"[" + b"a," * 499_000 + b"]",
    "entries": b"".join(b"k%d: %d\n" % (i, i) for i in range(70_000)),
    "aliases": b"a: &a [x,x]\n" + b"".join(b"b%d: &b%d [*a,*a]\n" % (i, i) for i in range(1000)),
    "merges": b"a: {<<: {<<: {<<: {}}}}",
    "digits": b"a: " + b"9" * 900_000,
    "quote": b'a: "' + b"x" * 900_000,
    "comment": b"#" * 900_000,
    "lines": b"\n" * 900_000,
    "documents": b"---\n" * 200_000,
    "binary": bytes(range(256)) * 3000,
    "utf16": "a: 1".encode("utf-16") * 1000,
    "colons": b":" * 900_000,
    "pairs": b"[a: b, " * 100_000,
    "simple": b"[" + b'"a": 1,' * 100_000,
    "stars": b"*" * 900_000,
    "large": b"a: 1\n" * 300_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_soon_in_one_error(name: str, calls_at_most: Callable[[int], AbstractContextManager[None]]) -> None:
    with calls_at_most(1_000_000), pytest.raises(SpaceError) as caught:
        load_yaml(BOMBS[name])
    assert len(caught.value.problems) == 1


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_loads_or_gives_a_space_error(text: str) -> None:
    with contextlib.suppress(SpaceError):
        load_yaml(text)


@given(st.binary())
@settings(max_examples=300, deadline=None)
def test_any_bytes_load_or_give_a_space_error(data: bytes) -> None:
    with contextlib.suppress(SpaceError):
        load_yaml(data)


@given(st.text(alphabet="[]{}:,-?&*!|>'\"%@` \n\tab1.#<~$"))
@settings(max_examples=500, deadline=None)
def test_any_punctuation_loads_or_gives_a_space_error(text: str) -> None:
    with contextlib.suppress(SpaceError):
        load_yaml(text)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["a", "b"]), PLAIN, min_size=1))
@settings(max_examples=300, deadline=None)
def test_what_is_dumped_is_loaded_back(value: dict) -> None:
    assert load_yaml(dump_yaml(value)).plain() == value


@pytest.mark.parametrize(
    "text", ["1e3", "0o17", "off", "010", ".inf", "null", "~", "", "2:4", "$a", "${a * 2}", "a: b"]
)
def test_texts_that_look_like_numbers_stay_texts(text: str) -> None:
    assert load_yaml(dump_yaml({"a": text})).plain() == {"a": text}


def test_files(tmp_path) -> None:
    (tmp_path / "other.yaml").write_text("a: 1")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpaceError, match=r"no such file \(in that folder: large.yaml, other.yaml\)"):
        load_yaml_file(tmp_path / "othr.yaml")
    with pytest.raises(SpaceError, match="1,000,001 bytes"):
        load_yaml_file(tmp_path / "large.yaml")
    with pytest.raises(SpaceError, match="can't be read: Is a directory"):
        load_yaml_file(tmp_path)
    with pytest.raises(SpaceError, match="not a file's name"):
        load_yaml_file("a\0b")


QUANTITIES = [
    ("200K", "count", 200e3),
    ("2 M", "count", 2e6),
    ("1.5G", "count", 1.5e9),
    ("320KB", "bytes", 320e3),
    ("1KiB", "bytes", 1024),
    ("2MiB", "bytes", 2 * 2**20),
    ("5ms", "seconds", 5e-3),
    ("20us", "seconds", 20e-6),
    ("3ns", "seconds", 3e-9),
    ("2uJ", "joules", 2e-6),
    ("1e-3", "joules", 1e-3),
    (7, "count", 7.0),
    (" .5s ", "seconds", 0.5),
]


@pytest.mark.parametrize(("text", "dimension", "value"), QUANTITIES)
def test_quantities_become_si(text: str, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(value)


@pytest.mark.parametrize("text", ["200KB", "5 ms", "", "K", "1e999", "ten", "1 2", "0x10", "²", 10**400, math.inf])
def test_wrong_quantities_are_refused(text: object) -> None:
    with pytest.raises(InputError, match="expected a"):
        parse_quantity(text, "count")  # type: ignore[arg-type]
