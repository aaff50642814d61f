"""One architecture: what it is, what it costs, how it learned, and how to take it home."""

from __future__ import annotations

import streamlit as st

from dashboard import queries
from dashboard.connection import guarded
from dashboard.data.diagram import diagram
from dashboard.data.trials import composition, curve_table, drawn_metrics, neighbours, picks_table, values_rows
from dashboard.exports import export_zip
from dashboard.figures.curve import curve_figure
from dashboard.figures.diagram import diagram_figure
from dashboard.figures.style import CONFIG
from dashboard.text import duration, file_name, markdown
from dashboard.views.cost import Situation, choose_situation, show_cost
from dashboard.views.heading import choose_study
from dashboard.views.navigation import go_to, note
from dashboard.views.selection import selected_trial, show_badges
from space.errors import BlockwrightError
from store import Study, TrialRecord

EVERY_S = 3.0


def show() -> None:
    """The page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        study = choose_study()
        if study is None:
            return
        number = _choose_trial(study)
    if number is None:
        st.info(
            "This study has no trial yet; they appear here as they are proposed.", icon=":material/hourglass_empty:"
        )
        return
    trial = queries.trial(study, number)
    waiting = trial.state in ("queued", "running")
    st.fragment(guarded(lambda: _body(study, number)), run_every=EVERY_S if waiting else None)()


def _choose_trial(study: Study) -> int | None:
    """The trial of the address, else the best on the front, else the first; with steps along the front."""
    front = [row.number for row in queries.front(study)]
    asked = selected_trial()
    if asked is None:
        if not sum(queries.counts(study).values()):
            return None
        asked = front[0] if front else 0
        note("trial", asked)
    before, after = neighbours(front, asked)
    key = "trial number"
    if st.session_state.get(key) != asked:
        st.session_state[key] = asked
    st.number_input("Trial", 0, key=key, on_change=lambda: note("trial", st.session_state[key]), width=150)
    _step("Previous on the front", ":material/chevron_left:", before)
    _step("Next on the front", ":material/chevron_right:", after)
    if st.button("Back to the plot", icon=":material/scatter_plot:", type="tertiary"):
        go_to("pareto", study=study.name, trial=asked)
    return asked


def _step(label: str, icon: str, to: int | None) -> None:
    st.button(label, icon=icon, disabled=to is None, on_click=lambda: note("trial", to))


def _body(study: Study, number: int) -> None:
    trial = queries.trial(study, number)
    _headline(trial)
    situation = choose_situation(trial)
    drawing, facts = st.columns([1.25, 1], gap="large")
    with drawing:
        _drawing(trial, situation)
    with facts:
        tabs = st.tabs(["Cost", "Learning", "Choices", "Document", "Export"])
        with tabs[0]:
            show_cost(trial, situation)
        with tabs[1]:
            _learning(trial)
        with tabs[2]:
            st.dataframe(picks_table(trial), hide_index=True, alt="What this trial picked at each choice")
        with tabs[3]:
            _document(study, trial)
        with tabs[4]:
            _export(study, trial)


def _headline(trial: TrialRecord) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(f"Trial {trial.number}", width="content")
        show_badges(trial.state, trial.feasible, trial.on_front)
        st.caption(markdown(composition(trial.document)), width="content")
    if trial.reason:
        st.warning(markdown(trial.reason), icon=":material/info:")
    with st.container(horizontal=True, gap="large"):
        for name, value in values_rows(trial)[:7]:
            st.metric(markdown(name), markdown(value), width="content")


def _drawing(trial: TrialRecord, situation: Situation | None) -> None:
    graph = queries.graph(trial.document)
    shares = situation.shares if situation else {}
    kinds: set[str] = {told["kind"] for _, told in graph.nodes(data=True)}
    about = {kind: queries.about(kind) for kind in sorted(kinds)}
    figure = diagram_figure(diagram(graph, shares), about, dark=st.context.theme.type == "dark")
    st.plotly_chart(figure, key="diagram", config={"displayModeBar": False}, alt=composition(trial.document))
    shade = (
        f"The fuller a box, the more of the latency on {markdown(situation.device)} it takes. "
        if shares and situation
        else ""
    )
    st.caption(f"{shade}Dotted lines are residual ways. Hover over a block to read what it does.")


def _learning(trial: TrialRecord) -> None:
    table = curve_table(trial)
    if table.empty:
        st.caption("No learning curve: this trial was not trained, or has not reported yet.")
        return
    lines, single = drawn_metrics(table)
    with st.container(horizontal=True, gap="large"):
        for name, value in single:
            st.metric(f"{markdown(name)} at the end", markdown(value), width="content")
    for metric in lines:
        st.plotly_chart(curve_figure(table, metric), key=f"curve {metric}", config=CONFIG)
    st.caption(f"Evaluated in {duration(trial.seconds)}.")


def _document(study: Study, trial: TrialRecord) -> None:
    text = queries.yaml(trial.document)
    name = f"{file_name(study.name)}-{trial.number}.yaml"
    st.download_button("Download YAML", text, name, "application/yaml", icon=":material/download:", on_click="ignore")
    st.code(text, language="yaml", height=520)
    st.caption(f"Architecture `{trial.architecture_id[:16]}`. `nas cost {name}` prices this file elsewhere.")


def _export(study: Study, trial: TrialRecord) -> None:
    st.markdown(
        "A folder of plain PyTorch: `model.py`, the trained weights, a model card. It does not need Blockwright."
    )
    if trial.state != "complete":
        st.caption("Only a complete trial can be exported.")
        return
    key = f"export {study.id} {trial.number}"
    if st.button("Prepare the export", icon=":material/inventory_2:", type="primary"):
        st.session_state[key] = True
    if not st.session_state.get(key):
        st.caption("Preparing it scores the test part once; weights that were not kept are trained again.")
        return
    try:
        with st.spinner("Preparing the export"):
            packed = export_zip(study, trial.number)
    except BlockwrightError as error:
        st.session_state[key] = False
        st.error(markdown(error, 1000), icon=":material/error:")
        return
    st.download_button(
        "Download the export (zip)",
        packed,
        f"{file_name(study.name)}-{trial.number}.zip",
        "application/zip",
        icon=":material/download:",
        on_click="ignore",
    )
