"""From choices to networks: everything drawn builds, is drawn once, and comes back from its picks."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from space import InputError, SearchSpace, SpaceError, load_space

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
IMAGE = "input: {kind: image, shape: [1, 8, 8]}\n"
TOKENS = "input: {kind: tokens, vocab: 16, length: 8}\n"


def space_of(architecture: str, rest: str = "", head: str = IMAGE) -> SearchSpace:
    """A space from the lines of its `architecture`."""
    body = "".join(f"  {line}\n" for line in architecture.strip().splitlines())
    return SearchSpace.from_text(f"{head}architecture:\n{body}{rest}")


MIXED = """
sequence:
  - patch_embed: {patch: {choice: [2, 4]}, dim: $width}
  - repeat:
      times: {int: [1, 3]}
      block:
        layer:
          mixer:
            choice:
              - attention: {heads: {choice: [2, 3, 4]}, kv_heads: {choice: [1, 2, 3]}}
              - depthwise_conv: {kernel: {choice: [3, 4, 5]}}
              - identity
          channel: $channel
  - parallel:
      branches: [{choice: [mlp, identity, zero]}, {choice: [mlp, identity, zero]}]
      fuse: {choice: [sum, concat]}
  - classifier: {classes: 10}
"""
MIXED_NAMES = """
choices:
  width: {choice: [16, 24]}
definitions:
  channel: {choice: [{mlp: {ratio: {choice: [1, 2]}}}, identity]}
"""
SMALL = """
sequence:
  - patch_embed: {patch: 4, dim: {choice: [8, 12]}}
  - repeat:
      times: {int: [0, 2]}
      block: {choice: [{attention: {heads: {choice: [2, 3, 8]}}}, mlp]}
  - classifier: {classes: 2}
