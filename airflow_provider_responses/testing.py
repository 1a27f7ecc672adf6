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

from airflow_provider_responses import runs
from airflow_provider_responses.client.config import ClientConfig, Dialect, RequestOptions
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.operators.responses import ResponsesOperator, is_lazy

if TYPE_CHECKING:
    from airflow_provider_responses.sandbox import Sandbox

__all__ = ["invalid_requests", "responses_sandbox"]

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
    problems = {}
    for task in dag.tasks:
        if (arguments := _arguments(task)) is not None:
            try:
                _prepare(arguments, config)
            except ResponsesError as error:
                problems[task.task_id] = str(error)
    return problems


def _arguments(task: Any) -> dict[str, Any] | None:
    """Give what a task was made with; for a mapped task, what all its instances share."""
    mapped = hasattr(task, "partial_kwargs")
    kind = task.operator_class if mapped else type(task)
    if not issubclass(kind, ResponsesOperator):
        return None
    arguments = dict(vars(task))
    if mapped:
        arguments = {**task.partial_kwargs, **dict.fromkeys(_mapped_names(task), "{{ mapped }}")}
    if issubclass(kind, DecoratedOperator):
        arguments["decorated"] = True
    return arguments


def _mapped_names(task: Any) -> list[str]:
    """Give the arguments that `.expand()` fills in."""
    value = getattr(task._get_specified_expand_input(), "value", None)
    return list(value) if isinstance(value, dict) else ["input", "model", "instructions", "request"]


def _prepare(arguments: dict[str, Any], config: ClientConfig) -> None:
    everyday = {name: arguments.get(name) for name in ("input", "model", "instructions")}
    request = arguments.get("request") or {}
    whole_request_comes_later = not isinstance(request, Mapping) or "decorated" in arguments
    fields = runs.merge_fields(
        {name: value for name, value in everyday.items() if value is not None},
        request if isinstance(request, Mapping) else {},
    )
    literal = {name: value for name, value in fields.items() if not is_lazy(value)}
    for name in ("input", "model"):
        if whole_request_comes_later or name in fields:
            literal.setdefault(name, "known when the task runs")
    options = arguments.get("options")
    given = RequestOptions.to_dict(options) if isinstance(options, (RequestOptions, Mapping)) else {}
    run = runs.Run(fields=literal, output_type=arguments.get("output_type"), stamp="0" * 32)
    run.prepare(config, RequestOptions.parse({name: value for name, value in given.items() if not is_lazy(value)}))
