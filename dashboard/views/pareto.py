"""The front of a study: plot, selected trial, tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import queries
from dashboard.connection import guarded
from dashboard.data.axes import Axis, first_choice, plot_axes
from dashboard.data.pareto import (
    bounds,
    drawn,
    near_front,
    opens_in_log,
    opens_zoomed,
    pareto_table,
)
from dashboard.data.trials import front_table
from dashboard.figures.pareto import parallel_figure, pareto_figure
from dashboard.figures.style import CONFIG
from dashboard.text import markdown
from dashboard.views.heading import choose_study, show_progress
from dashboard.views.navigation import linked_select, linked_toggle, note
from dashboard.views.selection import selected_trial, show_selected
from dashboard.views.trial_list import show_trials
from store import Points, Study

NONE = "none"
TOLD = 100
"""Front points whose architecture is told when the mouse stands on them."""
LINES = 3_000


def show() -> None:
    """The page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        study = choose_study()
        told = st.container(width="stretch", gap="xxsmall")
    if study is None:
        return
    told.empty()
    body = guarded(lambda: _body(study.name, told))
    st.fragment(body, run_every=_pause(study) if queries.live_now(study) else None)()


def _pause(study: Study) -> float:
    """Seconds between two looks at a running study; longer where a look costs more."""
    return 3.0 if sum(queries.counts(study).values()) < 20_000 else 15.0


def _body(name: str, told: DeltaGenerator) -> None:
    study = queries.study(name)
    was_live = st.session_state.get("live", {}).get(name, False)
    with told:
        live = show_progress(study)
    st.session_state["live"] = {name: live}
    if was_live and not live:
        st.rerun()
    axes = plot_axes(queries.axes(study), study.objectives)
    complete = queries.counts(study).get("complete", 0)
    if not complete:
        st.info("No trial is complete yet; the plot appears with the first one.", icon=":material/hourglass_empty:")
    else:
        x, y, colour = _choose_axes(axes)
        points = queries.points(study, tuple(dict.fromkeys(a.name for a in (x, y, colour) if a is not None)))
        plot, side = st.columns([3, 1.05], gap="medium")
        with plot:
            _plot(study, points, x, y, colour)
        with side:
            show_selected(study)
    _tables(study, complete)


def _choose_axes(axes: dict[str, Axis]) -> tuple[Axis, Axis, Axis | None]:
    x, y, colour = first_choice(axes)
    names = list(axes)

    def title(name: str) -> str:
        return axes[name].title if name in axes else name

    with st.container(horizontal=True, vertical_alignment="bottom"):
        y = linked_select("y", "Vertical", names, y, title, width=290)
        x = linked_select("x", "Horizontal", names, x, title, width=290)
        chosen = linked_select("colour", "Colour", [NONE, *names], colour or NONE, title, width=290)
    return axes[x], axes[y], axes.get(chosen)


def _plot(study: Study, points: Points, x: Axis, y: Axis, colour: Axis | None) -> None:
    table = pareto_table(points, x, y, colour)
    if table.empty:
        st.info("No complete trial has both of these values; choose other axes.", icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        log_x = linked_toggle("logx", "Log horizontal", opens_in_log(table["x"].to_numpy()))
        log_y = linked_toggle("logy", "Log vertical", opens_in_log(table["y"].to_numpy()))
        front_only = linked_toggle("front", "Front only", False)
        zoomed = linked_toggle("zoom", "Near the front", opens_zoomed(table, log_x, log_y))
    shown = table[table["on_front"] | table["step"]] if front_only else table
    number = selected_trial()
    rows, left_out = drawn(shown, keep=number)
    lines, others = bounds(study.settings.get("constraints", []), x, y)
    front = rows[rows["on_front"] | rows["step"]]
    told = queries.told(tuple(front["architecture"].iloc[:TOLD]))
    texts = {one: about.blocks for one, about in told.items()}
    figure = pareto_figure(rows, x, y, colour, log_x, log_y, lines, number, texts, zoomed)
    key = f"plot {study.id} {x.name} {y.name}"
    st.plotly_chart(
        figure,
        key=key,
        on_select=lambda: _clicked(key),
        selection_mode="points",
        config=CONFIG,
        alt=f"Trials of {study.name}: {y.title} over {x.title}",
    )
    hints = ["Click a point to see its trial."]
    outside = int((~near_front(shown, log_x, log_y)).sum()) if zoomed else 0
    if outside:
        hints.append(f"{outside:,} far from the front {'lies' if outside == 1 else 'lie'} outside the view.")
    if left_out:
        hints.append(f"{left_out:,} of {len(shown):,} trials, all dominated, are not drawn (evenly thinned).")
    if others:
        hints.append("Also required: " + ", ".join(markdown(text) for text in others) + ".")
    st.caption(" ".join(hints))


def _clicked(key: str) -> None:
    found: Sequence[dict[str, Any]] = st.session_state[key].selection.points
    for point in found:
        number = point.get("customdata")
        number = number[0] if isinstance(number, list) else number
        if isinstance(number, (int, float)):
            note("trial", int(number))
            return


def _tables(study: Study, complete: int) -> None:
    names = ["Front", "All trials"]
    if complete > 1 and len(study.objectives) > 2:
        names.append("Parallel coordinates")
    tabs = dict(zip(names, st.tabs(names, on_change="rerun", key="tables"), strict=True))
    for name, show_tab in (("Front", _front), ("All trials", show_trials), ("Parallel coordinates", _parallel)):
        if name in tabs and tabs[name].open:
            with tabs[name]:
                show_tab(study)


def _front(study: Study) -> None:
    rows = queries.front(study)
    if not rows:
        st.caption("The front begins with the first complete trial that meets every constraint.")
        return
    told = queries.told(tuple(row.architecture_id for row in rows[:TOLD]))
    table = front_table(rows, study.objectives, told)
    key = f"front {study.id}"
    st.dataframe(
        table,
        key=key,
        hide_index=True,
        on_select=lambda: _picked(key, table["trial"].tolist()),
        selection_mode="single-cell",
        column_config={
            **{c: st.column_config.NumberColumn(format="%.4g") for c in table.columns[1:-1]},
            "blocks": st.column_config.TextColumn(width="large"),
        },
        placeholder="-",
        alt="Trials on the front with their values",
    )


def _picked(key: str, numbers: list[int]) -> None:
    cells = st.session_state[key].selection.cells
    if cells and cells[0][0] < len(numbers):
        note("trial", numbers[cells[0][0]])


def _parallel(study: Study) -> None:
    axes = [plot_axes([o.name], [o])[o.name] for o in study.objectives]
    if st.toggle("Front only", True, key="parallel front"):
        rows = queries.front(study)
        values = pd.DataFrame([[row.values[a.name] for a in axes] for row in rows], columns=[a.name for a in axes])
        left_out = 0
    else:
        points = queries.points(study, tuple(a.name for a in axes))
        values = pd.DataFrame(points.values[-LINES:], columns=list(points.axes))
        left_out = len(points.numbers) - len(values)
    st.plotly_chart(parallel_figure(values, axes, axes[0]), key="parallel", config=CONFIG)
    st.caption("Drag along an axis to keep only the trials that pass there.")
    if left_out:
        st.caption(f"{left_out:,} older trials are not drawn.")
