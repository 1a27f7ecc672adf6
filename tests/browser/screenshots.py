"""Make the screenshots of the page and the tab in docs/images again (make screenshots): on Airflow 3.4."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.browser.airflow_server import ENRICHMENT, SINGLE
from tests.browser.scripts import DAY_CHART
from tools.pictures.browser import Page
from tools.pictures.screenshots import smaller

pytestmark = pytest.mark.browser

LINK = "[...document.querySelectorAll('a')].find((a) => a.textContent.trim() === 'Response')"
FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"


def open_in(tab: Page, mode: str, address: str, height: int, ready: str, *, of_ours: bool = True) -> None:
    """Open a page in a mode of Airflow."""
    tab.command("Emulation.setDeviceMetricsOverride", width=1280, height=height, deviceScaleFactor=1.25, mobile=False)
    tab.open(address)
    tab.wait_for("document.querySelector('.responses-ui')" if of_ours else ready)
    tab.run(f"localStorage.setItem('theme', {mode!r})")
    tab.open(address)
    tab.wait_for(ready)


def save(tab: Page, name: str) -> None:
    """Write a picture of the page, once two in a row are the same."""
    before, after = b"", tab.picture()
    while before != after:
        time.sleep(0.5)
        before, after = after, tab.picture()
    content = smaller(after)
    (FOLDER / f"{name}.png").write_bytes(content)
    print(f"{name}.png: {len(content) / 1000:.0f} KB")


def test_screenshots(admin: Page, airflow: Any) -> None:
    for name, mode in (("spend", "light"), ("spend-dark", "dark")):
        open_in(admin, mode, f"{airflow.address}/plugin/responses-spend", 1000, DAY_CHART)
        save(admin, name)
    open_in(
        admin, "light", f"{airflow.task_page(*SINGLE)}/plugin/responses", 860, "document.querySelector('table caption')"
    )
    save(admin, "task-tab")
    open_in(admin, "light", f"{airflow.task_page(*SINGLE)}/details", 420, LINK, of_ours=False)
    save(admin, "task-links")
    open_in(admin, "light", airflow.standalone(*ENRICHMENT), 520, "document.querySelector('[role=progressbar]')")
    save(admin, "task-progress")
