"""The export of a trial as one zip file."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import streamlit as st

from dashboard.connection import address
from store import Study


def export_zip(study: Study, number: int) -> bytes:
    """The exported folder of a trial as a zip, made once a trial. Raises BlockwrightError."""
    return _export_zip(address(), study.name, study.id, number)


@st.cache_data(max_entries=16, show_spinner=False)
def _export_zip(where: str, study: str, study_id: int, number: int) -> bytes:
    from nas.exporting import export_trial

    with tempfile.TemporaryDirectory(prefix="blockwright-export-") as scratch:
        return zipped(export_trial(where, study, number, Path(scratch) / "export").folder)


def zipped(folder: Path) -> bytes:
    """Every plain file under a folder, by its path in it, always in the same order."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(folder).as_posix())
    return held.getvalue()
