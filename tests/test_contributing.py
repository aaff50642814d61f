"""CONTRIBUTING's recipe for a block: the file that it shows works as it stands, from outside the tree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPACE = """
input: {kind: tokens, vocab: 16, length: 32}
architecture:
  sequence:
    - token_embed: {dim: 16}
    - layer: {mixer: {running_mean: {gain: 2}}, channel: {mlp: {ratio: 2}}}
    - lm_head: {vocab: 16}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)
    (tmp_path / "my_blocks.py").write_text(code)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def nas(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nas", "--plugins", "my_blocks", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )


def test_the_block_is_listed_priced_and_in_the_schema(folder: Path) -> None:
    assert "running mean" in nas(folder, "blocks", "running_mean").stdout
    told = json.loads(nas(folder, "cost", "space.yaml", "--phase", "decode", "--length", "9", "--json").stdout)
    assert told["state_bytes"] == 16 * 4
    assert "running_mean" in nas(folder, "schema").stdout


def test_its_steps_equal_its_forward(folder: Path) -> None:
    code = (
        "import torch, my_blocks\n"
        "from space import Shape, instantiate\n"
        "block = instantiate({'running_mean': {}}, Shape('sequence', 8, length=6, causal=True)).double()\n"
        "x = torch.randn(2, 6, 8, dtype=torch.float64)\n"
        "state, ys = block.init_state(2), []\n"
        "for t in range(6):\n"
        "    y, state = block.step(x[:, t:t + 1], state)\n"
        "    ys.append(y)\n"
        "torch.testing.assert_close(torch.cat(ys, 1), block(x), rtol=0, atol=1e-12)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
