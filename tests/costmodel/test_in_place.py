"""Operators of tables against those that torch really issues, and their times in place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from costmodel import cost, load_profile, trace_module
from costmodel.calibration.in_place import OperatorTimer, Subject, groups_of, measure_group
from costmodel.table import C, operator_name
from nas.loading import load_space
from space import build, deploy

SPACES = ("isotropic-vision", "vision-pyramid", "microcontroller-vision", "nas-bench-201", "time-series",
          "looped-recall", "mixed-attention", "raw-audio", "wide-attention", "byte-lm-hybrid", "examples/byte-lm.yaml")  # fmt: skip
PRESETS = ("swin_tiny", "fastvit_t8", "convnext_tiny", "uniformer_small", "poolformer_s12", "vit_tiny_16", "tnt_small", "sret_tiny",
           "efficientnet_b0", "ffnet_1", "efficientvit_m0", "litv2_s", "efficientformer_l1", "cmt_tiny")  # fmt: skip


def issued(architecture) -> tuple[list[str], list[str]]:
    """Names of the operators of a candidate's table on a CPU, and of those that a real run issues."""
    profile = load_profile("x86-core")
    told = cost(architecture, [profile])
    rows = told.table.matrix[told.hardware[profile.name].priced.rows]
    module, shape = deploy(build(architecture)), architecture.input_shape
    x = torch.zeros(shape.size(1), dtype=torch.int64) if shape.layout == "tokens" else torch.randn(shape.size(1))
    timer = OperatorTimer()
    with torch.no_grad(), timer:
        module(x)
    return [operator_name(code) for code in rows[:, C["name"]]], timer.names


@pytest.mark.parametrize("seed", [9000, 9003])
@pytest.mark.parametrize("name", SPACES)
def test_a_candidate_s_table_holds_just_the_operators_that_torch_issues(name: str, seed: int) -> None:
    table, real = issued(load_space(name).sample(seed))
    assert table == real


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_s_table_holds_just_the_operators_that_torch_issues(name: str) -> None:
    table, real = issued(load_space(name).only())
    assert table == real


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.inner(x)).transpose(0, 1)


def subject() -> Subject:
    module, x = Net(), torch.randn(4, 8)
    table = trace_module(module, x)
    return Subject("net", lambda: module(x), table.matrix[table.select(["attention"])])


def test_each_operator_of_a_module_gets_its_least_time() -> None:
    one = subject()
    assert one.matches()
    assert np.isinf(one.least).all()
    measure_group([one, subject()], 0.01)
    assert len(one.least) == 2
    assert (one.least > 0).all()
    assert (one.least < 1).all()
    before = one.least.copy()
    one.measure()
    assert (one.least <= before).all()


def test_a_module_that_issues_something_else_does_not_match() -> None:
    x = torch.randn(4, 8)
    assert not Subject("other", lambda: x + x, subject().rows).matches()


def test_groups_hold_as_many_operators_as_asked_for() -> None:
    groups = groups_of([subject() for _ in range(7)], 6)
    assert [len(group) for group in groups] == [3, 3, 1]
