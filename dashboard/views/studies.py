"""Every study of the database."""

from __future__ import annotations

import time

import streamlit as st

from dashboard import queries
from dashboard.connection import address, guarded, nothing_yet
from dashboard.data.studies import studies_table
from dashboard.text import markdown, without_password
from dashboard.views.navigation import go_to

EVERY_S = 4.0


def show() -> None:
    """The page."""
    st.subheader("Studies")
    st.caption(f"{markdown(without_password(address()))} · click a study to see its front")
    st.fragment(guarded(_table), run_every=EVERY_S)()


def _table() -> None:
    summaries = queries.studies()
    if not summaries:
        nothing_yet()
        return
    live = queries.live(summaries)
    table = studies_table(summaries, live, time.time())
    chosen = st.dataframe(
        table,
        key="studies",
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        row_height=42,
        column_config={
            "study": st.column_config.TextColumn(width="medium"),
            "best of each objective": st.column_config.TextColumn(help="↑ more is better, ↓ less is better"),
            "open": st.column_config.NumberColumn(help="Queued or running"),
            "infeasible": st.column_config.NumberColumn(help="Missed a constraint"),
            "failed": st.column_config.NumberColumn(help="Failed, diverged or pruned; the trials' table tells why"),
        },
        alt="Studies with their state, counts of trials and best values",
    )
    cells = chosen.selection.cells
    if cells and cells[0][0] < len(summaries):
        go_to("pareto", study=summaries[cells[0][0]].name)
