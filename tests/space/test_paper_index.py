"""Each paper of the library lives somewhere and is checked by a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from space.paper_index import marked_tests, papers, papers_of_file

# fmt: off
LIBRARY = [
    "activator", "algoformer", "apet", "ats", "augmented-shortcuts", "charformer", "cmx", "combiner", "crate",
    "dct-histotransformer", "diffusion-rwkv", "dsformer", "dtop", "ecoformer", "efficientformer", "efficientvit",
    "fast-attention", "fast-feedforward", "fast-fourier-conv", "fastervit", "fastformer", "fastv", "fastvit",
    "favit", "fcaformer", "fft-conv2d", "fit", "flashvideo", "flatformer", "flexdit", "fnet", "fourier-transformer",
    "fourier-vlm", "graph-transformer", "hcfssnet", "hilo", "hourglass-trees", "ia-red-2", "informer",
    "itransformer", "jumbo-cls", "kernel-attention-rpe", "l2vit", "linear-attention", "lit", "lmuformer",
    "long-conv", "low-rank-training", "ltm-token-merging", "mamba", "masformer", "matformer", "mctf", "metamixer",
    "minimal-transformer", "mixture-of-transformers", "mpnn-virtual-node", "multi-query-attention",
    "multiple-exiting", "mvit", "nas-efficient-transformers", "patternformer", "polycom", "powernorm",
    "pre-rmsnorm", "predformer", "rbfnet", "recconv", "robustformer", "s2aformer", "sea", "shiftaddvit", "sit",
    "slab", "soft", "spark-transformer", "sret", "survey-attention-sinks", "svt", "t2t-vit",
    "time-frequency-frontends", "time2vec", "tnt", "tokenformer", "transform-once", "unified-norm", "uniformer",
    "uniformer-video", "union-of-experts", "urpe", "vit-comer", "vit-resnas", "wavemix", "wide-attention",
    "widenet", "zero-tprune",
]
# fmt: on


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, list[str]]]:
    return papers()


@pytest.mark.parametrize("paper", LIBRARY)
def test_every_idea_has_a_place_and_a_test(paper: str, found: dict[str, dict[str, list[str]]]) -> None:
    assert paper in found, "no block, preset or space names it"
    assert found[paper]["where"], "only tests name it"
    assert found[paper]["tests"], "no test does its check"


def test_marks_are_read_from_the_source(tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_a.py").write_text(
        'import pytest\n\n\n@pytest.mark.paper("one", "two")\ndef test_it():\n    assert True\n', encoding="utf-8"
    )
    (tests / "test_b.py").write_text("def test_other():\n    assert True\n", encoding="utf-8")
    assert list(marked_tests(tests)) == [("one", "tests/test_a.py::test_it"), ("two", "tests/test_a.py::test_it")]


def test_files_name_their_papers(tmp_path: Path) -> None:
    for text, expected in (("name: x\n", []), ("paper: a\n", ["a"]), ("paper: [a, b]\n", ["a", "b"])):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        assert papers_of_file(path) == expected
