"""
For your own tests: a sandbox that your DAGs talk to, and a check of every request that a DAG file spells out.

Put ``pytest_plugins = ["airflow_provider_responses.testing"]`` into your top-level ``conftest.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DecoratedOperator

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.arguments import is_lazy
from airflow_provider_responses.task.request import TaskRequest, merge_fields

if TYPE_CHECKING:
    from airflow_provider_responses.sandbox import Sandbox

__all__ = ["invalid_requests", "responses_sandbox"]

LATER = "{{ known when the task runs }}"
FIELDS = ("input", "model", "instructions", "request")
CONNECTION_VARIABLE = "AIRFLOW_CONN_RESPONSES_DEFAULT"


@pytest.fixture(scope="session")
def responses_sandbox_server() -> Iterator[Sandbox]:
    """Start one sandbox for the whole session; use ``responses_sandbox`` in tests."""
    from airflow_provider_responses.sandbox import Sandbox

    with Sandbox(port=0) as sandbox:
        yield sandbox


@pytest.fixture
def responses_sandbox(responses_sandbox_server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """
    Give a sandbox with an empty ledger, and let the connection ``responses_default`` point to it.

    ``sandbox.script(...)`` says what happens to the next requests, ``sandbox.ledger`` what was asked and billed.
    """
    responses_sandbox_server.reset()
    monkeypatch.setenv(CONNECTION_VARIABLE, json.dumps(responses_sandbox_server.connection))
    yield responses_sandbox_server
    responses_sandbox_server.reset()


def invalid_requests(dag: Any, *, default_model: str | None = None, dialect: Dialect = "openrouter") -> dict[str, str]:
    """
    Validate what a DAG's requests say literally, without sending anything.

    Fields that hold a template or an upstream task's output are left out, since only a run knows them.

    :param dag: the DAG.
    :param default_model: the connection's default model, if it has one.
    :param dialect: ``openrouter``, or ``open`` for requests that go to another server.
    :return: task id → what is wrong with its request; empty if all are valid.
    """
    config = ClientConfig(api_key="none", default_model=default_model, dialect=dialect)
    problems: dict[str, str] = {}
    for task in dag.tasks:
        for place, arguments in _requests(task):
            try:
                _prepare(arguments, config)
            except ResponsesError as error:
                problems.setdefault(task.task_id, f"{place}{error}")
    return problems


def _requests(task: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give where each of a task's requests is spelt out, and the arguments that it is made of."""
    mapped = hasattr(task, "partial_kwargs")
    kind = task.operator_class if mapped else type(task)
    if not issubclass(kind, (ResponsesOperator, ResponsesEnrichOperator)):
        return
    function = getattr(task, "input", None) if not mapped else task.partial_kwargs.get("input")
    decorated = {"decorated": True} if issubclass(kind, DecoratedOperator) or callable(function) else {}
    if not mapped:
        yield "", {**vars(task), **decorated}
        return
    for place, expanded in _expansions(task):
        yield place, {**task.partial_kwargs, **expanded, **decorated}


def _expansions(task: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give what `.expand()` or `.expand_kwargs()` fills in, once for every literal value."""
    value = getattr(task._get_specified_expand_input(), "value", None)
    if isinstance(value, (list, tuple)):  # expand_kwargs
        for index, arguments in enumerate(value):
            yield (
                f"expand_kwargs[{index}]: ",
                arguments if isinstance(arguments, dict) else dict.fromkeys(FIELDS, LATER),
            )
        return
    if not isinstance(value, dict):
        yield "", dict.fromkeys(FIELDS, LATER)
        return
    yield "", dict.fromkeys(value, LATER)
    for name, literal in value.items():
        if isinstance(literal, (list, tuple)):
            for index, item in enumerate(literal):
                yield f"expand({name}=...)[{index}]: ", {**dict.fromkeys(value, LATER), name: item}


def _prepare(arguments: dict[str, Any], config: ClientConfig) -> None:
    everyday = {name: arguments.get(name) for name in ("input", "model", "instructions")}
    request = arguments.get("request") or {}
    whole_request_comes_later = not isinstance(request, Mapping) or "decorated" in arguments
    fields = merge_fields(
        {name: value for name, value in everyday.items() if value is not None},
        request if isinstance(request, Mapping) else {},
    )
    literal = {name: value for name, value in fields.items() if not is_lazy(value)}
    for name in ("input", "model"):
        if whole_request_comes_later or name in fields:
            literal.setdefault(name, "known when the task runs")
    options = arguments.get("options")
    given = RequestOptions.to_dict(options) if isinstance(options, (RequestOptions, Mapping)) else {}
    if callable(literal.get("input")):  # of rows: it gives the input when the task runs
        literal["input"] = LATER
    run = TaskRequest(fields=literal, output_type=arguments.get("output_type"), idempotency_key="0" * 32)
    run.prepare(config, RequestOptions.parse({name: value for name, value in given.items() if not is_lazy(value)}))
