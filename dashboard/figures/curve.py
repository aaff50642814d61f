"""Learning curves."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.figures.style import ACCENT, LINE, plain
from dashboard.text import plotly


def curve_figure(table: pd.DataFrame, metric: str) -> go.Figure:
    """One metric of `curve_table` over the steps: training faint, validation in the accent."""
    figure = go.Figure()
    for split, part in table[table["metric"] == metric].groupby("split", sort=True):
        training = split == "train"
        figure.add_trace(
            go.Scatter(
                x=part["step"], y=part["value"], name=plotly(split, 40), mode="lines" if len(part) > 3 else "markers",
                line={"color": LINE if training else ACCENT, "width": 1.8},
                marker={"size": 10, "color": LINE if training else ACCENT},
                hovertemplate="step %{x}: %{y:.4g}<extra></extra>",
            )
        )  # fmt: skip
    plain(figure, 300)
    return figure.update_layout(
        showlegend=True, xaxis={"title": "step", "zeroline": False}, yaxis={"title": plotly(metric), "zeroline": False}
    )
