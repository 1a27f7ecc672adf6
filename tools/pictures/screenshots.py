"""The two screenshots of Airflow: the XComs of a task, and the form of a connection."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from . import programs
from .airflow import airflow
from .browser import Page, chromium, page

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "dags_examples" / "quickstart.py"
TASK: Final = "haiku"
TEXT: Final = "Rows flow through the night,\nevery task returns in green:\nmorning finds them there."
CONNECTION_TYPE: Final = "Responses API"  # the beginning of its name
SCALE: Final = 2.0  # pixels of a picture for each pixel of a page, for sharp text
LINE: Final = 18  # pixels of a line in Airflow's view of JSON
COLOURS: Final = 128


def screenshots() -> Iterator[tuple[str, bytes]]:
    """Yield name and PNG of each screenshot."""
    programs.chromium()
    programs.pngquant()  # what is missing is reported before Airflow starts
    with airflow(text=TEXT) as deployment, deployment.running(EXAMPLE) as client:
        deployment.run_dag(client, EXAMPLE.stem)  # this one takes as long as Airflow needs to get going
        run_id = deployment.run_dag(client, EXAMPLE.stem)
        with chromium() as browser:
            with page(browser, width=1240, height=1300, scale=SCALE) as tab:
                tab.open(f"{deployment.address}/dags/{EXAMPLE.stem}/runs/{quote(run_id, safe='')}/tasks/{TASK}/xcom")
                yield "xcom-tab", smaller(xcom_tab(tab))
            with page(browser, width=740, height=2400, scale=SCALE) as tab:
                tab.open(f"{deployment.address}/connections")
                forms = connection_form(tab)
            with page(browser, width=1800, height=1000, scale=SCALE) as tab:
                yield "connection-form", smaller(side_by_side(tab, forms))


def xcom_tab(tab: Page) -> bytes:
    """Return a picture of the panel that has the XComs of the task."""
    lines = "document.querySelectorAll('.monaco-editor .view-line')"
    tab.wait_for(f"{lines}.length === 2")  # once the JSON is there, Airflow folds it
    tab.click("document.querySelector('[data-testid=expand-all-button]')")
    # Airflow shows 300 pixels of an XCom and scrolls; here it is as high as its text.
    tab.wait_for(f"{lines}.length > 2")
    _set_height_of_json(tab, 1000)
    tab.wait_for(f"[...{lines}].some(line => line.textContent === '}}')")
    _set_height_of_json(tab, tab.run(f"{lines}.length") * LINE + 6)
    # The colours of the text come last.
    tab.wait_for("new Set([...document.querySelectorAll('.view-line span span')].map(s => s.className)).size > 4")
    panel = tab.box("document.querySelector('#details-panel')")
    table = tab.box("document.querySelector('#details-panel table')")
    x = table["x"] - 8
    bottom = table["y"] + table["height"] + 12
    return _settled(tab, {"x": x, "y": panel["y"], "width": table["width"] + 16, "height": bottom - panel["y"]})


def connection_form(tab: Page) -> list[bytes]:
    """Return pictures of the form: with the standard fields, and with the beginning of the extra fields."""
    tab.click(_button("Add Connection"))
    tab.click("document.querySelector('[name=connection_id]')")
    tab.write("responses_default")
    tab.click("document.querySelector('[role=dialog] [role=combobox]')")
    tab.write(CONNECTION_TYPE)
    tab.click(_with_text("[role=option]", CONNECTION_TYPE))
    dialog = "document.querySelector('[role=dialog]')"
    tab.wait_for("document.querySelector('[name=password]')")
    tab.run("document.activeElement.blur()")
    box = tab.box(dialog)
    standard = _settled(tab, box)
    tab.click(_button("Extra Fields"))
    tab.click("document.querySelector('[name=element_default_model]')")
    tab.write("openai/gpt-4o-mini")
    tab.run("document.activeElement.blur()")
    extra = _settled(tab, {**tab.box(dialog), "height": box["height"]})
    return [standard, extra]


def side_by_side(tab: Page, pictures: list[bytes]) -> bytes:
    """Return one picture of several, which have a frame each; the last one goes on below what is shown."""
    images = "".join(
        f'<img style="zoom: {1 / SCALE}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for png in pictures
    )
    style = (
        "body { margin: 0; background: #fff }"
        " div { display: inline-flex; gap: 20px; align-items: flex-start; padding: 2px }"
        " img { border: 2px solid #d1d5db; border-radius: 16px }"
        " img:last-child { mask-image: linear-gradient(#000 85%, transparent) }"
    )
    tab.run(f"document.write({json.dumps(f'<style>{style}</style><div>{images}</div>')})")
    tab.wait_for("[...document.images].every(image => image.complete)")
    return tab.picture(tab.box("document.querySelector('div')"))


def smaller(png: bytes) -> bytes:
    """Return the picture with a palette, at a third of its size."""
    command = [programs.pngquant(), "--speed", "1", "--strip", str(COLOURS), "-"]
    return subprocess.run(command, input=png, stdout=subprocess.PIPE, check=True).stdout


def _settled(tab: Page, box: dict[str, float]) -> bytes:
    """Return a picture once two in a row are the same: animations have ended."""
    before, after = b"", tab.picture(box)
    while before != after:
        time.sleep(0.5)
        before, after = after, tab.picture(box)
    return after


def _set_height_of_json(tab: Page, pixels: int) -> None:
    tab.run(f"document.querySelector('.monaco-editor').closest('section').style.height = '{pixels}px'")
    tab.wait_for(f"Math.abs(document.querySelector('.monaco-editor').getBoundingClientRect().height - {pixels}) < 2")


def _button(text: str) -> str:
    return f"[...document.querySelectorAll('button')].find(button => button.textContent.trim() === {json.dumps(text)})"


def _with_text(selector: str, text: str) -> str:
    elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return f"{elements}.find(element => element.textContent.includes({json.dumps(text)}))"
