"""What Streamlit runs: the pages and their navigation. Start it with `nas dashboard`."""

from __future__ import annotations

import streamlit as st

from dashboard.views.navigation import page

# An icon of Streamlit's set would be fetched from another host.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" width="32" height="32" fill="#129e90">'
    '<rect x="2" y="2" width="8" height="8" rx="2"/><rect x="14" y="2" width="8" height="8" rx="2" opacity=".55"/>'
    '<rect x="2" y="14" width="8" height="8" rx="2" opacity=".55"/><rect x="14" y="14" width="8" height="8" rx="2"/></svg>'
)
# Less empty space above the page than Streamlit leaves.
STYLE = "<style>.stMainBlockContainer {padding: 3.6rem 2.5rem 3rem}</style>"


def main() -> None:
    """One run of the app: the page that the address names."""
    st.set_page_config(page_title="Blockwright", page_icon=ICON, layout="wide")
    st.html(STYLE)
    st.navigation([page("studies"), page("pareto"), page("architecture")], position="top").run()


main()
