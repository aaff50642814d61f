"""Blocks of somebody else's package export as ours do, and those that can't are told why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from nas.export.code import module_source
from space import ExportError, Shape, load_plugin, registry
from space.block import Block, instantiate
from tests.nas.export.allowed import objections, wide_lines
from tests.nas.export.outside import differences, write_bare

HELPERS = '''
from __future__ import annotations

import math as maths
from typing import Protocol

import torch.nn.functional as functional
from torch import Tensor, nn

from space.fused import fused

CHUNK = 3
"""Not the chunk of linear attention."""
LIMITS, SCALE = {"wide": maths.sqrt(2.0)}, 0.5


class Named(Protocol):
    name: str


@fused("gate")
def attention(x: Tensor, amount: float = SCALE, named: Named | None = None) -> Tensor:
    """Not attention at all."""
    return functional.silu(x) * amount * LIMITS["wide"] + CHUNK


class F(nn.Module):
    def unused(self) -> int:
        return undefined_everywhere

    def forward(self, x: Tensor) -> Tensor:
        return [part for part in (attention(x),)][0]
'''
BLOCKS = '''
from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from space import Block, BlockOptions
from space.block import block
from space.ops.attention import attention
from . import helpers
from .helpers import attention as gate


class Base(Block):
    class Options(BlockOptions):
        dim: int = Field(4, ge=1)
        label: str = "a"

    power = 2

    def __init__(self, shape, options) -> None:
        super().__init__()
        # The width of the way back.
        self.into = nn.Linear(shape.dim, options.dim)
        self.back = nn.Linear(options.dim, shape.dim)  # and home
        self.label = options.label

    def mixed(self, x):
        return self.back(self.into(x)) ** self.power


@block("outer_gate", role="mixer", causal=True)
class load(Base):
    """A block with a name that the file needs itself. x [B, L, D] -> the same shape."""

    class Options(Base.Options):
        taps: list[float] = [0.5, 2.0]

    def __init__(self, shape, options) -> None:
        super().__init__(shape, options)
        self.taps = [tap * len(options.label) for tap in options.taps]
        self.inner = helpers.F()

    def forward(self, x: Tensor) -> Tensor:
        y = sum(tap * self.mixed(x) for tap in self.taps)
        q = y.unsqueeze(1)
        return F.gelu(gate(y) + self.inner(x)) + attention(q, q, q, True).squeeze(1)

    def step(self, x, state):
        return self.forward(x), state
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Writes and loads a package of blocks; forgets them afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry.blocks, "_classes", registry.all_blocks())
    names = []

    def write(name: str, blocks: str, helpers: str = "") -> None:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("")
        (package / "helpers.py").write_text(helpers)
        (package / "blocks.py").write_text(blocks)
        names.append(name)
        load_plugin(f"{name}.blocks")

    yield write
    for module in [m for m in sys.modules if m.split(".")[0] in names]:
        del sys.modules[module]


def test_a_plugin_exports_with_its_helpers(plugin: Callable[..., None], tmp_path: Path) -> None:
    plugin("outer_package", BLOCKS, HELPERS)
    hostile = "'''\"\"\"\n..\\ {x} \\N{BULLET}"
    node = {"sequence": {"blocks": [{"outer_gate": {"dim": 3, "label": hostile}}, {"outer_gate": {"taps": [1.0]}}]}}
    model = instantiate(node, Shape("sequence", 6, 5, causal=True)).eval()
    text = module_source(model, "A network.")
    assert objections(text) == []
    assert wide_lines(text) == []
    assert "# The width of the way back." in text
    assert "# and home" in text
    assert "unused" not in text
    assert "outer_package" not in text
    folder = write_bare(model, text, torch.randn(2, 5, 6), tmp_path / "out")
    assert differences([folder]) == {"out": 0.0}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def __init__(self, shape, options):\n        super().__init__()\n        self.o = options", "as a whole"),
        (
            "def __init__(self, shape, options):\n        super().__init__()\n        self.n = shape.size(2)",
            "shape.size",
        ),
        ("def __init__(self, shape):\n        super().__init__()", "must start with"),
        ("def forward(self, x):\n        return x * self.block_shape.dim", "reads self.block_shape"),
        ("def forward(self, x):\n        return x if self.pointwise else -x", "reads self.pointwise"),
        ("def forward(self, x):\n        return open(x)", "open can't be exported"),
        (
            "def forward(self, x):\n        return torch.from_numpy(numpy.ones(3))",
            "numpy, which an exported file can't",
        ),
        ("def forward(self, x):\n        import os\n        return x", "imports os inside"),
        ("def forward(self, x):\n        return helpers", "used as a value"),
        ("def forward(self, x):\n        return twice(x)", "more than once"),
        ("def forward(self, x):\n        return nowhere(x)", "nowhere can't be exported"),
    ],
)
def test_a_block_that_cannot_be_exported_says_why(plugin: Callable[..., None], body: str, told: str) -> None:
    init = "def __init__(self, shape, options):\n        super().__init__()\n\n    "
    source = f'''
import numpy
import torch
from space import Block, BlockOptions
from space.block import block
from . import helpers

def twice(x):
    return x

def twice(x):
    return 2 * x

@block("outer", role="mixer", causal=True)
class Outer(Block):
    """A block."""
    class Options(BlockOptions):
        n: int = 1
    {"" if "__init__" in body else init}{body}
'''
    plugin("wrong_package", source)
    cls = registry.get("outer")
    with pytest.raises(ExportError, match=told):
        module_source(_made(cls), "A network.")


def _made(cls: type[Block]) -> Block:
    """A block as `instantiate` leaves it, whatever its constructor takes."""
    module = cls.__new__(cls)
    torch.nn.Module.__init__(module)
    module.block_shape, module.block_options = Shape("sequence", 4, 4), cls.Options()
    object.__setattr__(module, "block_children", {})
    return module


def test_a_block_defined_in_a_function_cannot_be_exported() -> None:
    class Inner(Block):
        """Not at the top level."""

    with pytest.raises(ExportError, match="top level"):
        module_source(_made_plain(Inner), "A network.")


def _made_plain(cls: type[Block]) -> Block:
    module = cls.__new__(cls)
    torch.nn.Module.__init__(module)
    object.__setattr__(module, "block_children", {})
    return module