"""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_two_thousand_candidates_of_each_example(path: Path) -> None:
    space = load_space(path)
    found = space.sample_many(2000)
    assert len(found) == len({a.id for a in found}) == 2000
    for architecture in found:
        assert set(architecture.picks) <= set(space.sites)
        assert architecture.output_shape.dim > 0
    for architecture in found[::50]:
        architecture.build()
        assert space.from_picks(dict(architecture.picks)).id == architecture.id


def test_two_thousand_candidates_of_a_mixed_space_all_build() -> None:
    space = space_of(MIXED, MIXED_NAMES)
    found = space.sample_many(2000)
    assert len({a.id for a in found}) == 2000
    for architecture in found:
        architecture.build()
        assert all(space.sites[site].holds(value) for site, value in architecture.picks.items())
        assert space.from_picks(dict(architecture.picks)) == architecture


def test_any_genome_decodes_to_a_network() -> None:
    space = space_of(MIXED, MIXED_NAMES)
    rng = random.Random(0)
    for _ in range(500):
        genome = {site: rng.choice(domain.values()) for site, domain in space.sites.items()}
        made = space.decode(genome)
        made.check()
        assert space.from_picks(dict(made.picks)).id == made.id


def test_decode_keeps_what_works() -> None:
    space = space_of(MIXED, MIXED_NAMES)
    for architecture in space.sample_many(50):
        genome = {site: domain.values()[0] for site, domain in space.sites.items()} | dict(architecture.picks)
        assert space.decode(genome).picks == architecture.picks


def test_enumeration_is_what_exhaustive_sampling_sees() -> None:
    space = space_of(SMALL)
    listed = [a.id for a in space.enumerate()]
    assert len(listed) == len(set(listed))
    assert set(listed) == {a.id for a in space.stream(patience=3000)}


def test_enumeration_is_what_brute_force_over_the_sites_finds() -> None:
    space = space_of(SMALL)
    domains = {site: domain.values() for site, domain in space.sites.items()}
    brute = {
        space.decode(dict(zip(domains, values, strict=True))).id for values in itertools.product(*domains.values())
    }
    assert brute == {a.id for a in space.enumerate()}
    # width 8: heads 2, 8 or mlp, width 12: heads 2, 3 or mlp; at depth 0 to 2
    assert len(brute) == 2 * (1 + 3 + 9)


def test_sampling_is_reproducible() -> None:
    space = space_of(MIXED, MIXED_NAMES)
    assert [a.id for a in space.sample_many(20, seed=3)] == [a.id for a in space.sample_many(20, seed=3)]
    assert space.sample(1).id == space.sample(1).id


def test_picks_exist_only_where_they_are_active() -> None:
    space = space_of(MIXED, MIXED_NAMES)
    for architecture in space.sample_many(300):
        picks = architecture.picks
        for i in range(3):
            site = f"architecture.sequence[1].repeat.block[{i}].layer.mixer"
            inside = [s for s in picks if s.startswith(site + ".")]
            if i >= picks["architecture.sequence[1].repeat.times"]:
                assert site not in picks
                assert not inside
            else:
                assert all(s.startswith(f"{site}.{picks[site]}.") for s in inside)


def test_divisibility_restricts_choices() -> None:
    seen = set()
    for architecture in space_of(MIXED, MIXED_NAMES).sample_many(500):
        for _, kind, options in architecture.blocks():
            if kind == "attention":
                seen.add((architecture.picks["choices.width"], options["heads"], options.get("kv_heads")))
    assert all(width % heads == 0 and heads % (groups or 1) == 0 for width, heads, groups in seen)
    assert {heads for width, heads, _ in seen if width == 24} == {2, 3, 4}
    assert {heads for width, heads, _ in seen if width == 16} == {2, 4}


def test_named_choices_are_tied_and_definitions_pick_anew() -> None:
    tied = space_of(
        "sequence:\n  - patch_embed: {patch: 4, dim: 8}\n  - $m\n  - $m\n  - repeat: {times: 2, block: $m}\n"
        "  - mlp: {ratio: $r}\n  - mlp: {ratio: \"${r * 2 + 1}\"}\n  - classifier: {classes: 2}",
        "choices:\n  m: {choice: [mlp, {attention: {heads: {choice: [2, 4]}}}]}\n  r: {choice: [1, 2]}\n",
    )  # fmt: skip
    assert set(tied.sites) == {"choices.m", "choices.m.attention.heads", "choices.r"}
    assert len(list(tied.enumerate())) == 3 * 2
    for architecture in tied.enumerate():
        blocks = architecture.node["sequence"]["blocks"]
        assert blocks[1] == blocks[2] == blocks[3] == blocks[4]
        ratios = [b["mlp"].get("ratio", 4.0) for b in blocks[5:7]]
        assert ratios[1] == ratios[0] * 2 + 1
    free = space_of(
        "sequence:\n  - patch_embed: {patch: 4, dim: 8}\n  - $m\n  - $m\n  - classifier: {classes: 2}",
        "definitions:\n  m: {choice: [mlp, {attention: {heads: {choice: [2, 4]}}}]}\n",
    )
    assert len(list(free.enumerate())) == 9


def test_a_named_choice_may_hold_definitions_of_blocks() -> None:
    space = space_of(
        "sequence: [{patch_embed: {patch: 4, dim: 8}}, $m, {classifier: {classes: 2}}]",
        "choices:\n  m: {choice: [$a, $b]}\ndefinitions:\n  a: {mlp: {ratio: {choice: [1, 2]}}}\n  b: {attention: {heads: 2}}\n",
    )
    assert len(list(space.enumerate())) == 3


@pytest.mark.parametrize(("share", "count"), [("none", 9), ("options", 3), ("weights", 3)])
def test_sharing_in_repeat(share: str, count: int) -> None:
    space = space_of(
        f"sequence:\n  - patch_embed: {{patch: 4, dim: 8}}\n  - repeat: {{times: 2, share: {share}, block: {{residual: "
        "{choice: [mlp, {attention: {heads: {choice: [2, 4]}}}]}}}\n  - classifier: {classes: 2}"
    )
    found = list(space.enumerate())
    assert len(found) == count
    kinds = [kind for _, kind, _ in found[0].blocks()]
    assert kinds.count("residual") == (1 if share == "weights" else 2)
    assert kinds.count("repeat") == (1 if share == "weights" else 0)


def test_repetitions_that_share_options_agree() -> None:
    space = space_of(
        "sequence:\n  - patch_embed: {patch: 2, dim: 8}\n  - repeat:\n      times: {int: [1, 3]}\n      share: options\n"
        "      block: {sequence: [{residual: {choice: [mlp, {attention: {heads: {choice: [2, 4]}}}]}}, {pool: {window: 2}}]}\n"
        "  - classifier: {classes: 2}"
    )
    for architecture in space.enumerate():
        inner = [(kind, options) for _, kind, options in architecture.blocks() if kind in ("mlp", "attention")]
        assert all(found == inner[0] for found in inner)


def test_ranges_and_steps(calls_at_most: Callable[[int], AbstractContextManager[None]]) -> None:
    space = space_of(
        "sequence:\n  - patch_embed: {patch: 4, dim: {int: [8, 30], step: 8}}\n  - mlp: {ratio: {float: [0.5, 2]}}\n"
        "  - mlp: {ratio: {float: [0.01, 4], log: true}}\n  - classifier: {classes: {int: [2, 2]}}"
    )
    for architecture in space.sample_many(100):
        picks = list(architecture.picks.values())
        assert picks[0] in (8, 16, 24)
        assert 0.5 <= picks[1] <= 2
        assert 0.01 <= picks[2] <= 4
        assert space.from_picks(dict(architecture.picks)) == architecture
    with calls_at_most(10_000), pytest.raises(InputError, match="float range, which can't be enumerated"):
        list(space.enumerate())


def test_from_picks_takes_exactly_the_picks() -> None:
    space = space_of("sequence: [{patch_embed: {patch: 4, dim: {choice: [8, 12]}}}, {mlp: {ratio: {float: [1, 2]}}}]")
    picks = dict(space.sample().picks)
    dim, ratio = picks
    assert space.from_picks(picks).picks == picks
    for wrong, told in [
        ({dim: 8}, "is missing"),
        (picks | {"other": 1}, "no such pick"),
        (picks | {dim: 9}, "expected 8 | 12; got 9"),
        (picks | {dim: "8"}, "expected 8"),
        (picks | {dim: True}, "expected 8"),
        (picks | {ratio: 3.0}, "expected float"),
        (picks | {ratio: "x"}, "expected float"),
    ]:
        with pytest.raises(InputError) as caught:
            space.from_picks(wrong)
        assert told in str(caught.value)
    with pytest.raises(InputError, match="missing"):
        space.decode({})


def test_from_picks_says_what_works_there() -> None:
    space = space_of(
        "sequence: [{patch_embed: {patch: 4, dim: {choice: [8, 12]}}}, {attention: {heads: {choice: [2, 3]}}}]"
    )
    with pytest.raises(InputError, match=r"3 doesn't work here \(allowed: \[2\]\)"):
        space.from_picks({"architecture.sequence[0].patch_embed.dim": 8, "architecture.sequence[1].attention.heads": 3})


def test_a_first_pick_that_leads_nowhere_is_taken_back() -> None:
    space = space_of(
        """
