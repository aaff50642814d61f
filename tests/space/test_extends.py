"""Files that start from another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from space import SearchSpace, SpaceError, load_space

BASE = """
input: {kind: image, shape: [1, 8, 8]}
choices: {width: {choice: [8, 16]}}
architecture:
  sequence:
    - patch_embed: {patch: 4, dim: $width}
    - repeat: {times: 2, block: mlp}
    - classifier: {classes: 2}
search: {trials: 7, seed: 3}
"""


def test_sections_names_and_paths(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "own.yaml").write_text(
        "extends: base.yaml\nname: own\nchoices: {ratio: {choice: [1, 2, 3]}}\nsearch: {trials: 9}\n"
        "overrides:\n  architecture.sequence[1].repeat.times: 1\n  architecture.sequence[1].repeat.block: {mlp: {ratio: $ratio}}\n"
        "  choices.width: {choice: [8]}\n"
    )
    space = load_space(tmp_path / "own.yaml")
    assert (space.name, space.search.trials, space.search.seed) == ("own", 9, 3)
    assert len(list(space.enumerate())) == 3


def test_a_mistake_in_the_base_is_told_at_its_own_place(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE.replace("times: 2", "times: two"))
    (tmp_path / "own.yaml").write_text("extends: base.yaml\n")
    with pytest.raises(SpaceError, match=r"base\.yaml:7:23: .*expected an integer; got 'two'"):
        load_space(tmp_path / "own.yaml")


def test_circles_and_long_chains(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(SpaceError, match="goes in a circle"):
        load_space(tmp_path / "a.yaml")
    for i in range(12):
        (tmp_path / f"c{i}.yaml").write_text(f"extends: c{i + 1}.yaml")
    with pytest.raises(SpaceError, match="at most 8 files"):
        load_space(tmp_path / "c0.yaml")


@pytest.mark.parametrize("name", ["x" * 3000, '"a\\0b"', "/etc", "..", '""', "nowhere"])
def test_odd_names_are_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "own.yaml").write_text(f"extends: {name}\n")
    with pytest.raises(SpaceError) as caught:
        load_space(tmp_path / "own.yaml")
    assert len(str(caught.value)) < 500


def test_a_change_of_the_base_is_a_change_of_the_space(tmp_path: Path) -> None:
    base = "input: {kind: image, shape: [1, 8, 8]}\narchitecture: {sequence: [patch_embed: {patch: 2, dim: 8}]}\n"
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "own.yaml").write_text("name: own\nextends: base.yaml\n")
    before = SearchSpace.from_file(tmp_path / "own.yaml")
    (tmp_path / "base.yaml").write_text(base.replace("dim: 8", "dim: 16"))
    after = SearchSpace.from_file(tmp_path / "own.yaml")
    assert before.sha256 != after.sha256
    assert "patch_embed" in before.source
    assert SearchSpace.from_text(after.source).only().id == after.only().id
