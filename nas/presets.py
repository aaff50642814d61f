"""The shipped models and spaces, and the published figures of the models."""

from __future__ import annotations

import csv
from functools import cache
from typing import Any

from space.shipped import PRESETS, shipped_files


def list_shipped() -> list[dict[str, Any]]:
    """`{"name", "what", "paper", "about", "published"}` of every preset ("preset") and search space ("space").

    `about` is the first line of the file's opening comment; `published` holds the figures of `published.csv`.
    """
    rows = []
    for what, name, path in shipped_files():
        first = path.read_text(encoding="utf-8").split("\n", 1)[0]
        rows.append(
            {
                "name": name,
                "what": what,
                "paper": ", ".join(_papers(path)),
                "about": first.lstrip("# ") if first.startswith("#") else "",
                "published": published().get(name, {}),
            }
        )
    return rows


def _papers(path: Any) -> list[str]:
    from space.paper_index import papers_of_file

    return papers_of_file(path)


@cache
def published() -> dict[str, dict[str, Any]]:
    """Preset -> `{"params", "params_deployed", "macs", "trained_macs", "source"}` as published, where known.

    `trained_macs` says that the MACs are of the training form, before any block is folded. What is published in few
    digits only ("28M", "3.7G") stands as text under `params_rounded` and `macs_rounded`.
    """
    found = {}
    with (PRESETS / "published.csv").open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            figures = {"params": row["params"], "params_deployed": row["params_deployed"]}
            known: dict[str, Any] = {name: int(value) for name, value in figures.items() if value.isdigit()}
            few = {"params_rounded": row["params"], "macs_rounded": row["macs_millions"]}
            known |= {name: value for name, value in few.items() if value.endswith(("M", "G"))}
            known |= {"trained_macs": row["macs_form"] == "trained", "source": row["source"]}
            if row["macs_millions"] and "macs_rounded" not in known:
                known["macs"] = round(float(row["macs_millions"]) * 1e6)
            found[row["model"]] = known
    return found


def preset_figures() -> list[dict[str, Any]]:
    """`{"name", "input", "params", "params_deployed", "macs", "published"}` of every preset, counted now.

    MACs are of the form that runs, or of the one that the published figure is of.
    """
    from costmodel import cost, node_table
    from nas.loading import load_space

    rows = []
    for what, name, path in shipped_files():
        if what != "preset":
            continue
        architecture = load_space(path).only()
        counted = cost(architecture)
        given = published().get(name, {})
        macs = counted.macs
        if given.get("trained_macs"):
            macs = node_table(architecture.node, architecture.input_shape)[0].total("macs")
        rows.append(
            {
                "name": name,
                "input": _input(architecture.document["input"]),
                "params": counted.params,
                "params_deployed": counted.params_deployed,
                "macs": macs,
                "published": given,
            }
        )
    return rows


def _input(declared: dict[str, Any]) -> str:
    if "shape" in declared:
        return f"{declared['kind']} {' x '.join(str(n) for n in declared['shape'])}"
    return f"{declared['kind']} {declared['length']}"
