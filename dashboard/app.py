"""What Streamlit runs: the pages and their navigation. Start it with `nas dashboard`."""

from __future__ import annotations

import streamlit as st

from dashboard.views.navigation import page

# Less empty space above the page than Streamlit leaves.
STYLE = "<style>.stMainBlockContainer {padding: 3.6rem 2.5rem 3rem}</style>"


def main() -> None:
    """One run of the app: the page that the address names."""
    st.set_page_config(page_title="Blockwright", page_icon=":material/account_tree:", layout="wide")
    st.html(STYLE)
    st.navigation([page("studies"), page("pareto"), page("architecture")], position="top").run()


main()
