"""Colours and sizes that all figures share; they read on light and on dark ground. Text colour comes from the page."""

from __future__ import annotations

import plotly.graph_objects as go

ACCENT = "#129e90"
ACCENT_SOFT = "rgba(18,158,144,{alpha:.3f})"
GREY = "rgba(128,136,140,0.38)"
LINE = "rgba(128,136,140,0.75)"
WARNING = "#d08a1d"
WARNING_SOFT = "rgba(208,138,29,0.09)"
SCALE = [[0.0, "#c9e265"], [0.35, "#35b779"], [0.7, "#21819a"], [1.0, "#5a4fa3"]]
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"], "scrollZoom": False}


def soft(alpha: float) -> str:
    """The accent, more or less of it."""
    return ACCENT_SOFT.format(alpha=alpha)


def plain(figure: go.Figure, height: int) -> go.Figure:
    """The figure with the margins, legend and hover box of this dashboard."""
    return figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 30, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.01, "xanchor": "left", "x": 0, "title": None},
        hoverlabel={"align": "left"},
        hovermode="closest",
    )
