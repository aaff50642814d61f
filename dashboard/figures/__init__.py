"""Plotly figures of the tables of `dashboard.data`."""
