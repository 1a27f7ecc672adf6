"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

# autodoc imports Airflow, which makes this folder: ~/airflow stays as it is.
os.environ.setdefault("AIRFLOW_HOME", str(Path(__file__).parent / "_build" / "airflow"))

project = "airflow-provider-responses"
release = importlib.metadata.version(project)
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

# Directives stand in comments, which a code host does not show: `<!-- sphinx`, the directive, `-->`.
_COMMENT = re.compile(r"^<!-- sphinx$(.*?)^-->$", re.MULTILINE | re.DOTALL)
_CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def _prepare_page(_app: Any, page: str, source: list[str]) -> None:
    if page == "changelog":
        source[0] = _CHANGELOG.read_text().replace("](docs/", "](")
    source[0] = _COMMENT.sub(r"\1", source[0])


def setup(app: Any) -> None:
    """Connect the step that changes pages before Sphinx parses them."""
    app.connect("source-read", _prepare_page)
