"""Every trial of a study, page by page, by state."""

from __future__ import annotations

import math

import streamlit as st

from dashboard import queries
from dashboard.connection import store
from dashboard.data.trials import trials_table
from dashboard.views.navigation import note
from store import Study

ROWS = 100


def show_trials(study: Study) -> None:
    """The table with its filter; a click selects a trial."""
    counts = {state: n for state, n in queries.counts(study).items() if n}
    if not counts:
        st.caption("No trial has been proposed yet.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        states = st.pills(
            "State",
            list(counts),
            selection_mode="multi",
            format_func=lambda state: f"{state} {counts[state]:,}",
            key=f"states {study.id}",
        )
        orders = ["latest first", "oldest first", *(o.name for o in study.objectives)]
        order = st.selectbox("Order", orders, key=f"order {study.id}", width=280)
    total = sum(counts[s] for s in states) if states else sum(counts.values())
    pages = max(1, math.ceil(total / ROWS))
    page = 1
    if pages > 1:
        page = st.number_input(f"Page (of {pages:,})", 1, pages, 1, key=f"page {study.id}", width=160)
    best = {o.name: o.direction for o in study.objectives}
    found = store().trials(
        study.id,
        states=states or None,
        order_by=order if order in best else "number",
        descending=best[order] == "max" if order in best else order == "latest first",
        offset=(page - 1) * ROWS,
        limit=ROWS,
    )
    table = trials_table(found.rows, study.objectives)
    key = f"trials {study.id}"
    numbers = [row.number for row in found.rows]
    st.dataframe(
        table,
        key=key,
        hide_index=True,
        on_select=lambda: _picked(key, numbers),
        selection_mode="single-cell",
        column_config={
            **{c: st.column_config.NumberColumn(format="%.4g") for c in table.columns[3:-2]},
            "reason": st.column_config.TextColumn(width="large"),
        },
        placeholder="-",
        alt="Trials with state, values, time and reason",
    )


def _picked(key: str, numbers: list[int]) -> None:
    cells = st.session_state[key].selection.cells
    if cells and cells[0][0] < len(numbers):
        note("trial", numbers[cells[0][0]])
