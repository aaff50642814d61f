"""The README: its YAML validates, its commands and its Python run as they stand."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
NAS = [sys.executable, "-m", "nas"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[str]:
    lines = [
        line[2:].split("#")[0].strip()
        for block in blocks("console")
        for line in block.splitlines()
        if line.startswith("$ ")
    ]
    return [line for line in lines if line.startswith("nas ")]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_it_names_the_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"make ([a-z]+)", README))
    assert named <= targets


def test_every_link_and_image_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_runs_from_top_to_bottom(tmp_path: Path) -> None:
    (space,) = blocks("yaml")
    (tmp_path / "tiny-digits.yaml").write_text(space)
    listed = commands()
    assert len(listed) >= 8
    for command in listed:
        done = subprocess.run(
            NAS + shlex.split(command)[1:], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert (tmp_path / "exports" / "tiny" / "model.py").exists()


@pytest.mark.slow
def test_the_python_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "blockwright: 1" in done.stdout
