"""One network, one id: what builds the same shares it, what differs doesn't."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from space import Architecture, InputError, SearchSpace

STEM = "{patch_embed: {patch: 4, dim: 8}}"
HEAD = "{classifier: {classes: 2}}"


def made(*blocks: str, rest: str = "") -> Architecture:
    """The architecture of some blocks between a stem and a head."""
    listed = ", ".join([STEM, *blocks, HEAD])
    text = f"input: {{kind: image, shape: [1, 8, 8]}}\narchitecture: {{sequence: [{listed}]}}\n{rest}"
    return SearchSpace.from_text(text).sample()


PAIRS = [
    (("mlp", "identity"), ("mlp",)),
    (("{layer: {mixer: identity, channel: identity}}",), ()),
    (("{layer: {norm: layer_norm, mixer: null}}",), ()),
    (("{parallel: [mlp, zero]}",), ("mlp",)),
    (("{parallel: [zero, identity, zero]}",), ()),
    (("{parallel: [mlp, {attention: {heads: 2}}]}",), ("{parallel: [{attention: {heads: 2}}, mlp]}",)),
    (("{sequence: [mlp, {sequence: [mlp, mlp]}]}",), ("mlp", "mlp", "mlp")),
    (("{repeat: {times: 1, share: weights, block: mlp}}",), ("mlp",)),
    (("{repeat: {times: 0, block: mlp}}",), ()),
    (("{repeat: {times: 3, share: options, block: mlp}}",), ("mlp", "mlp", "mlp")),
    (("{repeat: {times: 2, share: none, block: mlp}}",), ("{repeat: {times: 2, share: options, block: mlp}}",)),
    (("{pattern: {blocks: [mlp, swiglu], times: 3}}",), ("mlp", "swiglu", "mlp")),
    (("{attention: {heads: 4, kv_heads: 4}}",), ("{attention: {heads: 4}}",)),
    (("{attention: {heads: 4, head_dim: 2}}",), ("{attention: {heads: 4}}",)),
    (("{attention: {heads: 2, window: 100}}",), ("{attention: {heads: 2, window: null}}",)),
    (("{mlp: {ratio: 2}}",), ("{mlp: {ratio: 2.0}}",)),
    (("{mlp: {}}",), ("mlp",)),
    (("to_grid", "to_sequence"), ()),
    (("{choice: [mlp]}",), ("mlp",)),
]  # fmt: skip
DIFFERENT = [
    ("mlp",),
    ("mlp", "mlp"),
    ("{repeat: {times: 2, share: weights, block: mlp}}",),
    ("{repeat: {times: 3, share: weights, block: mlp}}",),
    ("{residual: mlp}",),
    ("{layer: {channel: mlp}}",),
    ("{layer: {mixer: {attention: {heads: 2}}}}",),
    ("{layer: {norm: layer_norm, channel: mlp}}",),
    ("{attention: {heads: 2}}",),
    ("{attention: {heads: 4}}",),
    ("{attention: {heads: 4, kv_heads: 1}}",),
    ("{attention: {heads: 4, kv_heads: 2}}",),
    ("{parallel: [mlp, identity]}",),
    ("{parallel: {branches: [mlp, identity], fuse: mean}}",),
    ("{parallel: {branches: [mlp, identity], fuse: concat}}",),
    ("{parallel: {branches: [identity, mlp], fuse: concat}}",),
    ("{mlp: {ratio: 2}}",),
    ("mlp", "swiglu"),
    ("swiglu", "mlp"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_the_same_network_has_one_id(pair: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    first, second = (made(*blocks) for blocks in pair)
    assert first.document == second.document
    assert first.id == second.id
    assert first == second


def test_different_networks_have_different_ids() -> None:
    assert len({made(*blocks).id for blocks in DIFFERENT}) == len(DIFFERENT)


MIX = """
input: {kind: image, shape: [1, 8, 8]}
choices: {dim: {choice: [8, 16]}}
definitions:
  piece:
    choice:
      - mlp: {ratio: {choice: [1, 2]}}
      - attention: {heads: {choice: [1, 2]}, kv_heads: {choice: [1, 2]}, window: {choice: [null, 1, 9]}}
      - identity
      - zero
