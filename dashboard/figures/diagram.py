"""The drawing of an architecture."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from dashboard.data.diagram import Diagram
from dashboard.figures.style import ACCENT, GREY, LINE, plain, soft
from dashboard.text import plotly

ROW = 48
"""Pixels of a row."""


def diagram_figure(drawing: Diagram, about: Mapping[str, str] | None = None, dark: bool = False) -> go.Figure:
    """Blocks as boxes, the flow from top to bottom, residual ways at their side; a box is filled by its cost share.

    `about` tells what a kind of block is, for the hover box.
    """
    figure = go.Figure()
    ink = "#e8ecec" if dark else "#2b3138"
    _add_flow(figure, drawing)
    most = float(drawing.nodes["share"].max()) or 1.0
    for node in drawing.nodes.itertuples():
        x0, x1 = node.x - node.width / 2, node.x + node.width / 2
        y0, y1 = node.y - node.height / 2, node.y + node.height / 2
        if node.kind == "join":
            continue
        ends = node.kind in ("input", "output")
        figure.add_shape(
            type="path",
            path=_rounded(x0, y0, x1, y1),
            fillcolor="rgba(0,0,0,0)" if ends else soft(0.05 + 0.5 * node.share / most),
            line={"color": GREY if ends or node.role in ("norm", "topology") else ACCENT, "width": 1.2},
            layer="below",
        )
    joins = drawing.nodes[drawing.nodes["kind"] == "join"]
    figure.add_trace(
        go.Scatter(
            x=joins["x"], y=joins["y"], mode="markers+text", text=[plotly(t) for t in joins["label"]],
            marker={"size": 17, "color": "rgba(128,136,140,0.22)", "line": {"color": LINE, "width": 1}},
            textfont={"size": 12, "color": ink}, hoverinfo="skip",
        )
    )  # fmt: skip
    boxes = drawing.nodes[drawing.nodes["kind"] != "join"]
    figure.add_trace(
        go.Scatter(
            x=boxes["x"], y=boxes["y"] + 0.035 * (boxes["detail"] != ""), mode="text", textfont={"size": 12.5, "color": ink},
            text=[_text(b.label, b.detail) for b in boxes.itertuples()],
            hovertext=[_about(b, (about or {}).get(b.kind, "")) for b in boxes.itertuples()],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    plain(figure, max(260, round(drawing.height * ROW) + 24))
    return figure.update_layout(
        showlegend=False,
        margin={"l": 0, "r": 0, "t": 8, "b": 8},
        hoverdistance=60,
        dragmode=False,
        xaxis={"visible": False, "range": [-0.05, drawing.width + 0.1], "fixedrange": True},
        yaxis={"visible": False, "range": [drawing.height + 0.15, -0.3], "fixedrange": True},
    )


def _text(label: str, detail: str) -> str:
    return plotly(label) + (f'<br><span style="font-size:10px">{plotly(detail)}</span>' if detail else "")


def _about(box: object, told: str) -> str:
    import textwrap

    lines = [f"<b>{plotly(box.label)}</b>  {plotly(box.role)}"]  # type: ignore[attr-defined]
    lines += [plotly(line) for line in textwrap.wrap(told, 64)[:8]]
    lines.append(plotly(box.shapes))  # type: ignore[attr-defined]
    if box.share:  # type: ignore[attr-defined]
        lines.append(f"{box.share:.1%} of the latency".replace("%", "&#37;"))  # type: ignore[attr-defined]
    return "<br>".join(lines)


def _add_flow(figure: go.Figure, drawing: Diagram) -> None:
    for skip in (True, False):
        xs: list[float | None] = []
        ys: list[float | None] = []
        for x, y, skips in drawing.edges:
            if skips is skip:
                xs += [*x, None]
                ys += [*y, None]
        line = {"color": LINE, "width": 1.2, "dash": "dot" if skip else "solid", "shape": "linear"}
        figure.add_trace(go.Scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip"))
    ends = [(x[-1], y[-1]) for x, y, skips in drawing.edges if not skips]
    figure.add_trace(
        go.Scatter(
            x=[x for x, _ in ends], y=[y - 0.045 for _, y in ends], mode="markers", hoverinfo="skip",
            marker={"symbol": "triangle-down", "size": 7, "color": LINE},
        )
    )  # fmt: skip


def _rounded(x0: float, y0: float, x1: float, y1: float) -> str:
    rx, ry = 0.025, 0.12
    return (
        f"M {x0 + rx},{y0} L {x1 - rx},{y0} Q {x1},{y0} {x1},{y0 + ry} L {x1},{y1 - ry} Q {x1},{y1} {x1 - rx},{y1}"
        f" L {x0 + rx},{y1} Q {x0},{y1} {x0},{y1 - ry} L {x0},{y0 + ry} Q {x0},{y0} {x0 + rx},{y0} Z"
    )
