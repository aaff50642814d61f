"""The generated documents are those that the code gives now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["growth", "blocks", "presets"])
def test_generated_documents_are_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.FILES[name].read_text(encoding="utf-8")
    assert written == module.TEXTS[name](), "say: python docs/generate.py"
