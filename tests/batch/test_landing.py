"""The rows of a batch that was refused."""

from __future__ import annotations

import pytest

from airflow_provider_responses.batch.journal import Intent
from airflow_provider_responses.batch.landing import _refused_requests
from airflow_provider_responses.models import Batch

INTENT = Intent(nonce="n", created=0.0, model="m", fingerprints=["aa", "bb", "cc"])


@pytest.mark.parametrize(
    ("reported", "refused"),
    [
        (
            [{"line": 1, "message": "no"}, {"line": 3, "message": "model?"}],
            {"aa": "no (request 1)", "cc": "model? (request 3)"},
        ),
        ([{"line": 2, "message": "first"}, {"line": 2, "message": "second"}], {"bb": "first (request 2)"}),
        ([{"line": None, "message": "too many tokens in the queue"}], {}),
        ([{"line": 9, "message": "no such line"}], {}),
    ],
)
def test_the_lines_that_openai_refuses_name_the_rows(reported, refused):
    batch = Batch(raw={"id": "batch_1", "status": "failed", "errors": {"object": "list", "data": reported}})
    assert _refused_requests(batch, INTENT) == refused


@pytest.mark.parametrize(
    ("message", "refused"),
    [("requests[1].body is wrong", {"bb"}), ("the request 'cc-n' is wrong", {"cc"}), ("the provider gave up", set())],
)
def test_a_message_of_openrouter_names_the_row(message, refused):
    batch = Batch(raw={"id": "batch_1", "status": "failed", "error": {"message": message}})
    assert set(_refused_requests(batch, INTENT)) == refused
