"""Addresses of pages: ids of any form stay one part of their address, and no address has a secret."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.task.web_pages import batch_page, generation_page, task_page, task_tab

# Airflow allows fewer characters in each.
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
BASE = "https://user:secret@airflow.example/prod/"


def test_a_generation_is_on_openrouters_page_of_logs():
    page = urlsplit(generation_page("gen-1789064867-b8Jgaf5awCPg2hexiRjE"))
    assert (page.scheme, page.netloc, page.path) == ("https", "openrouter.ai", "/logs")
    known = ["gen-1789064867-b8Jgaf5awCPg2hexiRjE"]
    assert parse_qs(page.query) == {"generation_id": known, "transaction": known}


@pytest.mark.parametrize("other", [None, "", 7, "resp_1", "gen-", "gen-1 2", "gen-1&x=2", "gen-1\n", "gen-ü", "xgen-1"])
def test_an_id_that_is_not_openrouters_has_no_page(other):
    assert generation_page(other) is None


@pytest.mark.parametrize("host", ["api.openai.com", "eu.api.openai.com"])
def test_a_batch_at_openai_has_a_page(host):
    assert batch_page("batch_67d9", f"https://{host}/v1") == "https://platform.openai.com/batches/batch_67d9"


@pytest.mark.parametrize(
    ("batch_id", "base_url"),
    [
        ("batch_67d9", "https://openrouter.ai/api/v1"),
        ("batch_67d9", "https://notapi.openai.com.example/v1"),
        ("batch_67d9", "https://[broken"),
        ("batch_67d9", None),
        ("batch_/../x", "https://api.openai.com/v1"),
        (None, "https://api.openai.com/v1"),
    ],
)
def test_a_batch_elsewhere_has_none(batch_id, base_url):
    assert batch_page(batch_id, base_url) is None


@given(IDS, IDS, IDS, st.none() | st.integers(-1, 5000))
def test_the_tab_has_every_id_as_one_part_of_its_path(dag_id, run_id, task_id, map_index):
    address = urlsplit(task_tab(BASE, dag_id, run_id, task_id, map_index))
    assert address.netloc == "airflow.example"
    assert (address.query, address.fragment) == ("", "")
    parts = [unquote(part) for part in address.path.split("/")]
    mapped = ["mapped", str(map_index)] if map_index is not None and map_index >= 0 else []
    expected = ["dags", dag_id, "runs", run_id, "tasks", task_id, *mapped, "plugin", "responses"]
    assert parts == ["", "prod", *expected]


@given(IDS, IDS, IDS, st.none() | st.integers(-1, 5000))
def test_the_page_has_every_id_in_its_query(dag_id, run_id, task_id, map_index):
    address = urlsplit(task_page(BASE, dag_id, run_id, task_id, map_index))
    assert (address.netloc, address.path, address.fragment) == ("airflow.example", "/prod/responses/task", "")
    expected = {"dag_id": [dag_id], "run_id": [run_id], "task_id": [task_id]}
    if map_index is not None and map_index >= 0:
        expected["map_index"] = [str(map_index)]
    assert parse_qs(address.query, keep_blank_values=True) == expected


@pytest.mark.parametrize(
    ("base_url", "begins"),
    [
        (None, "/dags/d/"),
        ("", "/dags/d/"),
        ("http://localhost:8080", "http://localhost:8080/dags/d/"),
        ("/prod", "/prod/dags/d/"),
        ("http://[broken", "/dags/d/"),
    ],
)
def test_an_airflow_without_an_address_of_its_own_has_an_address_without_a_host(base_url, begins):
    assert task_tab(base_url, "d", "r", "t").startswith(begins)
