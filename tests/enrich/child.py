"""One attempt of an enrichment, in a process that may be killed: ``python -m tests.enrich.child`` and a JSON object."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_responses import runs
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from tests.enrich.jobs import Label, enrich, table

ROWS = 1000
CONCURRENCY = 16


class Whole(OutputStore):
    """A store that has no appends, as object stores have none."""

    can_append = False


def main(
    url: str,
    folder: str,
    attempt: int,
    *,
    cache: bool = True,
    rows: int = ROWS,
    limits: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    appends: bool = True,
) -> None:
    enrich(
        SimpleNamespace(base_url=url),
        Path(folder),
        table(rows),
        Environment(open_folder=OutputStore if appends else Whole, **environment or {}),
        run=runs.Run(fields={}, output_type=Label, stream=False, cache=cache),
        writer=Writer(owner="task", try_number=attempt),
        limits=Limits(**{"concurrency": CONCURRENCY, **(limits or {})}),
    )


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
