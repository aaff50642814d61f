"""Tables for the pages: pure functions of what the store and the cost model give, without Streamlit."""
