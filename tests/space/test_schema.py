"""The JSON Schema of a space file."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from space import Vocabulary, all_blocks, load_yaml, load_yaml_file, space_schema

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
WRONG = Path(__file__).parent / "wrong"
SEEN = ["top_unknown_key", "input_unknown_kind", "input_unknown_key", "block_unknown", "block_unknown_option",
        "block_missing_option", "block_wrong_type", "block_out_of_bounds", "block_wrong_enum", "block_two_keys",
        "slot_wrong_role", "slot_norm_role", "sequence_empty", "choice_empty", "choice_misspelt", "range_key",
        "search_unknown_key", "search_wrong_values", "training_wrong", "objective_direction", "many_mistakes"]  # fmt: skip
SCHEMA = space_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_and_their_candidates_are_valid(path: Path) -> None:
    from space import load_space

    assert not list(VALIDATOR.iter_errors(load_yaml_file(path).plain()))
    for architecture in load_space(path).sample_many(5):
        assert not list(VALIDATOR.iter_errors(load_yaml(architecture.to_yaml()).plain()))


@pytest.mark.parametrize("name", SEEN)
def test_mistakes_that_an_editor_can_see(name: str) -> None:
    assert not VALIDATOR.is_valid(load_yaml_file(WRONG / f"{name}.yaml").plain())


def test_every_block_and_every_option_stands_in_it() -> None:
    for kind, cls in all_blocks().items():
        held = SCHEMA["$defs"][f"block.{kind}"]
        form = held["anyOf"][0] if "anyOf" in held else held
        assert set(form["properties"]) == set(cls.Options.model_fields)
        assert held["description"]
        assert kind in SCHEMA["$defs"]["block"]["anyOf"][3]["properties"]
        for name, field in cls.Options.model_fields.items():
            assert form["properties"][name].get("description") == field.description


def test_choices_stand_anywhere() -> None:
    text = """
input: {kind: tokens, vocab: 4, length: 8}
choices: {w: {choice: [8, 16]}}
architecture:
  sequence:
    - token_embed: {dim: $w}
    - choice: [mlp, null, {mlp: {ratio: {float: [1, 2], log: true}}}, {residual: {choice: [mlp, $x]}}]
    - attention: {heads: "${w // 8}", window: {choice: [null, {int: [2, 8], step: 2}]}}
    - $x
"""
    assert not list(VALIDATOR.iter_errors(load_yaml(text).plain()))


def test_the_vocabulary_adds_names() -> None:
    schema = space_schema(Vocabulary(hardware=("h100-sxm",), strategies=("random",)))
    assert schema["properties"]["search"]["properties"]["strategy"]["enum"] == ["random"]
    assert "latency@h100-sxm" in schema["properties"]["objectives"]["properties"]
