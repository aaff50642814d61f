"""Writes docs/blocks.md from the blocks' own texts, and docs/presets.md from the presets and their published figures.

Before them costmodel/growth.json, which `nas blocks` reads: how the work of each block grows.

    python docs/generate.py [growth] [blocks] [presets]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from costmodel import growth_of, growth_text
from costmodel.growth import TABLE, measured_growth
from nas.presets import preset_figures
from space import all_blocks
from space.catalogue import describe_block

FOLDER = Path(__file__).parent
FILES = {"growth": TABLE, "blocks": FOLDER / "blocks.md", "presets": FOLDER / "presets.md"}
ROLES = ("mixer", "channel", "norm", "stem", "head", "reduce", "topology")


def shipped_kinds() -> list[str]:
    """The blocks of this repository, without those of plugins."""
    return [kind for kind, cls in all_blocks().items() if cls.__module__.startswith("space.blocks.")]


def growth_table() -> str:
    """Growth of every block, one line each."""
    lines = [f"{json.dumps(kind)}: {json.dumps(measured_growth(kind))}" for kind in shipped_kinds()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def blocks_text() -> str:
    """The manual of all blocks, by role."""
    by_role: dict[str, list[str]] = {role: [] for role in ROLES}
    for kind in shipped_kinds():
        by_role[all_blocks()[kind].role].append(kind)
    lines = [
        "# Blocks",
        "",
        "Made by `python docs/generate.py` from the blocks' own texts. Work (2 MACs + vector operations) grows with the",
        "positions L and the channels D as measured from the operator table; `nas blocks KIND` shows one of these.",
    ]
    for role, kinds in by_role.items():
        lines += ["", f"## {role} ({len(kinds)})"]
        for kind in kinds:
            lines += ["", *_block_lines(kind)]
    return "\n".join(lines) + "\n"


def _block_lines(kind: str) -> list[str]:
    told = describe_block(kind)
    facts = [f"takes {' or '.join(told['layouts'])}"]
    grows = growth_text(growth_of(kind))
    facts += [f"work grows as {grows}"] if grows else []
    facts += ["can be causal" if told["decode"] else "causal"] if told["causal"] else []
    facts += ["decodes step by step"] if told["decode"] else []
    facts += [f"paper: {told['paper']}"] if told["paper"] else []
    lines = [f"### {kind}", "", "; ".join(facts) + ".", "", *told["text"].splitlines()]
    if told["options"]:
        lines += ["", "| option | type | default | meaning |", "|---|---|---|---|"]
        for name, option in told["options"].items():
            cells = [f"`{name}`", option["type"], f"`{option['default']}`", option["description"]]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, "", "```yaml", told["snippet"], "```"]


def presets_text() -> str:
    """Our counts of every preset beside the published ones."""
    lines = [
        "# Presets",
        "",
        "Made by `python docs/generate.py`: parameters and MACs of every preset, counted here, beside the published",
        "figures. MACs are of one input, in the form that runs (folded where a model folds) or that the published count is",
        "of. What a published counter leaves out stands in the preset's own comment.",
        "",
        "| preset | input | parameters | published | deployed | published | MMACs | published | difference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in preset_figures():
        given = row["published"]
        macs = given.get("macs")
        difference = f"{100 * (row['macs'] / macs - 1):+.2f} %" if macs else ""
        cells = [
            f"`{row['name']}`",
            row["input"],
            f"{row['params']:,}",
            f"{given['params']:,}" if "params" in given else given.get("params_rounded", ""),
            f"{row['params_deployed']:,}",
            f"{given['params_deployed']:,}" if "params_deployed" in given else "",
            f"{row['macs'] / 1e6:,.1f}",
            f"{macs / 1e6:,.1f}" if macs else given.get("macs_rounded", ""),
            difference,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


TEXTS = {"growth": growth_table, "blocks": blocks_text, "presets": presets_text}

if __name__ == "__main__":
    for name in sys.argv[1:] or FILES:
        text = TEXTS[name]()
        FILES[name].write_text(text, encoding="utf-8")
        print(f"{FILES[name].name}: {len(text.splitlines())} lines")
