"""
One attempt of an enrichment into a bucket, in a process of its own.

``python -m tests.parts.child KIND ADDRESS BUCKET SERVICE OWNER ROWS``: ends with 0 for a success, 75 for an error that
Airflow would retry, 1 for one that is final.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.exceptions import ResponsesError
from tests.enrich.jobs import enrich, table
from tests.parts.stores import Bucket

RETRY = 75


def main(kind: str, address: str, bucket: str, service: str, owner: str, rows: str) -> int:
    out = Bucket(kind, address, bucket).quick_path("out")
    try:
        told = enrich(SimpleNamespace(base_url=service), out, table(int(rows)), writer=Writer(owner=owner))
    except ResponsesError as error:
        print(error)
        return RETRY if error.retryable else 1
    print(told)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
