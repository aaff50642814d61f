"""What each room offers: every listed name is there, and importing a room is cheap."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

ROOMS = ("nas", "nas.executors", "nas.strategies", "nas.tasks", "store", "costmodel", "space")


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_there(room: str) -> None:
    module = importlib.import_module(room)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_the_public_surface_of_nas() -> None:
    import nas

    assert set(nas.__all__) >= {
        "Architecture", "BlockwrightError", "InputError", "SearchResult", "SearchSpace", "SearchTrial", "SpaceError",
        "Stopped", "Study", "StudyLocked", "build", "cost", "load_architecture", "load_space", "run", "search",
    }  # fmt: skip
    assert dir(nas) == nas.__all__


def test_importing_the_rooms_is_cheap() -> None:
    code = (
        "import sys, nas, store, costmodel, space\n"
        "heavy = {'torch', 'optuna', 'sqlalchemy', 'streamlit', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
