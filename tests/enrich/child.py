"""One try of an enrichment, in a process that may be killed: ``python -m tests.enrich.child URL FOLDER TRY CACHE``."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

from airflow_provider_responses import runs
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from tests.enrich.jobs import Label, enrich, table

ROWS = 1000
CONCURRENCY = 16


def main(url: str, folder: str, try_number: str, cache: str) -> None:
    enrich(
        SimpleNamespace(base_url=url),
        Path(folder),
        table(ROWS),
        Environment(tick=0.02, part_rows=20, flush_seconds=0.05),
        run=runs.Run(fields={}, output_type=Label, stream=False, cache=cache == "yes"),
        writer=Writer(owner="task", try_number=int(try_number)),
        limits=Limits(concurrency=CONCURRENCY),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
