"""Where an architecture's time goes, and how it compares over devices."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from dashboard.figures.style import ACCENT, LINE, plain
from dashboard.text import common_unit, plotly, with_unit
from nas.units import quantity


def bars_figure(table: pd.DataFrame) -> go.Figure:
    """Latency of each row of `block_table` or `operator_table` as a bar, in the order of the table."""
    factor, unit = common_unit(table["latency_s"], "s", share=1.0)
    names = [plotly(label, 44) for label in table["label"]]
    hover = [
        f"<b>{name}</b><br>{plotly(quantity(row.latency_s, 's'))}, {row.share:.1%} of the latency".replace("%", "&#37;")
        + f"<br>{plotly(quantity(row.energy_j, 'J'))}<br>{plotly(quantity(float(row.macs), 'count'))} MACs"
        for name, row in zip(names, table.itertuples(), strict=True)
    ]
    figure = go.Figure(
        go.Bar(
            x=table["latency_s"] / factor, y=list(range(len(table))), orientation="h", marker={"color": ACCENT},
            text=[f"{share:.0%}".replace("%", "&#37;") for share in table["share"]], textposition="outside",
            hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", cliponaxis=False,
        )
    )  # fmt: skip
    plain(figure, 90 + 24 * len(table))
    return figure.update_layout(
        margin={"l": 8, "r": 40, "t": 10, "b": 8},
        bargap=0.35,
        xaxis={"title": with_unit("expected latency", unit), "zeroline": False},
        yaxis={"tickvals": list(range(len(table))), "ticktext": names, "autorange": "reversed", "showgrid": False},
    )


def devices_figure(table: pd.DataFrame) -> go.Figure:
    """Latency from low to high with the expected one marked, one line a device, log scale."""
    figure = go.Figure()
    names = [plotly(name) for name in table["device"]]
    for name, row in zip(names, table.itertuples(), strict=True):
        figure.add_trace(
            go.Scatter(
                x=[row.low, row.high], y=[name, name], mode="lines", line={"color": LINE, "width": 7},
                opacity=0.5, hoverinfo="skip",
            )
        )  # fmt: skip
    hover = [
        f"<b>{name}</b><br>expected {plotly(quantity(row.expected, 's'))}<br>"
        + plotly(f"from {quantity(row.low, 's')} to {quantity(row.high, 's')}, bound by {row.bound}")
        for name, row in zip(names, table.itertuples(), strict=True)
    ]
    figure.add_trace(
        go.Scatter(
            x=table["expected"], y=names, mode="markers+text", marker={"size": 12, "color": ACCENT},
            text=[plotly(quantity(v, "s")) for v in table["expected"]], textposition="top center",
            hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    plain(figure, 110 + 52 * len(table))
    return figure.update_layout(
        showlegend=False,
        margin={"l": 8, "r": 8, "t": 10, "b": 8},
        xaxis={"title": "latency (s)", "type": "log", "exponentformat": "SI", "ticksuffix": "s", "dtick": 1},
        yaxis={"autorange": "reversed", "showgrid": False},
    )
