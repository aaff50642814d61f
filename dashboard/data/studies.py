"""The list of studies as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from dashboard.text import ago, clipped
from nas.units import measured
from store import Lease, StudySummary

COLUMNS = ["study", "status", "complete", "open", "infeasible", "failed", "last activity", "best of each objective"]
ARROWS = {"max": "↑", "min": "↓"}


def studies_table(summaries: Sequence[StudySummary], live: Collection[int], now: float) -> pd.DataFrame:
    """One row a study, in the order given. `live` holds the ids of studies whose coordinator is at work.

    `open` counts queued and running trials, `failed` also diverged and pruned ones.
    """
    rows = [
        (
            clipped(s.name),
            status_text(s.status, s.id in live),
            s.counts.get("complete", 0),
            s.counts.get("queued", 0) + s.counts.get("running", 0),
            s.counts.get("infeasible", 0),
            sum(s.counts.get(state, 0) for state in ("failed", "diverged", "pruned")),
            ago(now - s.last_activity),
            "   ".join(
                f"{clipped(o.name)} {ARROWS[o.direction]} {measured(o.name, s.best.get(o.name))}" for o in s.objectives
            ),
        )
        for s in summaries
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def status_text(status: str, live: bool) -> str:
    """`● running` while a coordinator is at work, `interrupted` where it died; else the status as stored."""
    if status == "running":
        return "● running" if live else "interrupted"
    return status


def is_live(status: str, lease: Lease | None, now: float) -> bool:
    """True where a coordinator holds the study and has told so lately."""
    return status == "running" and lease is not None and lease.expires > now


def progress(counts: dict[str, int], wanted: int | None) -> tuple[int, int]:
    """(trials done, trials there will be), the second never below what there is."""
    there = sum(counts.values())
    done = there - counts.get("queued", 0) - counts.get("running", 0)
    return done, max(wanted or 0, there)
