"""The selected trial beside the plot."""

from __future__ import annotations

import streamlit as st

from dashboard import queries
from dashboard.data.trials import composition, values_rows
from dashboard.text import markdown
from dashboard.views.navigation import go_to
from space.errors import InputError
from store import Study


def selected_trial() -> int | None:
    """The trial that the page's address names; None where it names none."""
    asked = st.query_params.get("trial", "")
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 10 else None


def show_selected(study: Study) -> None:
    """A card on the selected trial, or what to do to select one."""
    number = selected_trial()
    with st.container(border=True):
        if number is None:
            st.markdown("**No trial selected**")
            st.caption("Click a point of the plot or a row of the table.")
            return
        try:
            trial = queries.trial(study, number)
        except InputError as error:
            st.caption(markdown(error))
            return
        st.markdown(f"#### Trial {trial.number}")
        with st.container(horizontal=True, gap="small"):
            show_badges(trial.state, trial.feasible, trial.on_front)
        if trial.reason:
            st.caption(markdown(trial.reason))
        st.table(
            [{"": markdown(name), " ": markdown(value)} for name, value in values_rows(trial)[:10]],
            border="horizontal",
            hide_index=True,
            hide_header=True,
        )
        st.caption(markdown(composition(trial.document)))
        if st.button("Open architecture", type="primary", icon=":material/account_tree:", width="stretch"):
            go_to("architecture", study=study.name, trial=number)


def show_badges(state: str, feasible: bool, on_front: bool) -> None:
    """Badges for what became of a trial."""
    colours = {"complete": "gray", "running": "green", "queued": "gray", "infeasible": "orange"}
    if on_front:
        st.badge("on the front", color="primary")
    elif state == "complete" and not feasible:
        st.badge("misses a constraint", color="orange")
    else:
        st.badge("dominated" if state == "complete" else state, color=colours.get(state, "red"))  # type: ignore[arg-type]
