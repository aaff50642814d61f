"""A real browser on a real dashboard: Studies -> Pareto -> a point -> Architecture -> download."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from store import Store
from tests.dashboard.conftest import CHROMIUM
from tests.dashboard.samples import NASTY, fill, finish_running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not CHROMIUM.exists() and os.environ.get("CI") != "true", reason=f"needs Chromium at {CHROMIUM}"
    ),
]
PATIENCE_MS = 60_000


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1440, "height": 1000})
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


def click_point(page: Any) -> None:
    """Click the rightmost point of the front."""
    points = page.locator(".scatterlayer .trace:last-child .points path")
    points.last.wait_for()
    box = points.last.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 - 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def test_from_the_list_of_studies_to_the_download(tmp_path: Path, page: Any, served: Callable[..., Any]) -> None:
    fill(tmp_path / "s.db", trials=10)
    url, _ = served(tmp_path / "s.db")
    page.goto(url)
    table = page.get_by_test_id("stDataFrame")
    table.locator("canvas").first.wait_for()
    page.wait_for_timeout(1000)
    box = table.bounding_box()
    page.mouse.click(box["x"] + 60, box["y"] + 55)
    page.wait_for_url("**/pareto?study=tiny")
    page.get_by_text("No trial selected").wait_for()
    click_point(page)
    page.get_by_role("button", name="Open architecture").click()
    page.wait_for_url("**/architecture?study=tiny&trial=*")
    page.get_by_text("patch_embed").first.wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    page.get_by_role("tab", name="Document").click()
    with page.expect_download() as told:
        page.get_by_role("button", name="Download YAML").click()
    assert "patch_embed" in Path(told.value.path()).read_text()
    page.get_by_role("tab", name="Export").click()
    page.get_by_role("button", name="Prepare the export").click()
    with page.expect_download() as told:
        page.get_by_role("button", name="Download the export (zip)").click()
    assert told.value.suggested_filename.startswith("tiny-")
    with zipfile.ZipFile(io.BytesIO(Path(told.value.path()).read_bytes())) as packed:
        assert "model.py" in packed.namelist()


def test_a_running_study_grows_before_the_eyes(tmp_path: Path, page: Any, served: Callable[..., Any]) -> None:
    fill(tmp_path / "s.db", trials=6, status="running")
    url, _ = served(tmp_path / "s.db")
    page.goto(f"{url}/pareto?study=tiny&trial=2")
    page.get_by_text("6 of 8 trials").wait_for()
    page.get_by_role("heading", name="Trial 2").wait_for()
    with Store(tmp_path / "s.db") as store:
        finish_running(store, 7, accuracy=0.999, latency=1e-4)
    page.get_by_text("7 of 8 trials").wait_for()
    assert page.get_by_role("heading", name="Trial 2").is_visible()
    with Store(tmp_path / "s.db") as store:
        store.set_study_status("tiny", "finished")
    page.get_by_text("finished", exact=True).wait_for()
    assert "trial=2" in page.url


def test_nothing_of_a_database_is_executed(tmp_path: Path, page: Any, served: Callable[..., Any]) -> None:
    fill(tmp_path / "s.db", trials=6, name=NASTY, objectives=[(NASTY, "max"), ("accuracy", "max")], reason=NASTY)
    url, _ = served(tmp_path / "s.db")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("", "pareto?trial=3", "pareto?trial=1", "architecture?trial=3", "architecture?trial=1"):
        page.goto(f"{url}/{path}")
        page.get_by_test_id("stMain").wait_for()
        page.wait_for_timeout(3000)
        if path.startswith("pareto"):
            page.locator(".scatterlayer .points path").first.hover(force=True)
            page.wait_for_timeout(500)
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src='x'], .hoverlayer img").count() == 0
        assert page.get_by_test_id("stException").count() == 0
    assert not [one for one in asked if one.startswith("http") and not one.startswith(url)]
