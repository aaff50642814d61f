"""The Pareto plot and the parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from dashboard.data.axes import Axis
from dashboard.data.pareto import Bound, near_front
from dashboard.figures.style import ACCENT, GREY, SCALE, WARNING, WARNING_SOFT, plain
from dashboard.text import common_unit, plotly, with_unit
from nas.units import quantity

AS_VECTORS = 1_500
"""Points drawn as vectors at most; more go to WebGL."""


def pareto_figure(
    table: pd.DataFrame,
    x: Axis,
    y: Axis,
    colour: Axis | None = None,
    log_x: bool = False,
    log_y: bool = False,
    bounds: Sequence[Bound] = (),
    selected: int | None = None,
    texts: Mapping[str, str] | None = None,
    zoomed: bool = False,
    height: int = 500,
) -> go.Figure:
    """Scatter of `pareto_table`: the front as a step line, the rest faint, constraints as lines with a shaded side.

    Every point carries its trial's number as customdata. `texts` are lines about architectures by id. `zoomed` opens
    the view on the surroundings of the front.
    """
    fx, ux = common_unit(table["x"], x.unit)
    fy, uy = common_unit(table["y"], y.unit)
    table = table.assign(px=table["x"] / fx, py=table["y"] / fy)
    hover = pd.Series(_hover(table, x, y, colour, texts or {}), index=table.index)
    figure = go.Figure()
    scatter = go.Scatter if len(table) <= AS_VECTORS else go.Scattergl
    front = table["on_front"] | table["step"]
    tint = _tint(table, colour)

    def add(rows: pd.Series, name: str, marker: dict, coloured: bool) -> None:
        part = table[rows]
        if part.empty:
            return
        if coloured and tint is not None:
            _add_legend(figure, name, marker)
            marker = marker | {"color": tint["values"][rows.to_numpy()], "coloraxis": "coloraxis"}
        unchanged = {"marker": {"opacity": marker.get("opacity", 1.0)}}
        figure.add_trace(
            scatter(
                x=part["px"], y=part["py"], mode="markers", name=name, marker=marker, customdata=part["number"],
                text=hover[rows], hovertemplate="%{text}<extra></extra>", selected=unchanged, unselected=unchanged,
                showlegend=not (coloured and tint is not None),
            )
        )  # fmt: skip

    add(
        ~table["feasible"] & ~front,
        "infeasible",
        {"symbol": "x-thin", "size": 7, "line": {"color": WARNING, "width": 1.4}, "opacity": 0.7},
        False,
    )
    add(table["feasible"] & ~front, "dominated", {"size": 7, "color": GREY, "opacity": 0.55}, True)
    _add_step(figure, table, x, y)
    add(front, "on the front", {"size": 11, "color": ACCENT, "line": {"width": 1.2, "color": "white"}}, True)
    _add_ring(figure, table, selected)
    plain(figure, height)
    # A click tells which points it met by the place in their trace; the revision keeps it while new points come.
    revision = f"{plotly(x.name)}|{plotly(y.name)}|{log_x}|{log_y}|{zoomed}"
    figure.update_layout(clickmode="event+select", dragmode="zoom", uirevision=revision, selectionrevision=revision)
    if tint is not None:
        figure.update_layout(coloraxis={"colorscale": SCALE, "colorbar": {"title": tint["title"], "thickness": 12}})
    view = table[near_front(table, log_x, log_y)] if zoomed else table
    ranges = {}
    for key, axis, log, unit, values in (
        ("x", x, log_x, ux, view["px"]), ("y", y, log_y, uy, view["py"])
    ):  # fmt: skip
        lines = [b.value / (fx if key == "x" else fy) for b in bounds if b.axis == key]
        ranges[key] = _range(values.to_numpy(), lines, log)
        figure.update_layout(
            {
                f"{key}axis": {
                    "title": plotly(with_unit(axis.title, unit)) + _arrow(axis),
                    "type": "log" if log else "linear",
                    "range": ranges[key],
                    "zeroline": False,
                    "minor": {"ticks": ""},
                    "dtick": _log_tick(ranges[key]) if log else None,
                }
            }
        )
    for bound in bounds:
        _add_bound(
            figure, bound, fx if bound.axis == "x" else fy, ranges[bound.axis], log_x if bound.axis == "x" else log_y
        )
    return figure


def parallel_figure(table: pd.DataFrame, axes: Sequence[Axis], colour: Axis, height: int = 420) -> go.Figure:
    """Parallel coordinates of `values`: one line a trial, one upright axis a name, coloured by one of them."""
    dimensions = []
    for axis in axes:
        factor, unit = common_unit(table[axis.name], axis.unit)
        dimensions.append(
            {"label": plotly(with_unit(axis.title, unit), 40) + _arrow(axis), "values": table[axis.name] / factor}
        )
    line = {"color": table[colour.name], "colorscale": SCALE, "showscale": False}
    figure = go.Figure(go.Parcoords(line=line, dimensions=dimensions, labelfont={"size": 13}))
    return figure.update_layout(height=height, margin={"l": 130, "r": 130, "t": 60, "b": 24})


def _hover(table: pd.DataFrame, x: Axis, y: Axis, colour: Axis | None, texts: Mapping[str, str]) -> list[str]:
    """Escaped lines for each point: trial, values with units, architecture."""
    shown = [(axis, column) for axis, column in ((x, "x"), (y, "y"), (colour, "colour")) if axis is not None]
    named = [
        (plotly(axis.title), axis.unit, table[column].to_list()) for axis, column in shown if axis.name != "number"
    ]
    lines = []
    for i, (number, feasible, architecture) in enumerate(
        zip(table["number"], table["feasible"], table["architecture"], strict=True)
    ):
        parts = [f"<b>trial {number}</b>" + ("" if feasible else " (infeasible)")]
        parts += [f"{name} {plotly(quantity(values[i], unit))}" for name, unit, values in named]
        told = texts.get(architecture)
        parts.append(_wrapped(told) if told else f"architecture {plotly(architecture[:12])}")
        lines.append("<br>".join(parts))
    return lines


def _wrapped(text: str, width: int = 46) -> str:
    import textwrap

    return "<br>".join(plotly(line) for line in textwrap.wrap(text, width)[:5])


def _tint(table: pd.DataFrame, colour: Axis | None) -> dict | None:
    if colour is None:
        return None
    factor, unit = common_unit(table["colour"], colour.unit)
    return {"values": (table["colour"] / factor).to_numpy(), "title": _broken(with_unit(colour.title, unit))}


def _broken(title: str) -> str:
    """A colour bar's title on several lines, as there is little room beside the bar."""
    return "<br>".join(plotly(part) for part in title.replace("@", " @").replace("(", " (").split(" ") if part)


