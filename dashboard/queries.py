"""What the pages ask of the store and the cost model, kept while it can't have changed.

A study's points are kept until the study is written to again; an architecture's cost and drawing never change.
"""

from __future__ import annotations

import json
import time
from typing import Any

import networkx as nx
import streamlit as st

from dashboard.connection import address, store
from dashboard.data.studies import is_live
from dashboard.data.trials import Told, composition
from store import Measurement, Objective, Points, Study, StudySummary, TrialRecord, TrialRow

KEPT = 32


def studies() -> list[StudySummary]:
    """Every study, the last active first."""
    return store().studies()


def names() -> list[str]:
    """The names of the studies, the last active first."""
    return _names(address(), id(store()))


@st.cache_data(ttl=3.0, max_entries=4, show_spinner=False)
def _names(where: str, opened: int) -> list[str]:
    return [s.name for s in store().studies()]


def live(summaries: list[StudySummary]) -> set[int]:
    """Ids of the studies that a coordinator is at work on."""
    return {s.id for s in summaries if s.status == "running" and live_now(store().study(s.id))}


def live_now(of: Study) -> bool:
    """True where a coordinator is at work on the study."""
    return is_live(of.status, of.lease, time.time())


def study(name: str) -> Study:
    """One study. Raises NameUnknown."""
    return store().study(name)


def points(of: Study, axes: tuple[str, ...]) -> Points:
    """Complete trials of a study on axes."""
    return _points(address(), of.id, axes, of.updated_at)


@st.cache_data(max_entries=KEPT, show_spinner=False)
def _points(where: str, study_id: int, axes: tuple[str, ...], updated_at: float) -> Points:
    return store().points(study_id, axes)


def axes(of: Study) -> list[str]:
    """Names that can be plotted."""
    return _axes(address(), of.id, of.updated_at)


@st.cache_data(max_entries=KEPT, show_spinner=False)
def _axes(where: str, study_id: int, updated_at: float) -> list[str]:
    return store().axes(study_id)


def counts(of: Study) -> dict[str, int]:
    """State -> how many trials of a study."""
    return _counts(address(), of.id, of.updated_at)


@st.cache_data(max_entries=KEPT, show_spinner=False)
def _counts(where: str, study_id: int, updated_at: float) -> dict[str, int]:
    return next(s.counts for s in store().studies() if s.id == study_id)


def told(ids: tuple[str, ...]) -> dict[str, Told]:
    """Architecture id -> its counts and its blocks in a line."""
    return {one: _told(address(), one) for one in ids}


@st.cache_data(max_entries=2_000, show_spinner=False)
def _told(where: str, architecture_id: str) -> Told:
    found = store().architecture(architecture_id)
    return Told(found.params, found.macs, composition(found.document))


def trial(of: Study, number: int) -> TrialRecord:
    """One trial. Raises InputError for a number that the study lacks."""
    return store().trial(of.id, number)


def front(of: Study) -> list[TrialRow]:
    """Trials on the front over the study's objectives, the first objective's best first."""
    return _front(address(), of.id, of.updated_at, of.objectives[0])


@st.cache_data(max_entries=KEPT, show_spinner=False)
def _front(where: str, study_id: int, updated_at: float, first: Objective) -> list[TrialRow]:
    rows = store().front(study_id)
    return sorted(rows, key=lambda r: r.values.get(first.name) or 0.0, reverse=first.direction == "max")


@st.cache_data(max_entries=KEPT, show_spinner=False)
def cost(document: str, hardware: tuple[str, ...], phase: str, batch: int, length: int | None) -> dict[str, Any]:
    """`{"total": Cost.to_json(), "block": {device: rows}, "operator": {device: rows}}` of a document."""
    from costmodel import cost as price
    from space import Architecture

    told = price(
        Architecture.from_document(json.loads(document)), list(hardware), phase=phase, batch=batch, length=length
    )
    return {
        "total": told.to_json(),
        **{what: {name: told.by(what, name) for name in hardware} for what in ("block", "operator")},
    }


@st.cache_data(max_entries=KEPT, show_spinner=False)
def graph(document: str) -> nx.DiGraph:
    """The data flow of a document."""
    from space import Architecture, architecture_graph

    return architecture_graph(Architecture.from_document(json.loads(document)))


@st.cache_data(max_entries=KEPT, show_spinner=False)
def yaml(document: str) -> str:
    """The document as YAML."""
    from space import Architecture

    return Architecture.from_document(json.loads(document)).to_yaml()


@st.cache_data(max_entries=256, show_spinner=False)
def about(kind: str) -> str:
    """What a kind of block is, in the words of its documentation; empty for one that is not installed."""
    from space.catalogue import describe_block
    from space.errors import NameUnknown

    try:
        return describe_block(kind)["text"].split("\n\n")[0]
    except NameUnknown:
        return ""


def devices(measurements: tuple[Measurement, ...]) -> list[str]:
    """Devices that a trial was priced on, then every other profile."""
    from costmodel import hardware_names

    used = dict.fromkeys(m.hardware for m in measurements if m.hardware)
    return [*used, *(name for name in hardware_names() if name not in used)]
