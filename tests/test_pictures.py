"""The pictures of the documentation: the drawings are those of the script, and the screenshots are small."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # of the repository's own files
from pathlib import Path

import pytest

from tools.pictures.__main__ import DRAWINGS, FOLDER

LARGEST = 150_000  # bytes of a screenshot, which every reader of a page loads
SCREENSHOTS = ("xcom-tab", "connection-form", "spend", "spend-dark", "task-tab", "task-links", "task-progress")


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_in_the_documentation_is_the_one_that_the_script_draws(name):
    assert (FOLDER / f"{name}.svg").read_text() == DRAWINGS[name](), "make pictures ARGS=--drawings"


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_has_a_title_and_a_description_for_readers_who_cannot_see_it(name):
    root = ET.fromstring(DRAWINGS[name]())  # noqa: S314 - the script's own text
    title, description = (root.find(f"{{http://www.w3.org/2000/svg}}{tag}").text for tag in ("title", "desc"))

    assert title
    assert len(description) > len(title)


@pytest.mark.parametrize("name", DRAWINGS)
def test_all_shapes_of_a_drawing_are_inside_of_it(name):
    root = ET.fromstring(DRAWINGS[name]())  # noqa: S314 - the script's own text
    width, height = (float(size) for size in root.get("viewBox").split()[2:])
    boxes = [
        [float(shape.get(key)) for key in ("x", "y", "width", "height")]
        for shape in root.iter("{http://www.w3.org/2000/svg}rect")
    ]

    assert len(boxes) > 10
    assert all(x > 0 and y > 0 and x + w < width and y + h < height for x, y, w, h in boxes)


@pytest.mark.parametrize("name", SCREENSHOTS)
def test_a_screenshot_is_a_small_png(name):
    content = (FOLDER / f"{name}.png").read_bytes()

    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) <= LARGEST


def test_there_is_no_picture_that_no_script_makes():
    made = {f"{name}.svg" for name in DRAWINGS} | {f"{name}.png" for name in SCREENSHOTS}

    assert {Path(path).name for path in FOLDER.iterdir()} == made
