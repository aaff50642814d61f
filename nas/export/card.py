"""The model card: what a network is, what it was trained on, how well it does, what it costs, how to use it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.export.module import describe_tensor
from nas.units import quantity
from space import Architecture

_MARKDOWN = re.compile(r"[\\`*\[\]<>|~&$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


@dataclass(frozen=True)
class Card:
    """The facts of a model card, as the caller knows them. All in SI base units; empty where unknown.

    `scores`: part (`validation`, `test`) -> metric -> value. `splits`: part -> number of samples. `training`: setting
    -> value, as it was trained. `cost`: what `costmodel.Cost.to_json()` gives. `reproduce`: command lines.
    """

    study: str = ""
    trial: int | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    """`{"name", "options"}`, as a job carries it."""
    data: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)
    preprocessing: str = ""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    reproduce: tuple[str, ...] = ()


def card_text(card: Card, architecture: Architecture, parameters: int, trained: bool, version: str) -> str:
    """The card in Markdown. Text that came from a user can't break out of its line."""
    sections = [
        _head(card, architecture, trained, version),
        _task(card),
        _scores(card, trained),
        _training(card) if trained else "",
        _cost(card, parameters),
        _input(card, architecture),
        _loading(architecture),
        _reproducing(card, architecture),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def plain(text: object) -> str:
    """One line of text that Markdown shows as it stands, anywhere but at the start of a line."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return _MARKDOWN.sub(r"\\\g<0>", flat).replace(r"\<", "&lt;").replace(r"\>", "&gt;").replace(r"\&", "&amp;")


def code_line(text: object) -> str:
    """One line of an indented code block."""
    return "    " + " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table of plain cells."""
    head = [plain(cell) for cell in head]
    lines = [head, ["---"] * len(head), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(card: Card, architecture: Architecture, trained: bool, version: str) -> str:
    kinds = ", ".join(f"{n} x {kind}" if n > 1 else kind for kind, n in sorted(architecture.counts().items()))
    where = f"Trial {card.trial} of study {plain(card.study)}. " if card.trial is not None else ""
    state = "" if trained else "\n\n**Its weights are random: it was never trained.**"
    return (
        f"# Network {architecture.id[:12]}\n\n{where}Found and written out by Blockwright {plain(version)}; plain"
        f" PyTorch, no Blockwright needed.{state}\n\nBlocks: {plain(kinds)}.\n\nArchitecture id: `{architecture.id}`"
        " (the full document stands in `config.json`)."
    )


def _task(card: Card) -> str:
    if not card.task and not card.data:
        return ""
    name = plain(card.task.get("name", ""))
    lines = [f"## Task\n\nMade for {name}" + (f": {plain(card.data)}" if card.data else ".")]
    if card.task.get("options"):
        lines.append("Options: " + plain(", ".join(f"{k} {v}" for k, v in card.task["options"].items())) + ".")
    if card.splits:
        lines.append(table(["part", "samples"], ((part, f"{n:,}") for part, n in card.splits.items())))
    return "\n\n".join(lines)


def _scores(card: Card, trained: bool) -> str:
    if not card.scores or not trained:
        return ""
    metrics = list(dict.fromkeys(m for scores in card.scores.values() for m in scores))
    rows = [[part, *(_number(scores.get(m)) for m in metrics)] for part, scores in card.scores.items()]
    return (
        f"## Scores\n\n{table(['part', *metrics], rows)}\n\nThe search saw the validation part only. The test part was"
        " scored once, for this card, in float32."
    )


def _training(card: Card) -> str:
    rows = [(name, _setting(value)) for name, value in card.training.items() if value is not None]
    return f"## Training\n\n{table(['setting', 'value'], rows)}" if rows else ""


def _cost(card: Card, parameters: int) -> str:
    lines = [f"## Cost\n\nParameters: {parameters:,} ({quantity(parameters * 4, 'B')} in float32)."]
    if "macs" in card.cost:
        lines[0] += f" Multiply-accumulates for one sample: {card.cost['macs']:,}."
    hardware = card.cost.get("hardware") or {}
    if hardware:
        head = ["device", "latency, low", "expected", "high", "energy", "peak memory", "fits", "bound"]
        rows = []
        for name, one in hardware.items():
            latency = [quantity(one["latency_s"][k], "s") for k in ("low", "expected", "high")]
            fits = {True: "yes", False: "no", None: "no limit known"}[one.get("fits")]
            energy, memory = quantity(one.get("energy_j"), "J"), quantity(one.get("peak_memory_bytes"), "B")
            rows.append([name, *latency, energy, memory, fits, one.get("bound", "")])
        lines.append(f"Predicted from the device's data sheet, for one sample, not measured:\n\n{table(head, rows)}")
    return "\n\n".join(lines)


def _input(card: Card, architecture: Architecture) -> str:
    lines = [
        f"## Input and output\n\nInput: {describe_tensor(architecture.input_shape)}.",
        f"Output: {describe_tensor(architecture.output_shape)}, unnormalised scores (logits).",
    ]
    if card.preprocessing:
        lines.append(f"Preprocessing: {plain(card.preprocessing)}.")
    return "\n\n".join(lines)


def _loading(architecture: Architecture) -> str:
    shape = architecture.input_shape
    size = ", ".join(str(n) for n in shape.size(1))
    example = f"torch.randint({shape.dim}, ({size}))" if shape.layout == "tokens" else f"torch.randn({size})"
    return (
        "## Load it\n\nNeeds torch and safetensors; run in this folder, or put the folder on `sys.path`.\n\n```python\n"
        "import torch\nimport model\n\nnet = model.load()\nwith torch.inference_mode():\n"
        f"    print(net({example}).shape)\n```"
    )


def _reproducing(card: Card, architecture: Architecture) -> str:
    if not card.reproduce:
        return ""
    return "## Reproduce\n\n" + "\n".join(code_line(line) for line in card.reproduce)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:g}"


def _setting(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
