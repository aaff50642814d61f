"""Where the idea of each paper lives: the blocks, presets and spaces that name it, and the tests that check it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from space import registry
from space.shipped import shipped_files
from space.yaml_loader import load_yaml_file

TESTS = Path(__file__).parents[1] / "tests"


def papers(elsewhere: Mapping[str, str] | None = None) -> dict[str, dict[str, list[str]]]:
    """Catalogue id -> `{"where": ["block hilo", "preset swin_tiny", ...], "tests": ["tests/...py::name", ...]}`, by id.

    `elsewhere` are ideas that live in other rooms (`costmodel.paper_features()`), by id. Tests are those marked `@pytest.mark.paper(id)`; an installation without the tests' sources has none to name.
    """
    found: dict[str, dict[str, list[str]]] = {}

    def entry(paper: str) -> dict[str, list[str]]:
        return found.setdefault(paper, {"where": [], "tests": []})

    for kind, cls in registry.all_blocks().items():
        for paper in cls.papers:
            entry(paper)["where"].append(f"block {kind}")
    for what, name, path in shipped_files():
        for paper in papers_of_file(path):
            entry(paper)["where"].append(f"{what} {name}")
    for paper, place in (elsewhere or {}).items():
        entry(paper)["where"].append(place)
    for paper, test in marked_tests(TESTS):
        entry(paper)["tests"].append(test)
    return dict(sorted(found.items()))


def papers_of_file(path: Path) -> list[str]:
    """Catalogue ids under `paper:` in a YAML file of ours."""
    held = load_yaml_file(path).value.get("paper")
    if held is None:
        return []
    plain = held.plain()
    return plain if isinstance(plain, list) else [plain]


def marked_tests(folder: Path) -> Iterator[tuple[str, str]]:
    """(catalogue id, test) for every mark `pytest.mark.paper` on a test function below a folder, read as text."""
    for path in sorted(folder.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if "mark.paper" not in source:
            continue
        for node in ast.parse(source).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.paper":
                    for argument in mark.args:
                        place = path.relative_to(folder.parent).as_posix()
                        yield ast.literal_eval(argument), f"{place}::{node.name}"
