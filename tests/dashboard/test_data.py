"""Tables of the dashboard against slow, obvious ways to the same figures."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from dashboard.data.axes import first_choice, plot_axes
from dashboard.data.cost import block_table, largest, operator_table, short_path
from dashboard.data.diagram import diagram, options_text
from dashboard.data.pareto import bounds, drawn, front_mask, near_front, opens_in_log, opens_zoomed, pareto_table
from dashboard.data.studies import is_live, progress, status_text, studies_table
from dashboard.data.trials import Told, composition, drawn_metrics, front_table, neighbours, trials_table
from store import Lease, Objective, Points, StudySummary, TrialRow

OBJECTIVES = (Objective("accuracy", "max"), Objective("latency@x", "min"))


def make_points(values: np.ndarray, feasible: np.ndarray | None = None, axes: tuple[str, ...] = ("a", "b")) -> Points:
    n = len(values)
    allowed = np.ones(n, dtype=bool) if feasible is None else feasible
    return Points(axes, np.arange(n), np.arange(n), values, np.zeros(n, dtype=bool), allowed, tuple(map(str, range(n))))


def brute_front(x: np.ndarray, y: np.ndarray, dx: str, dy: str, allowed: np.ndarray) -> np.ndarray:
    a, b = (x if dx == "min" else -x), (y if dy == "min" else -y)
    rows = range(len(x))
    return np.array(
        [
            allowed[i]
            and not any(
                allowed[j] and a[j] <= a[i] and b[j] <= b[i] and (a[j] < a[i] or b[j] < b[i]) for j in rows if j != i
            )
            for i in rows
        ],
        dtype=bool,
    )


@pytest.mark.parametrize("size", [0, 1, 2, 63, 100])
@pytest.mark.parametrize("directions", [("min", "min"), ("min", "max"), ("max", "min"), ("max", "max")])
def test_front_equals_comparing_all_pairs(size: int, directions: tuple[str, str]) -> None:
    random = np.random.default_rng(size)
    for grain in (4, 1000):
        x, y = random.integers(0, grain, (2, size)).astype(float)
        allowed = random.random(size) < 0.8
        got = front_mask(x, y, *directions, allowed)
        assert got.tolist() == brute_front(x, y, *directions, allowed).tolist()


def test_no_front_without_a_direction() -> None:
    assert not front_mask(np.ones(3), np.ones(3), "", "min", np.ones(3, dtype=bool)).any()


def test_axes_put_objectives_first_and_hide_times() -> None:
    axes = plot_axes(["accuracy", "latency@x", "params", "number", "seconds", "queued_at"], OBJECTIVES)
    assert list(axes) == ["accuracy", "latency@x", "params", "number", "seconds"]
    assert [a.direction for a in axes.values()] == ["max", "min", "min", "", ""]
    assert (axes["latency@x"].unit, axes["seconds"].unit) == ("s", "s")
    assert first_choice(axes) == ("latency@x", "accuracy", None)


def test_drawn_keeps_the_front_and_the_selected() -> None:
    random = np.random.default_rng(0)
    axes = plot_axes(["accuracy", "latency@x"], OBJECTIVES)
    points = make_points(random.random((5000, 2)), axes=("accuracy", "latency@x"))
    table = pareto_table(points, axes["latency@x"], axes["accuracy"])
    assert (table["x"] == points.values[:, 1]).all()
    rows, left_out = drawn(table, limit=100, keep=4321)
    assert left_out == 5000 - len(rows)
    assert table["step"].sum() == rows["step"].sum() > 0
    assert 4321 in set(rows["number"])
    assert rows["number"].is_monotonic_increasing
    assert drawn(table, limit=5000)[1] == 0


def test_constraints_are_lines_where_their_axis_is_shown() -> None:
    axes = plot_axes(["accuracy", "latency@stm32f746"], [Objective("accuracy", "max")])
    texts = ["latency@stm32f746 <= 5ms", "accuracy >= 0.9", "params <= 100K", "own_metric <= 3"]
    lines, others = bounds(texts, axes["latency@stm32f746"], axes["accuracy"])
    assert [(b.axis, b.value, b.feasible_above) for b in lines] == [("x", 0.005, False), ("y", 0.9, True)]
    assert others == ["params <= 100K", "own_metric <= 3"]


def test_views_open_where_the_front_can_be_seen() -> None:
    axes = plot_axes(["accuracy", "latency@x"], OBJECTIVES)
    values = np.array([[0.97, 1.0], [0.98, 2.0], [0.99, 3.0], [0.1, 2.0]])
    table = pareto_table(make_points(values, axes=("accuracy", "latency@x")), axes["latency@x"], axes["accuracy"])
    assert near_front(table, False, False).tolist() == [True, True, True, False]
    assert opens_zoomed(table, False, False)
    assert opens_in_log(np.array([1.0, 40.0]))
    assert not opens_in_log(np.array([0.0, 40.0]))


def row(number: int, state: str = "complete", **values: float) -> TrialRow:
    return TrialRow(
        number, 1, number, number, f"id{number}", "k", state, "why <b>", True, number == 0, 1, None, 0.0, None, None, 75.0,
        values,
    )  # fmt: skip


def test_tables_carry_units_and_missing_values() -> None:
    rows = [row(0, accuracy=0.9, **{"latency@x": 0.002}), row(1, "failed")]
    table = trials_table(rows, OBJECTIVES)
    assert list(table.columns) == ["trial", "state", "front", "accuracy", "latency@x (ms)", "time", "reason"]
    assert table["latency@x (ms)"].tolist()[0] == pytest.approx(2.0)
    assert np.isnan(table["latency@x (ms)"].tolist()[1])
    assert table["time"].tolist() == ["1 min 15 s"] * 2
    front = front_table(
        [row(0, accuracy=0.9), row(1, accuracy=0.95)], OBJECTIVES[:1], {"id1": Told(12_000, 5e6, "mlp")}
    )
    assert front["trial"].tolist() == [1, 0]
    assert front["params (K)"].tolist()[0] == 12.0
    assert front["blocks"].tolist() == ["mlp", ""]


def test_studies_show_who_is_at_work() -> None:
    counts = {"complete": 3, "running": 1, "queued": 2, "failed": 1, "diverged": 1}
    summary = StudySummary(
        7, "s", "running", OBJECTIVES, counts, {"accuracy": 0.9, "latency@x": None}, 0.0, 100.0, None
    )
    table = studies_table([summary], {7}, 220.0)
    told = table.iloc[0].to_dict()
    assert (told["status"], told["complete"], told["open"], told["failed"]) == ("● running", 3, 3, 2)
    assert told["last activity"] == "2 min ago"
    assert told["best of each objective"] == "accuracy ↑ 0.9   latency@x ↓ -"
    assert status_text("running", False) == "interrupted"
    assert is_live("running", Lease("h", "m", 1, 0.0, 10.0), 5.0)
    assert not is_live("running", Lease("h", "m", 1, 0.0, 10.0), 11.0)
    assert progress(counts, 20) == (5, 20)
    assert progress(counts, None) == (5, 8)


def test_composition_counts_leaf_blocks_and_repetitions() -> None:
    layer = {"layer": {"channel": {"mlp": {"ratio": 2.0}}, "mixer": {"attention": {}}, "norm": {"rms_norm": {}}}}
    blocks = [{"patch_embed": {"dim": 8}}, {"repeat": {"times": 3, "block": layer}}, {"classifier": {"classes": 2}}]
    document = {"architecture": {"sequence": {"blocks": blocks}}}
    assert composition(document) == "patch_embed, 3 attention, 3 mlp, classifier"
    assert composition({"architecture": None}) == ""


def test_metrics_of_one_step_are_told_not_drawn() -> None:
    rows = [("loss", 1, 2.0), ("loss", 2, 1.0), ("accuracy", 2, 0.9)]
    curve = pd.DataFrame([(m, "validation", s, v) for m, s, v in rows], columns=["metric", "split", "step", "value"])
    assert drawn_metrics(curve) == (["loss"], [("accuracy", "0.9")])


def test_neighbours_walk_the_front() -> None:
    assert neighbours([5, 2, 9], 2) == (5, 9)
    assert neighbours([5, 2, 9], 5) == (None, 2)
    assert neighbours([5, 2, 9], 4) == (9, 5)
    assert neighbours([], 4) == (None, None)


def test_costs_are_summed_by_operator_and_shared_by_block() -> None:
    rows = [
        {"operator": name, "block": f"sequence[{i}].{name}", "latency_s": t, "energy_j": t, "macs": 10, "bound": "x"}
        for i, (name, t) in enumerate([("mm", 1.0), ("add", 2.0), ("mm", 5.0)])
    ]
    operators = operator_table(rows)
    assert operators[["label", "latency_s", "times"]].values.tolist() == [["mm", 6.0, 2], ["add", 2.0, 1]]
    blocks = block_table(rows)
    assert blocks["share"].tolist() == [0.125, 0.25, 0.625]
    assert largest(blocks, 2)[0]["path"].tolist() == ["sequence[1].add", "sequence[2].mm"]
    assert largest(blocks, 2)[1] == 1
    assert short_path("sequence[1].layer.mixer.sequence[1].depthwise_conv") == "[1] mixer depthwise_conv"
    assert short_path("") == "whole network"


def chain(blocks: int) -> nx.DiGraph:
    """Blocks in turn, each with a residual way around it."""
    graph = nx.DiGraph()
    plain = {"options": {}, "role": "mixer", "group": "", "repetition": 1, "in_shape": "s", "out_shape": "s"}

    def add(name: str, kind: str, sources: dict[str, bool], **told: object) -> None:
        graph.add_node(name, **(plain | {"kind": kind, "label": kind, "path": name} | told))
        for source, skip in sources.items():
            graph.add_edge(source, name, skip=skip)

    add("input", "input", {})
    last = "input"
    for i in range(blocks):
        add(f"b{i}", "attention", {last: False}, options={"heads": 4})
        add(f"j{i}", "join", {f"b{i}": False, last: True}, label="+")
        last = f"j{i}"
    add("output", "output", {last: False})
    return graph


@pytest.mark.parametrize("blocks", [1, 5, 30, 60])
def test_no_two_boxes_of_a_drawing_overlap(blocks: int) -> None:
    graph = chain(blocks)
    drawing = diagram(graph, {"b0": 0.4})
    assert set(drawing.nodes["name"]) == set(graph)
    assert len(drawing.edges) == graph.number_of_edges()
    boxes = drawing.nodes[["x", "y", "width", "height"]].to_numpy()
    for i, (x, y, w, h) in enumerate(boxes):
        others = np.delete(boxes, i, axis=0)
        apart = (abs(others[:, 0] - x) >= (others[:, 2] + w) / 2) | (abs(others[:, 1] - y) >= (others[:, 3] + h) / 2)
        assert apart.all()
    assert drawing.nodes["share"].max() == 0.4
    assert drawing.height < 75


def test_branches_stand_side_by_side() -> None:
    graph = chain(0)
    graph.remove_edge("input", "output")
    plain = dict(graph.nodes["input"]) | {"kind": "mlp"}
    for name in ("a", "b", "c"):
        graph.add_node(name, **(plain | {"path": name}))
        graph.add_edge("input", name, skip=False)
        graph.add_edge(name, "output", skip=False)
    nodes = diagram(graph).nodes.set_index("name")
    assert len(set(nodes.loc[["a", "b", "c"], "x"])) == 3
    assert len(set(nodes.loc[["a", "b", "c"], "y"])) == 1


def test_options_are_short() -> None:
    assert (
        options_text({"heads": 4, "ratio": 2.0, "rotary": True, "window": None, "causal": False})
        == "heads 4, ratio 2, rotary"
    )
