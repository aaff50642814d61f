"""Writing an architecture out, so that it runs where Blockwright is not: one file a format, found by their names."""

from __future__ import annotations

import importlib
from typing import Any

_EXPORTS = {
    "Card": "nas.export.card",
    "Bundle": "nas.export.base",
    "Exporter": "nas.export.base",
    "exporters": "nas.export.base",
    "export_folder": "nas.export.folder",
    "export_module": "nas.export.folder",
    "Finished": "nas.export.finishing",
    "finish": "nas.export.finishing",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'nas.export' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
