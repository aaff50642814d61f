"""The pages by name, links between them, and choices that stand in the page's address."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from dashboard.connection import guarded

TITLES = {"studies": "Studies", "pareto": "Pareto", "architecture": "Architecture"}
ICONS = {
    "studies": ":material/experiment:",
    "pareto": ":material/scatter_plot:",
    "architecture": ":material/account_tree:",
}


def page(name: str) -> Any:
    """A page as Streamlit's navigation takes it."""
    show = guarded(importlib.import_module(f"dashboard.views.{name}").show)
    return st.Page(show, title=TITLES[name], icon=ICONS[name], url_path=name, default=name == "studies")


def go_to(name: str, **address: object) -> None:
    """Open a page; the address names a study and a trial."""
    st.switch_page(page(name), query_params={key: str(value) for key, value in address.items()})


def note(name: str, value: object) -> None:
    """Write one choice to the page's address, so that it can be sent to someone."""
    if st.query_params.get(name) != str(value):
        st.query_params[name] = str(value)


def linked_select(
    name: str,
    label: str,
    options: Sequence[str],
    default: str,
    format_func: Callable[[str], str] = str,
    **more: Any,
) -> str:
    """A selectbox whose choice stands in the page's address under `name`; what the address names wrongly is ignored."""
    key = f"select {name}"
    asked = st.query_params.get(name)
    value = asked if asked in options else default
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    st.selectbox(
        label, options, key=key, format_func=format_func, on_change=lambda: note(name, st.session_state[key]), **more
    )
    return st.session_state[key]


def linked_toggle(name: str, label: str, default: bool, **more: Any) -> bool:
    """A toggle whose state stands in the page's address as 1 or 0."""
    key = f"toggle {name}"
    value = {"1": True, "0": False}.get(st.query_params.get(name, ""), default)
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    st.toggle(label, key=key, on_change=lambda: note(name, int(st.session_state[key])), **more)
    return st.session_state[key]
