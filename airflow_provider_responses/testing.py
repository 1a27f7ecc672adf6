"""
For your own tests: a sandbox that your DAGs send requests to, and the validation of all requests of a DAG.

For the fixture, put ``pytest_plugins = ["airflow_provider_responses.testing"]`` into your top-level ``conftest.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import DecoratedOperator

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.content.references import replace_references
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.fields import Dialect
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.arguments import is_lazy
from airflow_provider_responses.task.escalation import check_escalations
from airflow_provider_responses.task.request import TaskRequest, merge_fields

if TYPE_CHECKING:
    from airflow_provider_responses.sandbox import Sandbox

__all__ = ["invalid_requests", "responses_sandbox"]

AT_RUNTIME = "{{ known when the task runs }}"
REQUEST_ARGUMENTS = ("input", "model", "instructions", "request")
CONNECTION_VARIABLE = "AIRFLOW_CONN_RESPONSES_DEFAULT"


@pytest.fixture(scope="session")
def responses_sandbox_server() -> Iterator[Sandbox]:
    """Start one sandbox for the whole session. Tests use ``responses_sandbox``."""
    from airflow_provider_responses.sandbox import Sandbox

    with Sandbox(port=0) as sandbox:
        yield sandbox


@pytest.fixture
def responses_sandbox(responses_sandbox_server: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """
    Yield a sandbox with an empty ledger; the connection ``responses_default`` points to it.

    ``sandbox.script(...)`` sets the responses to the next requests; ``sandbox.ledger`` has the requests and costs.
    """
    responses_sandbox_server.reset()
    monkeypatch.setenv(CONNECTION_VARIABLE, json.dumps(responses_sandbox_server.connection))
    yield responses_sandbox_server
    responses_sandbox_server.reset()


def invalid_requests(dag: Any, *, default_model: str | None = None, dialect: Dialect = "openrouter") -> dict[str, str]:
    """
    Validate all requests of a DAG without sending anything.

    Fields that hold a template or the output of an upstream task are skipped: they are known only when the task runs.

    :param dag: the DAG.
    :param default_model: the connection's default model, if it has one.
    :param dialect: ``openrouter``, or ``open`` for requests that go to another server.
    :return: task id → the error of its first invalid request; empty if all requests are valid.
    """
    config = ClientConfig(api_key="none", default_model=default_model, dialect=dialect)
    problems: dict[str, str] = {}
    for task in dag.tasks:
        for origin, arguments in _requests(task):
            try:
                _prepare(arguments, config)
            except ResponsesError as error:
                problems.setdefault(task.task_id, f"{origin}{error}")
    return problems


def _requests(task: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the arguments of each request of a task, after the name of the expansion that they come from."""
    mapped = hasattr(task, "partial_kwargs")
    kind = task.operator_class if mapped else type(task)
    if not issubclass(kind, (ResponsesOperator, ResponsesEnrichOperator)):
        return
    function = getattr(task, "input", None) if not mapped else task.partial_kwargs.get("input")
    decorated = {"decorated": True} if issubclass(kind, DecoratedOperator) or callable(function) else {}
    if not mapped:
        yield "", {**vars(task), **decorated}
        return
    for origin, expanded in _expansions(task):
        yield origin, {**task.partial_kwargs, **expanded, **decorated}


def _expansions(task: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the arguments that `.expand()` or `.expand_kwargs()` adds, once for each literal value."""
    value = getattr(task._get_specified_expand_input(), "value", None)
    if isinstance(value, (list, tuple)):  # expand_kwargs
        for index, arguments in enumerate(value):
            yield (
                f"expand_kwargs[{index}]: ",
                arguments if isinstance(arguments, dict) else dict.fromkeys(REQUEST_ARGUMENTS, AT_RUNTIME),
            )
        return
    if not isinstance(value, dict):
        yield "", dict.fromkeys(REQUEST_ARGUMENTS, AT_RUNTIME)
        return
    yield "", dict.fromkeys(value, AT_RUNTIME)
    for name, literal in value.items():
        if isinstance(literal, (list, tuple)):
            for index, item in enumerate(literal):
                yield f"expand({name}=...)[{index}]: ", {**dict.fromkeys(value, AT_RUNTIME), name: item}


def _prepare(arguments: dict[str, Any], config: ClientConfig) -> None:
    main_arguments = {name: arguments.get(name) for name in ("input", "model", "instructions")}
    request = arguments.get("request") or {}
    is_built_at_runtime = not isinstance(request, Mapping) or "decorated" in arguments
    fields = merge_fields(
        {name: value for name, value in main_arguments.items() if value is not None},
        request if isinstance(request, Mapping) else {},
    )
    literal = {name: value for name, value in fields.items() if not is_lazy(value)}
    for name in ("input", "model"):
        if is_built_at_runtime or name in fields:
            literal.setdefault(name, "known when the task runs")
    options = arguments.get("options")
    given = RequestOptions.to_dict(options) if isinstance(options, (RequestOptions, Mapping)) else {}
    if callable(literal.get("input")):  # of an enrichment: it returns the input of each row
        literal["input"] = AT_RUNTIME
    literal = replace_references(literal, lambda *_: {"type": "input_text", "text": AT_RUNTIME})
    larger = arguments.get("escalate")
    task_request = TaskRequest(
        fields=literal,
        output_type=arguments.get("output_type"),
        idempotency_key="0" * 32,
        escalations=() if is_lazy(larger) else check_escalations(larger),
    )
    known = RequestOptions.parse({name: value for name, value in given.items() if not is_lazy(value)})
    task_request.prepare(config, known)
    task_request.prepare_larger(config, known)
    if isinstance(judge := arguments.get("judge"), Judge):  # of an enrichment
        judged = TaskRequest(fields=judge.fields(literal, AT_RUNTIME), output_type=judge.output_type)
        try:
            judged.prepare(config, known)
        except ResponsesError as error:
            raise error.about("judge") from None
