"""The automaton of a space writes the architectures that the resolver makes, no others, each as often as it should."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from space import NotUnrolled, SearchSpace, canonical_json

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
IMAGE = "input: {kind: image, shape: [1, 8, 8]}\n"
TOKENS = "input: {kind: tokens, vocab: 16, length: 12}\n"
LAYER = "layer: {mixer: {choice: [identity, {depthwise_conv: {kernel: {choice: [3, 5]}}}]}, channel: {mlp: {ratio: 1}}}"
SPACES = {
    "repeat": f"""
  sequence:
    - token_embed: {{dim: {{choice: [4, 8]}}}}
    - repeat: {{times: {{int: [0, 3]}}, block: {{choice: [identity, {{{LAYER}}}]}}}}
    - lm_head: {{vocab: 16}}""",
    "shared options": f"""
  sequence:
    - token_embed: {{dim: 8}}
    - repeat:
        times: {{int: [1, 2]}}
        block:
          repeat: {{times: {{int: [1, 2]}}, share: {{choice: [none, options, weights]}}, block: {{{LAYER}}}}}
    - lm_head: {{vocab: 16}}""",
    "pattern": f"""
  sequence:
    - token_embed: {{dim: 8}}
    - pattern: {{times: {{int: [1, 3]}}, blocks: [{{{LAYER}}}, {{choice: [identity, layer_norm]}}]}}
    - lm_head: {{vocab: 16}}""",
    "rows in a choice": f"""
  sequence:
    - token_embed: {{dim: 8}}
    - choice:
        - sequence: [{{{LAYER}}}, {{choice: [rms_norm, identity]}}]
        - repeat: {{times: {{int: [0, 2]}}, block: rms_norm}}
        - {LAYER}
    - lm_head: {{vocab: 16}}""",
}
TIED = """
choices:
  width: {choice: [4, 8]}
  kernel: {choice: [3, 5]}
  inner: {choice: [identity, {depthwise_conv: {kernel: $kernel}}]}
architecture:
  sequence:
    - token_embed: {dim: $width}
    - repeat: {times: {int: [1, 2]}, block: {layer: {mixer: $inner, channel: {mlp: {ratio: {choice: [1, 2]}}}}}}
    - layer: {mixer: {depthwise_conv: {kernel: $kernel}}}
    - lm_head: {vocab: 16}
"""
GRID = """
architecture:
  sequence:
    - patch_embed: {patch: 2, dim: {choice: [4, 8]}}
    - to_grid
    - repeat:
        times: {int: [0, 2]}
        block: {choice: [{sequence: [to_sequence, rms_norm, to_grid]}, {sequence: [to_sequence, to_grid]}, batch_norm]}
    - choice: [identity, to_sequence]
    - classifier: {classes: 3}
"""


def spaces() -> dict[str, SearchSpace]:
    texts = {name: f"{TOKENS}architecture:{text}\n" for name, text in SPACES.items()}
    return {
        name: SearchSpace.from_text(text)
        for name, text in (texts | {"tied": TOKENS + TIED, "grid": IMAGE + GRID}).items()
    }


def words_of(space: SearchSpace, count: int = 100_000) -> set[str]:
    automaton = space.automaton
    return {canonical_json(automaton.node(word)) for word in np.unique(automaton.draw(count, 0), axis=0)}


@pytest.mark.parametrize("name", list(spaces()))
def test_it_writes_what_can_be_enumerated_and_counts_it(name: str) -> None:
    space = spaces()[name]
    enumerated = {canonical_json(architecture.node) for architecture in space.enumerate()}
    assert words_of(space) == enumerated
    assert space.automaton.size() == len(enumerated)


@pytest.mark.parametrize("name", list(spaces()))
def test_picks_of_a_path_make_its_architecture(name: str) -> None:
    space = spaces()[name]
    words, paths = space.automaton.walk(60, 1)
    for word, path in zip(words, paths, strict=True):
        made = space.from_picks(space.automaton.picks(path))
        assert made.id == space.architecture_of(space.automaton.node(word)).id


@pytest.mark.parametrize("name", list(spaces()))
def test_every_path_writes_a_word_and_every_word_has_one(name: str) -> None:
    space = spaces()[name]
    paths = list(space.automaton.paths())
    words = space.automaton.words(paths)
    written = {canonical_json(space.automaton.node(word)) for word in words}
    assert written == {canonical_json(architecture.node) for architecture in space.enumerate()}
    assert len(set(map(tuple, paths))) == len(paths)
    walked, taken = space.automaton.walk(40, 3)
    assert np.array_equal(space.automaton.words([p[p >= 0] for p in taken]), walked)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_candidates_of_the_examples(path: Path) -> None:
    space = SearchSpace.from_file(path)
    words, paths = space.automaton.walk(200, 1)
    for word, taken in zip(words, paths, strict=True):
        assert space.from_picks(space.automaton.picks(taken)).node == space.automaton.node(word)


def test_draws_are_as_often_as_the_resolver_s() -> None:
    """Two samples of one distribution: their chi-square statistic lies within 5 deviations of its mean."""
    space = spaces()["repeat"]
    drawn = Counter(canonical_json(space.automaton.node(w)) for w in space.automaton.draw(4000, 0))
    sampled = Counter(canonical_json(space.sample(seed).node) for seed in range(4000))
    kinds = sorted(drawn | sampled)
    statistic = sum((drawn[k] - sampled[k]) ** 2 / (drawn[k] + sampled[k]) for k in kinds)
    assert statistic < len(kinds) + 5 * (2 * len(kinds)) ** 0.5


def test_a_draw_is_a_function_of_its_seed() -> None:
    automaton = spaces()["tied"].automaton
    assert np.array_equal(automaton.draw(50, 3), automaton.draw(50, 3))
    assert not np.array_equal(automaton.draw(50, 3), automaton.draw(50, 4))


def test_what_has_no_automaton_says_why() -> None:
    floating = "architecture:\n  sequence:\n    - token_embed: {dim: 8}\n    - layer: {mixer: {depthwise_conv: {kernel: 3}}, layer_scale: {float: [0.1, 1]}}\n    - lm_head: {vocab: 16}\n"
    with pytest.raises(NotUnrolled, match="layer_scale is a float range"):
        assert SearchSpace.from_text(TOKENS + floating).automaton
    inner = f"repeat: {{times: {{int: [1, 12]}}, block: {{{LAYER}}}}}"
    large = f"architecture:\n  sequence:\n    - token_embed: {{dim: 8}}\n    - residual: {{block: {{{inner}}}}}\n    - lm_head: {{vocab: 16}}\n"
    with pytest.raises(NotUnrolled, match="one block that can be"):
        assert SearchSpace.from_text(TOKENS + large).automaton
    with pytest.raises(NotUnrolled, match="one block with 15,625 picks, most of them tied"):
        assert SearchSpace.from_file("nas-bench-201").automaton
