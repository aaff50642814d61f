"""The pages without a browser, on databases of every kind."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard.server import APP
from store import Store
from tests.dashboard.samples import NASTY, add_running, fill, finish_running

pytestmark = [
    # Streamlit's own: it still reads a name that its websocket library has renamed.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:streamlit.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets.*"),
]
Opener = Callable[..., AppTest]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    """Opens a page of a database."""
    st.cache_resource.clear()
    st.cache_data.clear()

    def open_page(path: Path | str, page: str = "studies", **address: str) -> AppTest:
        monkeypatch.setenv("BLOCKWRIGHT_STORE", str(path))
        script = (
            f"import dashboard.views.{page} as view\nfrom dashboard.connection import guarded\nguarded(view.show)()\n"
        )
        app = AppTest.from_string(script, default_timeout=60)
        for name, value in address.items():
            app.query_params[name] = value
        return app.run()

    yield open_page
    st.cache_resource.clear()
    st.cache_data.clear()


def said(app: AppTest) -> str:
    """Everything that the page says in words."""
    parts = [*app.markdown, *app.caption, *app.error, *app.info, *app.warning, *app.subheader, *app.code]
    return "\n".join(str(p.value) for p in parts)


def test_app_has_its_three_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "s.db", trials=3)
    monkeypatch.setenv("BLOCKWRIGHT_STORE", str(tmp_path / "s.db"))
    app = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not app.exception
    assert app.subheader[0].value == "Studies"


@pytest.mark.parametrize("page", ["studies", "pareto", "architecture"])
def test_every_page_on_every_kind_of_database(page: str, tmp_path: Path, opened: Opener) -> None:
    with Store(tmp_path / "empty.db"):
        pass
    with Store(tmp_path / "begun.db") as store:
        store.create_study("begun", "name: s", "0" * 64, {}, [("accuracy", "max")])
    (tmp_path / "garbage.db").write_bytes(b"no database" * 100)
    (tmp_path / "torn.db").write_bytes(b"SQLite format 3\x00" + b"\xff" * 3000)
    (tmp_path / "other.db").touch()
    with sqlite3.connect(tmp_path / "newer.db") as newer, sqlite3.connect(tmp_path / "empty.db") as empty:
        empty.backup(newer)
        newer.execute("UPDATE blockwright_version SET version_num = '9999_from_the_future'")
    fill(tmp_path / "finished.db", trials=6)
    fill(tmp_path / "running.db", trials=6, status="running")
    for name, words in {
        "empty": "nas run",
        "begun": "",
        "garbage": "not a database",
        "torn": "",
        "other": "",
        "newer": "newer",
        "missing": "nas run",
        "nowhere/at/all": "does not exist",
        "finished": "",
        "running": "",
    }.items():
        app = opened(tmp_path / f"{name}.db", page)
        assert not app.exception, name
        told = said(app).replace("\\", "")
        assert words in told, (name, told)
        assert "could not be drawn" not in told, (name, told)
        assert "Traceback" not in told


def test_studies_table_tells_who_is_running(tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db", trials=4, name="done")
    fill(tmp_path / "s.db", trials=4, name="busy", status="running")
    table = opened(tmp_path / "s.db").dataframe[0].value
    assert dict(zip(table["study"], table["status"], strict=True)) == {"done": "finished", "busy": "● running"}


def test_pareto_page_follows_its_address(tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db")
    app = opened(tmp_path / "s.db", "pareto", study="tiny", x="params", y="accuracy", trial="3", logx="0")
    told = said(app)
    assert "Trial 3" in told
    assert "finished" in told
    boxes = {s.label: s.value for s in app.selectbox}
    assert (boxes["Horizontal"], boxes["Vertical"]) == ("params", "accuracy")
    assert {t.label: t.value for t in app.toggle}["Log horizontal"] is False
    app.selectbox(key="select x").select("energy@stm32f746").run()
    assert app.query_params["x"] in ("energy@stm32f746", ["energy@stm32f746"])
    assert not app.exception


@pytest.mark.parametrize(
    "address",
    [
        {"study": "../../etc/passwd"},
        {"study": NASTY},
        {"study": "tiny", "trial": "999"},
        {"study": "tiny", "trial": "-1"},
        {"study": "tiny", "trial": "1e99"},
        {"study": "tiny", "trial": "٣"},
        {"study": "tiny", "x": "no such axis", "colour": "'; DROP TABLE trials; --", "logx": "maybe"},
        {"study": "tiny", "device": "/etc/passwd", "phase": "sleep"},
    ],
)
@pytest.mark.parametrize("page", ["pareto", "architecture"])
def test_a_wrong_address_ends_in_words(page: str, address: dict[str, str], tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db", trials=5)
    app = opened(tmp_path / "s.db", page, **address)
    assert not app.exception
    assert "could not be drawn" not in said(app)
    if address.get("trial") == "999":
        assert "has no trial 999" in said(app).replace("\\", "")
    if "passwd" in address["study"]:
        assert "There is no study" in said(app)


def test_new_trials_appear_and_the_selection_stays(tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db", trials=6, status="running")
    app = opened(tmp_path / "s.db", "pareto", study="tiny", trial="2")
    assert "6 of 8 trials" in said(app)
    with Store(tmp_path / "s.db") as store:
        finish_running(store, 7, accuracy=0.999, latency=1e-4)
        add_running(store, 1, 7)
    app.run()
    assert "7 of 8 trials" in said(app)
    assert "Trial 2" in said(app)
    front = app.dataframe[0].value
    assert front["trial"].tolist() == [6]


def test_architecture_page_tells_everything(tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db")
    app = opened(tmp_path / "s.db", "architecture", study="tiny", trial="0")
    assert not app.exception
    figures = {m.label: m.value for m in app.metric}
    assert {"accuracy", "parameters", "MACs", "weights"} <= {label.replace("\\", "") for label in figures}
    assert {"choice", "pick"} in [set(t.value.columns) for t in app.dataframe]
    assert {"device", "latency", "fits"} <= set(app.dataframe[0].value.columns)
    assert any("patch_embed" in c.value for c in app.code)
    app.selectbox(key="select phase").select("training").run()
    app.selectbox(key="select device").select("h100-sxm").run()
    assert not app.exception


def test_a_failed_trial_tells_why(tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db", trials=5)
    app = opened(tmp_path / "s.db", "architecture", study="tiny", trial="3")
    told = said(app).replace("\\", "")
    assert "the worker was killed" in told
    assert "Only a complete trial can be exported." in told


@pytest.mark.parametrize("page", ["studies", "pareto", "architecture"])
def test_text_of_a_database_stays_text(page: str, tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db", trials=5, name=NASTY, objectives=[(NASTY, "max"), ("accuracy", "max")], reason=NASTY)
    app = opened(tmp_path / "s.db", page, study=NASTY, trial="3")
    assert not app.exception
    assert "could not be drawn" not in said(app)
    for element in [*app.markdown, *app.caption, *app.warning, *app.error, *app.subheader]:
        assert not re.search(r"(?<!\\)(<|!\[|:red\[)", element.value)
        assert not getattr(element.proto, "allow_html", False)


def test_the_database_is_never_written(tmp_path: Path, opened: Opener) -> None:
    fill(tmp_path / "s.db", trials=5)
    before = (tmp_path / "s.db").read_bytes()
    for page in ("studies", "pareto", "architecture"):
        opened(tmp_path / "s.db", page, study="tiny", trial="1")
    assert (tmp_path / "s.db").read_bytes() == before
