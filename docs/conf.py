"""How Sphinx builds these pages: `make docs`."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

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
