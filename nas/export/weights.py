"""Weights into a built network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from space import Architecture, Block, InputError

if TYPE_CHECKING:
    from torch import Tensor


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name of a safetensors file. Raises InputError where it can't be read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"can't read the weights {path}: {error}") from error


def with_weights(architecture: Architecture, weights: Mapping[str, Tensor] | Path | None) -> Block:
    """The built network on the CPU in evaluation mode; without weights, random ones from a fixed seed.

    Raises InputError for weights that are not of this architecture.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = architecture.build()
    if isinstance(weights, Path):
        weights = read_weights(weights)
    if weights is not None:
        try:
            model.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            told = " ".join(str(error).split())
            raise InputError(f"these weights are not of this architecture: {told[:400]}") from error
    return model.cpu().eval()