architecture:
  sequence:
    - patch_embed: {patch: {choice: [4, 8]}, dim: $dim}
    - repeat:
        times: {int: [0, 2]}
        share: {choice: [none, options, weights]}
        block: {parallel: {branches: [$piece, {residual: $piece}], fuse: {choice: [sum, mean]}}}
    - choice: [$piece, {sequence: [$piece, identity]}]
    - classifier: {classes: 2}
"""
SPACE = SearchSpace.from_text(MIX)


def shapes(architecture: Architecture) -> list[tuple[int, ...]]:
    """Shapes of all weights, whatever their names."""
    return sorted(tuple(t.shape) for t in architecture.build().state_dict().values())


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_documents_of_one_id_build_the_same_weights(first: int, second: int) -> None:
    a, b = SPACE.sample(first), SPACE.sample(second)
    assert (a.id == b.id) == (a.document == b.document)
    if a.id == b.id:
        assert shapes(a) == shapes(b)


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_document_to_yaml_and_back_is_a_fixed_point(seed: int) -> None:
    architecture = SPACE.sample(seed)
    again = Architecture.from_yaml(architecture.to_yaml())
    assert again.text == architecture.text
    assert again.to_yaml() == architecture.to_yaml()
    assert Architecture.from_document(architecture.document).id == architecture.id


def test_an_architecture_is_frozen() -> None:
    architecture = SPACE.sample(0)
    with pytest.raises(AttributeError):
        architecture.text = "{}"  # type: ignore[misc]
    with pytest.raises(TypeError):
        architecture.picks["x"] = 1  # type: ignore[index]
    architecture.document["architecture"] = None
    assert architecture.node is not None
    assert {architecture: 1}[Architecture.from_document(architecture.document)] == 1


def test_an_architecture_travels_between_processes() -> None:
    import copy
    import pickle

    architecture = SPACE.sample(0)
    for again in (copy.deepcopy(architecture), pickle.loads(pickle.dumps(architecture))):
        assert again == architecture
        assert again.picks == architecture.picks


def test_diff_names_every_place_that_differs() -> None:
    here, there = made("{mlp: {ratio: 2}}"), made("{mlp: {ratio: 3}}", "swiglu")
    assert here.diff(here) == []
    found = here.diff(there)
    assert ("architecture.sequence.blocks[1].mlp.ratio", 2.0, 3.0) in found
    assert ("architecture.sequence.blocks[2]", {"classifier": {"classes": 2, "pool": "mean"}}, None) not in found
    assert len(found) >= 2


WRONG = [
    {},
    {"blockwright": 1},
    {"blockwright": 2, "input": {"kind": "image", "shape": [1, 8, 8]}, "architecture": {"mlp": {}}},
    {"blockwright": 1, "input": {"kind": "image"}, "architecture": {"mlp": {}}},
    {"blockwright": 1, "input": 5, "architecture": {"mlp": {}}},
    {"blockwright": 1, "input": {"kind": "image", "shape": [0, -8, 8]}, "architecture": {"identity": {}}},
    {"blockwright": 1, "input": {"kind": "image", "shape": [1, 8, 8]}, "architecture": {"mpl": {}}},
    {"blockwright": 1, "input": {"kind": "image", "shape": [1, 8, 8]}, "architecture": {"mlp": {"ratio": "x"}}},
    {"blockwright": 1, "input": {"kind": "image", "shape": [1, 8, 8]}, "architecture": []},
    {"blockwright": 1, "input": {"kind": "image", "shape": [1, 8, 8]}, "architecture": {"sequence": {"blocks": [3]}}},
    {
        "blockwright": 1,
        "input": {"kind": "image", "shape": [1, 8, 8]},
        "architecture": {"mlp": {"ratio": float("inf")}},
    },
    {"blockwright": 1, "input": {"kind": "image", "shape": [1, 8, 8]}, "architecture": object()},
]


@pytest.mark.parametrize("document", WRONG, ids=range(len(WRONG)))
def test_a_wrong_document_is_an_input_error(document: dict) -> None:
    with pytest.raises(InputError):
        Architecture.from_document(document)
