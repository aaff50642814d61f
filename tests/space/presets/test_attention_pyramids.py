"""Published image models with attention in stages: parameters to the unit, MACs within 0.5 %."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodel import cost
from space import load_space
from space.extends import PRESETS

PUBLISHED = [
    # keras-cv-attention-models with torch, 224 and 192 pixels
    ("uniformer_small", 21_545_256, 3631.8),
    ("cmt_xs", 15_247_208, 1546.9),
    # the released code, 224 pixels
    ("favit_b0", 3_427_704, 632.0),
    ("favit_b1", 12_958_568, 2344.0),
    ("favit_b2", 24_919_896, 4458.0),
    ("favit_b3", 48_746_440, 8512.0),
]


@pytest.mark.paper("uniformer", "favit")
@pytest.mark.parametrize(("name", "params", "macs_millions"), PUBLISHED, ids=lambda v: v if isinstance(v, str) else "")
def test_counts(name: str, params: int, macs_millions: float) -> None:
    found = cost(load_space(PRESETS / f"{name}.yaml").sample(seed=0))
    assert found.params == params
    assert found.macs / 1e6 == pytest.approx(macs_millions, rel=0.005)


# transformers 5.23 on the meta device
@pytest.mark.parametrize(("name", "params"), [("cvt_13", 19_997_480), ("cvt_21", 31_622_696)])
def test_parameters(name: str, params: int) -> None:
    assert cost(load_space(PRESETS / f"{name}.yaml").sample(seed=0)).params == params


# tables of the papers, rounded there: UniFormer-B 50 M and 8.3 G, CMT-Tiny 9.5 M and CMT-B 45.7 M
@pytest.mark.parametrize(
    ("name", "params_millions", "digits"), [("uniformer_base", 50, 0), ("cmt_tiny", 9.5, 1), ("cmt_base", 45.7, 1)]
)
def test_rounded_figures(name: str, params_millions: float, digits: int) -> None:
    found = cost(load_space(PRESETS / f"{name}.yaml").sample(seed=0))
    assert round(found.params / 1e6, digits) == params_millions
    if name == "uniformer_base":
        assert found.macs / 1e9 == pytest.approx(8.3, abs=0.06)


# the repository's table for Kinetics-400, four views of 16 or 32 frames; parameters in millions
@pytest.mark.paper("uniformer-video")
@pytest.mark.parametrize(
    ("name", "frames", "params_millions", "macs_billions"),
    [
        ("uniformer_small_video", 16, 21.4, 167),
        ("uniformer_small_video", 32, 21.4, 438),
        ("uniformer_base_video", 16, 49.8, 387),
        ("uniformer_base_video", 32, 49.8, 1036),
    ],
)
def test_video(name: str, frames: int, params_millions: float, macs_billions: float, tmp_path: Path) -> None:
    file = tmp_path / "frames.yaml"
    file.write_text(f"extends: {name}\nname: x\ninput: {{kind: video, shape: [3, {frames}, 224, 224]}}\n")
    found = cost(load_space(file).sample(seed=0))
    assert found.params / 1e6 == pytest.approx(params_millions, abs=0.05)
    assert 4 * found.macs / 1e9 == pytest.approx(macs_billions, rel=0.005)
