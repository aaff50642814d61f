"""Runs exported networks in a Python that has torch and safetensors, and no Blockwright."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from nas.evaluate import save_weights

_RUNNER = """
import importlib.util, json, sys
from importlib.machinery import ModuleSpec

ROOMS = ("space", "nas", "costmodel", "store", "dashboard", "tests")

class NoBlockwright:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ROOMS or (path is None and name == "pydantic"):
            raise ModuleNotFoundError(f"no module {name} here")

sys.meta_path.insert(0, NoBlockwright())
import torch
from safetensors.torch import load_file

def missing(room):
    try:
        __import__(room)
    except ModuleNotFoundError:
        return True
    return False

assert all(missing(room) for room in ROOMS)
told = {}
for number, folder in enumerate(sys.argv[1:]):
    try:
        spec = importlib.util.spec_from_file_location(f"exported_{number}", folder + "/model.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        net = module.load(folder)
        assert not net.training
        wanted = load_file(folder + "/io.safetensors")
        with torch.inference_mode():
            # A tensor in a safetensors file may stand at an odd address, where some kernels add in another order.
            y = net(wanted["x"].clone())
        assert y.shape == wanted["y"].shape, (y.shape, wanted["y"].shape)
        told[folder] = float((y - wanted["y"]).abs().max())
    except Exception as error:
        told[folder] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


def sample_io(model: nn.Module, x: Tensor, folder: Path) -> None:
    """Keep an input and the output that `model` gives for it next to an export."""
    with torch.inference_mode():
        y = model.eval()(x)
    save_file({"x": x.contiguous(), "y": y.contiguous().clone()}, folder / "io.safetensors")


def write_bare(model: nn.Module, text: str, x: Tensor, folder: Path) -> Path:
    """A folder with the file, the weights, an input and its output."""
    folder.mkdir()
    (folder / "model.py").write_text(text)
    save_weights(model, folder / "model.safetensors")
    sample_io(model, x, folder)
    return folder


def differences(folders: list[Path]) -> dict[str, float | str]:
    """Folder name -> largest difference of the outputs, or the error that running it there gave."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _RUNNER, *map(str, folders)], capture_output=True, text=True, cwd="/", timeout=280
    )
    assert done.returncode == 0, done.stderr
    return {Path(folder).name: value for folder, value in json.loads(done.stdout).items()}
