"""What every registered block promises. A new block file is tested here with no other change."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from space import registry
from space.block import Block, infer_shape, instantiate, parse_node
from space.deployment import deploy, deployed_node
from space.errors import InputError
from space.shape import Shape
from tests.space.blocks.cases import SHAPES, Case, all_cases, cases_of, first_cases, numeric_bounds

CASES = all_cases()
FIRST = first_cases()
CAUSAL = [case for case in CASES if case.shape.causal]
KINDS = sorted(registry.all_blocks())
TOLERANCE = 1e-10

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_first_case = pytest.mark.parametrize("case", FIRST, ids=str)
every_causal_case = pytest.mark.parametrize("case", CAUSAL, ids=str)
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_has_a_case(kind: str) -> None:
    assert cases_of(registry.get(kind)), f"no options derived from {kind}.Options work on any canonical shape"


@every_kind
def test_is_documented(kind: str) -> None:
    cls = registry.get(kind)
    text = cls.__doc__ or ""
    assert len(text.strip().splitlines()[0]) <= 120
    assert re.search(r"\[B|any shape|same shape|whatever", text), "the docstring says no shapes"
    assert cls.role == "topology" or re.search(r"arXiv:\d{4}\.\d{4,5}|doi:|\(\d{4}|\b(19|20)\d\d\b", text), "no source"
    for name, field in cls.Options.model_fields.items():
        assert field.description, f"option {name} has no description"


@every_case
def test_shape_and_dtype(case: Case) -> None:
    shape = infer_shape(case.node, case.shape)
    y = case.build()(case.input())
    assert y.shape == shape.size(2)
    assert y.dtype == (torch.int64 if shape.layout == "tokens" else torch.float64)
    assert shape.causal == case.shape.causal


@every_case
def test_gradients_reach_every_parameter(case: Case) -> None:
    block = case.build().train()
    x = case.input(batch=8)
    if x.is_floating_point():
        x.requires_grad_()
    y = block(x)
    if not y.requires_grad:
        assert not list(block.parameters())
        return
    weights = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))
    (y * weights).sum().backward()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"{name} has a gradient that isn't finite"
        assert parameter.grad.abs().max() > 0, f"the gradient of {name} is zero"
    if x.requires_grad:
        assert x.grad is not None
        assert x.grad.abs().max() > 0


@every_causal_case
def test_no_position_sees_a_later_one(case: Case) -> None:
    block = case.build().eval()
    x = case.input()
    y = block(x)
    if y.shape[:2] != x.shape[:2]:
        return
    for t in (1, case.shape.length // 2, case.shape.length - 1):
        changed = x.clone()
        changed[:, t:] = (x[:, t:] + 1) % case.shape.dim if case.shape.layout == "tokens" else 2 - x[:, t:] ** 2
        z = block(changed)
        assert (y[:, :t] - z[:, :t]).abs().max() <= 1e-12
        assert case.kind == "zero" or (y[:, t:] - z[:, t:]).abs().max() > 1e-6


@every_causal_case
@pytest.mark.parametrize("length", [1, 5, 17])
def test_steps_equal_forward(case: Case, length: int) -> None:
    assert_steps_equal_forward(case, case.shape.with_(length=length))


@every_first_case
def test_decode_form_is_right_or_refused(case: Case) -> None:
    try:
        case.build().init_state(2)
    except InputError:
        assert not case.shape.causal
        with pytest.raises(InputError, match="no decode form"):
            case.build().init_state(2)
    else:
        if case.shape.layout in ("sequence", "tokens"):
            assert_steps_equal_forward(case, case.shape)


def assert_steps_equal_forward(case: Case, shape: Shape) -> None:
    block = case.build(shape).eval()
    state = block.init_state(2)
    x = case.input(shape=shape)
    keeps_positions = infer_shape(case.node, shape).layout != "vector"
    with torch.no_grad():
        for t in range(shape.length):
            y, state = block.step(x[:, t : t + 1], state)
            prefix = block(x)[:, t : t + 1] if keeps_positions else block(x[:, : t + 1])
            torch.testing.assert_close(y, prefix, rtol=TOLERANCE, atol=TOLERANCE)
    assert sizes(state) == sizes(block.init_state(2, shape.length))


def sizes(state: Any) -> Any:
    """The state with each tensor replaced by its size."""
    if isinstance(state, dict):
        return {key: sizes(value) for key, value in state.items()}
    return tuple(state.shape) if isinstance(state, Tensor) else state


@every_case
def test_meta_run_gives_the_real_shapes(case: Case) -> None:
    with torch.device("meta"):
        block = instantiate(case.node, case.shape)
    real = case.build()
    assert {n: p.shape for n, p in block.named_parameters()} == {n: p.shape for n, p in real.named_parameters()}
    x = case.input().to("meta")
    y = block(x.float() if x.is_floating_point() else x)
    assert y.device.type == "meta"
    assert y.shape == real(case.input()).shape


@every_case
def test_samples_do_not_mix(case: Case) -> None:
    block = case.build().eval()
    x = case.input(batch=2)
    torch.testing.assert_close(block(x)[:1], block(x[:1]), rtol=TOLERANCE, atol=TOLERANCE)


@every_case
def test_same_seed_same_weights(case: Case) -> None:
    first, second = case.build().state_dict(), case.build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@every_case
def test_options_survive_json(case: Case) -> None:
    cls, options = parse_node(case.node)
    dumped = options.model_dump()
    again = cls.Options.model_validate(json.loads(json.dumps(dumped)))
    assert again == options


@every_case
def test_normalised_options_build_the_same_network(case: Case) -> None:
    cls, options = parse_node(case.node)
    canonical = cls.normalise(case.shape, options)
    assert cls.normalise(case.shape, canonical) == canonical
    assert getattr(canonical, "causal", False) is not None, "normalise must start from super().normalise"
    twin = Case(case.kind, case.shape_name, {case.kind: canonical.model_dump()}, case.shape)
    assert twin.build().state_dict().keys() == case.build().state_dict().keys()
    torch.testing.assert_close(twin.build().eval()(case.input()), case.build().eval()(case.input()))


@every_first_case
def test_export_gives_the_same_output(case: Case) -> None:
    block = case.build().eval()
    x = case.input()
    program = torch.export.export(block, (x,), strict=False)
    torch.testing.assert_close(program.module()(x), block(x), rtol=TOLERANCE, atol=TOLERANCE)


@every_kind
def test_bad_options_are_refused_by_name(kind: str) -> None:
    cls = registry.get(kind)
    good = cases_of(cls)[0].node[kind]
    wrong = [("no_such_option", 1)]
    wrong += [(name, object()) for name in cls.Options.model_fields]
    wrong += list(numeric_bounds(cls))
    wrong += [(name, float("nan")) for name in number_options(cls)]
    wrong += [(name, float("inf")) for name in number_options(cls)]
    for name, value in wrong:
        with pytest.raises(ValidationError) as caught:
            cls.Options.model_validate(good | {name: value})
        assert name in {error["loc"][0] for error in caught.value.errors()}
    for name, field in cls.Options.model_fields.items():
        if field.is_required():
            with pytest.raises(ValidationError) as caught:
                cls.Options.model_validate({key: value for key, value in good.items() if key != name})
            assert (name,) in {error["loc"] for error in caught.value.errors()}


@every_kind
def test_numbers_have_bounds(kind: str) -> None:
    cls = registry.get(kind)
    bounds = [name for name, _ in numeric_bounds(cls)]
    for name in number_options(cls):
        assert bounds.count(name) == 2, f"{kind}.{name} needs a lower and an upper bound"


def number_options(cls: type[Block]) -> list[str]:
    """Options that take a number."""
    kinds = (int, float, int | None, float | None)
    return [name for name, field in cls.Options.model_fields.items() if field.annotation in kinds]


@every_kind
def test_foreign_layouts_are_refused(kind: str) -> None:
    cls = registry.get(kind)
    options = cls.Options.model_validate(cases_of(cls)[0].node[kind])
    for shape in SHAPES.values():
        if shape.layout not in cls.layouts:
            with pytest.raises(InputError, match=kind):
                cls.validate_at(shape, options)


@every_case
def test_deployed_form_equals_the_training_form(case: Case) -> None:
    block = case.build()
    x = case.input()
    with torch.no_grad():
        block(x)  # running statistics move off their start
    block.eval()
    twin = deploy(block)
    torch.testing.assert_close(twin(x), block(x), rtol=1e-5, atol=1e-5)
    if "deployed" in type(block).Options.model_fields:
        assert sum(p.numel() for p in twin.parameters()) <= sum(p.numel() for p in block.parameters())
        assert infer_shape(deployed_node(case.node), case.shape) == infer_shape(case.node, case.shape)