sequence:
  - patch_embed: {patch: 2, dim: {choice: [6, 10, 14, 16]}}
  - repeat:
      times: 6
      block:
        layer:
          mixer: {choice: [{attention: {heads: {choice: [1, 2]}}}, depthwise_conv, fourier_mixer]}
          channel: {choice: [mlp, swiglu]}
  - choice: [mlp, swiglu]
  - attention: {heads: 8}
  - classifier: {classes: 2}
"""
    )
    dim = "architecture.sequence[0].patch_embed.dim"
    assert all(a.picks[dim] == 16 for a in space.sample_many(50))
    first = {site: domain.values()[0] for site, domain in space.sites.items()}
    assert space.decode(first).picks[dim] == 16
    assert next(iter(space.enumerate())).picks[dim] == 16


def test_a_shared_pick_that_fails_later_is_taken_back() -> None:
    space = space_of(
        """
sequence:
  - patch_embed: {patch: 1, dim: 8}
  - repeat:
      times: 2
      share: options
      block:
        sequence:
          - residual: {choice: [{attention: {heads: 2}}, {residual: {mlp: {ratio: 2}}}]}
          - pool: {window: {choice: [5, 3, 2]}}
  - classifier: {classes: 2}
"""
    )
    windows = {a.picks["architecture.sequence[1].repeat.block.sequence[1].pool.window"] for a in space.enumerate()}
    assert windows == {2}
    assert {a.id for a in space.sample_many(20)} == {a.id for a in space.enumerate()}


def test_an_impossible_space_is_one_error_at_the_right_line() -> None:
    with pytest.raises(SpaceError) as caught:
        space_of(
            "sequence:\n  - patch_embed: {patch: 2, dim: {choice: [6, 10]}}\n  - repeat: {times: {int: [1, 3]}, block: mlp}\n"
            "  - attention: {heads: 4}\n  - classifier: {classes: 2}"
        )
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (6, "architecture.sequence[2].attention.heads")
    assert "heads must divide dim 6; got 4" in problem.message


def test_an_entry_that_is_rarely_possible_is_no_error() -> None:
    space = space_of(
        "sequence:\n  - patch_embed: {patch: 4, dim: {int: [1, 150]}}\n  - choice: [mlp, {attention: {heads: 149}}]\n"
        "  - classifier: {classes: 2}"
    )
    picks = {"architecture.sequence[0].patch_embed.dim": 149, "architecture.sequence[1]": "attention"}
    assert space.from_picks(picks).picks == picks


ODD = {
    "repeat zero times": ("sequence: [{patch_embed: {patch: 4, dim: 8}}, {repeat: {times: 0, block: mlp}}]", 1),
    "only nothing": ("repeat: {times: 0, block: mlp}", 1),
    "identity": ("identity", 1),
    "null in a choice": ("sequence: [{patch_embed: {patch: 4, dim: 8}}, {choice: [mlp, null]}]", 2),
    "null value": ("sequence: [{patch_embed: {patch: 4, dim: 8}}, {attention: {heads: 2, window: {choice: [null, 1]}}}]", 2),
    "choice of one": ("sequence: [{patch_embed: {patch: 4, dim: {choice: [8]}}}, {choice: [mlp]}]", 1),
    "choice in a choice": ("sequence: [{patch_embed: {patch: 4, dim: {choice: [{choice: [8, 12]}, 16]}}}]", 3),
    "range in a choice": ("sequence: [{patch_embed: {patch: 4, dim: {choice: [{int: [8, 9]}, 16]}}}]", 3),
    "bool and number": ("sequence: [{patch_embed: {patch: 4, dim: 8}}, {mlp: {bias: {choice: [true, false]}}}]", 2),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_but_right(name: str) -> None:
    architecture, count = ODD[name]
    space = space_of(architecture, "constraints: []\nobjectives:\n")
    found = list(space.enumerate())
    assert len(found) == count
    assert space.objectives == space.constraints == ()
    for made in found:
        made.build()
        assert space.from_picks(dict(made.picks)) == made


def test_a_choice_of_one_is_one_architecture() -> None:
    space = space_of("sequence: [{patch_embed: {patch: 4, dim: {choice: [8]}}}, {choice: [mlp]}]")
    assert space.only().id == space.sample().id
    with pytest.raises(SpaceError, match="holds 1 choices"):
        space_of("sequence: [{patch_embed: {patch: 4, dim: {choice: [8, 12]}}}]").only()


def complaint(text: str) -> str:
    """What a file is refused with; empty where it is taken."""
    try:
        SearchSpace.from_text(text).sample()
    except SpaceError as error:
        return str(error)
    return ""


WRONG_VALUES = ["-99999999999999999999", "9" * 299, "null", "[]", "{}", "[[1]]", "{a: {b: 1}}", "é", "'\U0001f600'",
                "x" * 3000, "1e308", "-0.0", ".nan", "true", "{choice: [{}]}", "{choice: [[1]]}", "{int: [{}, 1]}",
                "{int: [1, 2], float: [1, 2]}", "{choice: [.nan, 8]}", "{int: [.nan, 8]}", "$", "'${}'", "'${1'"]  # fmt: skip


@pytest.mark.parametrize("value", WRONG_VALUES, ids=range(len(WRONG_VALUES)))
@pytest.mark.parametrize(
    "place",
    ["patch_embed: {patch: 4, dim: VALUE}", "VALUE", "patch_embed: VALUE", "choice: VALUE", "residual: VALUE",
     "repeat: {times: VALUE, block: mlp}", "sequence: VALUE"],
)  # fmt: skip
def test_odd_values_anywhere_are_short_space_errors(
    place: str, value: str, calls_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    with calls_at_most(50_000):
        assert len(complaint(f"{IMAGE}architecture:\n  {place.replace('VALUE', value)}\n")) < 800


@pytest.mark.parametrize("section", ["name", "input", "task", "choices", "definitions", "objectives", "constraints",
                                     "search", "training", "overrides", "extends", "blockwright"])  # fmt: skip
@pytest.mark.parametrize("value", WRONG_VALUES, ids=range(len(WRONG_VALUES)))
def test_odd_sections_are_short_space_errors(section: str, value: str) -> None:
    head = "" if section == "input" else IMAGE
    assert len(complaint(f"{head}architecture: identity\n{section}: {value}\n")) < 1500


BOMBS = {
    "definitions that double": "definitions:\n  d0: mlp\n"
    + "".join(f"  d{i}: {{sequence: [$d{i - 1}, $d{i - 1}]}}\n" for i in range(1, 25)),
    "a chain of definitions": "definitions:\n  d0: mlp\n"
    + "".join(f"  d{i}: {{residual: $d{i - 1}}}\n" for i in range(1, 2000)),
    "a chain of names": "definitions:\n  d0: mlp\n" + "".join(f"  d{i}: $d{i - 1}\n" for i in range(1, 5000)),
    "a chain of choices": "choices:\n  d0: {choice: [mlp, identity]}\n"
    + "".join(f"  d{i}: {{choice: [$d{i - 1}, mlp]}}\n" for i in range(1, 3000)),
    "choices in choices": "definitions:\n  d0: mlp\n"
    + "".join(f"  d{i}: {'{choice: [' * 12}$d{i - 1}{']}' * 12}\n" for i in range(1, 30)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_of_names_end_in_one_error(
    name: str, calls_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    text = BOMBS[name]
    last = text.rstrip().rsplit("\n", 1)[1].split(":")[0].strip()
    with calls_at_most(1_000_000), pytest.raises(SpaceError) as caught:
        SearchSpace.from_text(
            f"{IMAGE}architecture: {{sequence: [{{patch_embed: {{patch: 4, dim: 8}}}}, ${last}]}}\n{text}"
        )
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("times", ["1024", "{int: [1000, 1024]}"])
def test_too_many_blocks_end_in_one_error(
    times: str, calls_at_most: Callable[[int], AbstractContextManager[None]]
) -> None:
    with calls_at_most(40_000_000), pytest.raises(SpaceError, match="lower a `times`"):
        space_of(
            "sequence:\n  - patch_embed: {patch: 4, dim: 8}\n"
            f"  - repeat: {{times: {times}, block: {{repeat: {{times: 1024, block: {{choice: [mlp, swiglu]}}}}}}}}"
        )


def test_a_causal_net_offers_causal_blocks_only() -> None:
    space = space_of(
        "sequence:\n  - token_embed: {dim: 8}\n  - residual: {choice: [{attention: {heads: 2, causal: {choice: [true, null]}}}, mlp]}\n"
        "  - lm_head: {vocab: 16}",
        head=TOKENS,
    )
    assert len(list(space.enumerate())) == 2
    with pytest.raises(SpaceError, match="can never be taken: fourier_mixer lets a position see later ones"):
        space_of("sequence: [{token_embed: {dim: 8}}, {choice: [mlp, fourier_mixer]}]", head=TOKENS)
