"""What stands above the pages of one study: which study, how far it is."""

from __future__ import annotations

import streamlit as st

from dashboard import queries
from dashboard.connection import nothing_yet
from dashboard.data.studies import progress, status_text
from dashboard.text import clipped, markdown
from dashboard.views.navigation import linked_select, note
from store import Study

COLOURS = {"● running": "green", "finished": "gray", "interrupted": "orange", "failed": "red", "stopped": "orange"}


def choose_study() -> Study | None:
    """The study that the address names, or the one looked at last, or the last active; None where there is none."""
    names = queries.names()
    if not names:
        nothing_yet()
        return None
    asked = st.query_params.get("study")
    if asked is not None and asked not in names:
        st.warning(f"There is no study {markdown(asked)} in this database.", icon=":material/search_off:")
    before = st.session_state.get("last study")
    name = linked_select("study", "Study", names, before if before in names else names[0], clipped, width=420)
    st.session_state["last study"] = name
    note("study", name)
    return queries.study(name)


def show_progress(study: Study) -> bool:
    """A line on the study's state; True while it is live."""
    live = queries.live_now(study)
    text = status_text(study.status, live)
    counts = queries.counts(study)
    done, wanted = progress(counts, study.settings.get("search", {}).get("trials"))
    parts = [f"{done:,} of {wanted:,} trials"]
    parts += [f"{counts[s]:,} {s}" for s in ("infeasible", "failed", "diverged", "pruned") if counts.get(s)]
    if study.hypervolume is not None:
        parts.append(f"hypervolume {study.hypervolume:.4g}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(text, color=COLOURS.get(text, "gray"))  # type: ignore[arg-type]
        st.caption(" · ".join(parts), width="content")
    if live:
        st.progress(min(done / wanted, 1.0) if wanted else 0.0)
    elif text == "interrupted":
        st.caption("Its run has ended without a word. `nas run SPACE.yaml --resume` goes on where it stopped.")
    return live
