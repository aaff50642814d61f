"""An exported network gives what the network gave, without Blockwright: every block kind, and random candidates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nas.export.code import module_source
from space import Architecture, load_space
from space.block import instantiate
from tests.nas.export.allowed import objections, wide_lines
from tests.nas.export.outside import differences, write_bare
from tests.space.blocks.cases import Case, all_cases, first_cases

EXAMPLES = ("pocket-vision", "byte-lm", "recall")


@pytest.mark.slow
def test_every_block_kind_runs_without_blockwright(tmp_path: Path) -> None:
    # Every kind with each of its options varied, on the first shape that takes them.
    cases = {(case.kind, str(case.node)): case for case in reversed(all_cases())}.values()
    folders = [_case_folder(case, tmp_path / f"{i}-{case.kind}") for i, case in enumerate(cases)]
    assert {name: told for name, told in differences(folders).items() if told != 0.0} == {}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_random_candidates_run_without_blockwright(example: str, tmp_path: Path) -> None:
    space = load_space(f"examples/{example}.yaml")
    folders = []
    for seed in range(30):
        architecture = space.sample(seed=seed)
        torch.manual_seed(seed)
        model = architecture.build().eval()
        text = module_source(model, "A network.")
        assert objections(text) == []
        assert wide_lines(text) == []
        folders.append(write_bare(model, text, _input(architecture), tmp_path / str(seed)))
    assert {name: told for name, told in differences(folders).items() if told != 0.0} == {}


@pytest.mark.parametrize("case", first_cases(), ids=str)
def test_only_allowed_source_is_written(case: Case) -> None:
    assert objections(module_source(instantiate(case.node, case.shape), "A block.")) == []


def test_the_same_network_gives_the_same_text() -> None:
    architecture = load_space("examples/pocket-vision.yaml").sample(seed=1)
    again = Architecture.from_document(architecture.document)
    assert module_source(architecture.build(), "A.") == module_source(again.build(), "A.")


def _case_folder(case: Case, folder: Path) -> Path:
    model = case.build().float().eval()
    x = case.input()
    return write_bare(model, module_source(model, "A block."), x.float() if x.is_floating_point() else x, folder)


def _input(architecture: Architecture) -> torch.Tensor:
    shape = architecture.input_shape
    generator = torch.Generator().manual_seed(7)
    if shape.layout == "tokens":
        return torch.randint(shape.dim, shape.size(2), generator=generator)
    return torch.randn(shape.size(2), generator=generator)