def _add_legend(figure: go.Figure, name: str, marker: dict) -> None:
    """A legend entry in the plain colour for a trace whose points have colours of their own."""
    figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, hoverinfo="skip"))


def _add_step(figure: go.Figure, table: pd.DataFrame, x: Axis, y: Axis) -> None:
    line = table[table["step"]].sort_values("px", kind="stable")
    if line.empty:
        return
    shape = "hv" if x.direction == "min" else "vh"
    figure.add_trace(
        go.Scatter(
            x=line["px"], y=line["py"], mode="lines", name="front of these axes", hoverinfo="skip",
            line={"shape": shape, "color": ACCENT, "width": 1.8},
        )
    )  # fmt: skip


def _add_ring(figure: go.Figure, table: pd.DataFrame, selected: int | None) -> None:
    chosen = table[table["number"] == selected]
    if chosen.empty:
        return
    figure.add_trace(
        go.Scatter(
            x=chosen["px"], y=chosen["py"], mode="markers", name=f"trial {selected}", hoverinfo="skip",
            showlegend=False, marker={"size": 22, "symbol": "circle-open", "color": ACCENT, "line": {"width": 3}},
        )
    )  # fmt: skip


def _range(values: np.ndarray, lines: Sequence[float], log: bool) -> list[float]:
    """Axis range (exponents of ten where log) that shows every point, and the constraints that are near."""
    good = values[np.isfinite(values) & ((values > 0) if log else True)]
    if not len(good):
        return [0.0, 1.0]
    scaled = np.log10(good) if log else good
    low, high = float(scaled.min()), float(scaled.max())
    span = (high - low) or abs(high) * 0.1 or 1.0
    for line in lines:
        if log and line <= 0:
            continue
        place = math.log10(line) if log else line
        if low - 0.5 * span <= place <= high + 0.5 * span:
            low, high = min(low, place), max(high, place)
    pad = 0.06 * ((high - low) or span)
    return [low - pad, high + pad]


def _log_tick(limits: Sequence[float]) -> str | None:
    """Ticks at 1, 2 and 5 where the axis spans few decades."""
    return "D2" if limits[1] - limits[0] < 2.5 else None


def _arrow(axis: Axis) -> str:
    return {"max": "  (more is better)", "min": "  (less is better)"}.get(axis.direction, "")


def _add_bound(figure: go.Figure, bound: Bound, factor: float, limits: Sequence[float], log: bool) -> None:
    place = bound.value / factor
    if log and place <= 0:
        return
    shown = math.log10(place) if log else place
    span = limits[1] - limits[0]
    end = limits[0] - 20 * span if bound.feasible_above else limits[1] + 20 * span
    far = 10 ** max(min(end, 300.0), -300.0) if log else end
    across = "y" if bound.axis == "x" else "x"
    area = {f"{bound.axis}0": place, f"{bound.axis}1": far, f"{across}0": 0, f"{across}1": 1}
    references = {f"{bound.axis}ref": bound.axis, f"{across}ref": f"{across} domain"}
    figure.add_shape(type="rect", **area, **references, fillcolor=WARNING_SOFT, line={"width": 0}, layer="below")
    if not limits[0] <= shown <= limits[1]:
        return
    area[f"{bound.axis}1"] = place
    figure.add_shape(type="line", **area, **references, line={"color": WARNING, "width": 1.3, "dash": "dash"})
    text = {"text": plotly(bound.text), "showarrow": False, "font": {"color": WARNING, "size": 12}}
    if bound.axis == "x":
        figure.add_annotation(
            x=shown, y=0.02, yref="y domain", yanchor="bottom", textangle=-90,
            xanchor="left" if not bound.feasible_above else "right", **text,
        )  # fmt: skip
    else:
        figure.add_annotation(y=shown, x=0.01, xref="x domain", xanchor="left", yanchor="bottom", **text)
