"""Plain PyTorch: `model.py` and `model.safetensors`."""

from __future__ import annotations

from pathlib import Path

from nas.evaluate import save_weights
from nas.export.base import Bundle, Exporter, exporter
from nas.export.code import module_source
from space import Architecture, Shape


@exporter("module")
class Module(Exporter):
    """One readable file of plain torch with the weights beside it; needs torch and safetensors to load.

    The file holds the blocks' own source, cut down to what runs in this network, and one call a block. Its state has
    the names of the module it came from, so weights pass between the two with `strict=True`.
    """

    def write(self, bundle: Bundle, folder: Path) -> None:
        text = module_source(bundle.model, _summary(bundle.architecture, bundle.version))
        (folder / "model.py").write_text(text, encoding="utf-8")
        save_weights(bundle.model, folder / "model.safetensors")


def _summary(architecture: Architecture, version: str) -> str:
    return (
        f"A network in plain torch, written out by Blockwright {version}. `load()` gives it with its weights.\n\n"
        f"Input {describe_tensor(architecture.input_shape)}; output {describe_tensor(architecture.output_shape)}.\n"
        f"Architecture {architecture.id}.\n"
        "What it was trained on, how well it does and what it costs stand in MODEL_CARD.md.\n"
    )


def describe_tensor(shape: Shape) -> str:
    """Type and size of a tensor: `float32 [B, 1, 8, 8]`."""
    axes = ", ".join(str(n) for n in shape.size(0)[1:])
    if shape.layout == "tokens":
        return f"int64 [B, {axes}] (ids from 0 to {shape.dim - 1})"
    return f"float32 [B, {axes}]"
