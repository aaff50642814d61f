"""Figures: what they draw, with which units, and that no text of a database becomes markup in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from dashboard.data.axes import Axis
from dashboard.data.cost import block_table, device_table
from dashboard.data.diagram import diagram
from dashboard.data.pareto import Bound, pareto_table
from dashboard.figures.cost import bars_figure, devices_figure
from dashboard.figures.curve import curve_figure
from dashboard.figures.diagram import diagram_figure
from dashboard.figures.pareto import AS_VECTORS, parallel_figure, pareto_figure
from store import Points
from tests.dashboard.samples import NASTY
from tests.dashboard.test_data import chain

ACCURACY = Axis("accuracy", "max", "", True)
LATENCY = Axis("latency@x", "min", "s", True)


def make_table(size: int, x: Axis = LATENCY) -> pd.DataFrame:
    random = np.random.default_rng(size)
    values = np.column_stack([random.uniform(1e-3, 9e-3, size), random.random(size)])
    feasible = np.arange(size) % 7 != 3
    ids = tuple(f"{i:064x}" for i in range(size))
    points = Points(
        (x.name, "accuracy"), np.arange(size), np.arange(size) * 2, values, ~feasible & False, feasible, ids
    )
    return pareto_table(points, x, ACCURACY)


def by_name(figure: go.Figure) -> dict[str, go.Scatter]:
    return {trace.name: trace for trace in figure.data}


def test_pareto_draws_front_dominated_infeasible_and_selected() -> None:
    table = make_table(60)
    figure = pareto_figure(table, LATENCY, ACCURACY, selected=10)
    traces = by_name(figure)
    drawn = [n for name in ("infeasible", "dominated", "on the front") for n in traces[name].customdata]
    assert sorted(drawn) == sorted(table["number"])
    front = table[table["step"]].sort_values("x")
    step = traces["front of these axes"]
    assert step.line.shape == "hv"
    assert list(step.x) == pytest.approx((front["x"] * 1e3).tolist())
    assert list(traces["trial 10"].x) == pytest.approx([table.set_index("number").loc[10, "x"] * 1e3])
    assert figure.layout.xaxis.title.text == "latency@x (ms)  (less is better)"
    assert figure.layout.yaxis.title.text == "accuracy  (more is better)"
    low, high = figure.layout.xaxis.range
    assert low < table["x"].min() * 1e3 < table["x"].max() * 1e3 < high


def test_many_points_go_to_webgl() -> None:
    figure = pareto_figure(make_table(AS_VECTORS + 1), LATENCY, ACCURACY)
    assert isinstance(by_name(figure)["dominated"], go.Scattergl)


@pytest.mark.parametrize("log", [False, True])
def test_constraints_are_drawn_with_their_infeasible_side(log: bool) -> None:
    table = make_table(40)
    bounds = [Bound("x", 0.005, False, "latency@x <= 5ms"), Bound("y", 0.5, True, "accuracy >= 0.5")]
    figure = pareto_figure(table, LATENCY, ACCURACY, log_x=log, bounds=bounds)
    areas = [s for s in figure.layout.shapes if s.type == "rect"]
    lines = [s for s in figure.layout.shapes if s.type == "line"]
    assert lines[0].x0 == pytest.approx(5.0)
    assert areas[0].x1 > table["x"].max() * 1e3
    assert areas[1].y1 < 0.0
    assert [a.text for a in figure.layout.annotations] == ["latency@x &lt;= 5ms", "accuracy &gt;= 0.5"]


def test_no_text_becomes_markup() -> None:
    axis = Axis(NASTY, "min", "", True)
    table = make_table(20, x=axis)
    texts = dict.fromkeys(table["architecture"], NASTY)
    figures = [
        pareto_figure(table, axis, ACCURACY, axis, bounds=[Bound("x", 0.005, False, NASTY)], texts=texts),
        parallel_figure(pd.DataFrame({NASTY: [1.0, 2.0]}), [axis], axis),
        curve_figure(pd.DataFrame({"metric": [NASTY], "split": [NASTY], "step": [1], "value": [1.0]}), NASTY),
        bars_figure(block_table([{"block": NASTY, "latency_s": 1.0, "energy_j": 1.0, "macs": 1, "bound": NASTY}])),
    ]
    graph = chain(2)
    graph.nodes["b0"].update(label=NASTY, options={NASTY[:10]: NASTY[:15]}, in_shape=NASTY)
    figures.append(diagram_figure(diagram(graph), {"attention": NASTY}))
    for figure in figures:
        told = figure.to_json()
        assert "<img" not in told
        assert "\\u003cimg" not in told
        assert "<b>bold" not in told
        assert "\\u003cb\\u003ebold" not in told
        assert "%{x}" not in told.replace("step %{x}", "")


def test_costs_have_units() -> None:
    rows = [{"block": f"[{i}]", "latency_s": 0.002, "energy_j": 1.0, "macs": 1, "bound": "compute"} for i in range(3)]
    bars = bars_figure(block_table(rows))
    assert list(bars.data[0].x) == pytest.approx([2.0] * 3)
    assert bars.layout.xaxis.title.text == "expected latency (ms)"
    one = {
        "latency_s": {"low": 1e-3, "expected": 2e-3, "high": 3e-3},
        "energy_j": 1,
        "peak_memory_bytes": 1,
        "fits": None,
    }
    devices = devices_figure(
        device_table({"hardware": {"a": one | {"bound": "memory"}, "b": one | {"bound": "compute"}}})
    )
    assert [list(t.x) for t in devices.data[:2]] == [[1e-3, 3e-3]] * 2
    assert list(devices.data[2].text) == ["2 ms", "2 ms"]


def test_a_drawing_has_every_block() -> None:
    figure = diagram_figure(diagram(chain(30)))
    assert len([t for t in figure.data[-1].text if t.startswith("attention")]) == 30
    assert len(figure.layout.shapes) == 32
