"""The job of an enrichment: the engine's arguments, from those of the operator and the task instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.operators import before_paying
from airflow_provider_responses.operators.files import RowBuilder, with_row_files
from airflow_provider_responses.operators.paths import open_path
from airflow_provider_responses.operators.prompt_argument import function_builder, template_from_data
from airflow_provider_responses.operators.source_argument import check_output_path, read_shard, read_source
from airflow_provider_responses.operators.source_columns import check_template_columns, choose_loaded_columns
from airflow_provider_responses.operators.templates import RowTemplate
from airflow_provider_responses.task.arguments import read_boolean
from airflow_provider_responses.task.attempt import call_timeout
from airflow_provider_responses.task.escalation import check_escalations
from airflow_provider_responses.task.idempotency import clearing_id, idempotency_key_of
from airflow_provider_responses.task.request import merge_fields

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.sources import Row
    from airflow_provider_responses.operators.databases.loader import TableLoader


def make_job(task: Any, context: Context, began: float, loader: TableLoader | None) -> Job:
    """
    Return the job of an attempt.

    :param task: a ``ResponsesEnrichOperator``, its templates rendered.
    :param began: when the attempt began, on the monotonic clock.
    :param loader: of the table that the result is loaded into.
    :raises ResponsesError: if an argument is wrong.
    """
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.output_store import Writer, owner_name
    from airflow_provider_responses.hooks.responses import ResponsesHook

    ti: Any = context["ti"]
    folder = open_path(task.output_path)
    check_output_path(task.source, folder)
    number, of = read_shard(task.shard)
    if of > 1:
        folder /= f"shard-{number:04d}-of-{of:04d}"
    seconds = None
    if task.execution_timeout is not None:
        seconds = call_timeout(task.execution_timeout.total_seconds() - (time.monotonic() - began))
    (build, required, read), files = with_row_files(task, _request_builder(task, context), context)
    needed = None if task.columns is None or read is None else {*task.columns, *read, *filter(None, [task.key])}
    config = ResponsesHook(task.conn_id).config
    is_connections = task.model is None and {"model", "models"}.isdisjoint(task.request or {})
    return Job(
        read_chunks=lambda: choose_loaded_columns(
            check_template_columns(read_source(task.source, needed), required),
            loader,
            columns=task.columns,
            key=task.key,
        ),
        trial=None if loader is None else _trial(task, loader),
        check_price=before_paying.key_limit_check(task.mode),
        row_fields=build,
        request=task._arguments().to_task_request(idempotency_key=None, stream=False),
        config=config,
        output_path=folder,
        writer=Writer(
            owner=owner_name(ti),
            try_number=ti.try_number,
            idempotency_key=idempotency_key_of(ti, clearing_id=clearing_id(ti, task.retries)),
        ),
        limits=Limits.parse(task.limits),
        key=task.key,
        columns=task.columns,
        shard=(number, of),
        options=RequestOptions.parse(task.options),
        prompt=task._describe_prompt(config.default_model if is_connections else task.model),
        on_changed_request=task.on_changed_request,
        resume=read_boolean(task.resume),
        output_format=task.output_format,
        allow_empty=task.allow_empty,
        timeout=seconds,
        files=files,
        escalate=check_escalations(task.escalate),
        judge=task.judge,
    )


def _trial(task: Any, loader: TableLoader) -> Callable[[Iterator[tuple[int, Row]]], None] | None:
    """Return a function that loads rows with sample responses and rolls back, None without a trial."""
    from airflow_provider_responses.enrich.column_types import describe_later_columns
    from airflow_provider_responses.operators.databases.trial_load import trial_of

    request = task._arguments().to_task_request(idempotency_key=None, stream=False)
    nullable = task.on_invalid_output == "return"
    escalates = bool(check_escalations(task.escalate))
    later = describe_later_columns(escalates=escalates, judge=task.judge, nullable=nullable)
    return trial_of(loader, request, later, nullable=nullable)


def _request_builder(task: Any, context: Context) -> RowBuilder:
    """
    Return the function that builds the request of a row, and the columns that it reads.

    The first set has the columns that a row must have, the second all columns that may be read, None if unknown.
    """
    shared: Mapping[str, Any] = task._arguments().fields()
    task.read_prompt_file("input")  # of a mapped task, which is made when it runs
    if task.input is None:
        return (lambda _: shared), frozenset(), frozenset()
    if callable(task.input):
        call = partial(task._call_function, task.input, context=context)
        return function_builder(call, shared), frozenset(), None
    if task._is_data(task.input):
        raise template_from_data()
    dag = task.get_dag()
    env = dag.get_template_env(force_sandboxed=True) if dag is not None else task.get_template_env()
    template = RowTemplate(task.input, env, context, needs_row=task.files is None)
    build = lambda row: merge_fields({"input": template.render(row)}, shared)  # noqa: E731
    return build, template.required_columns, template.columns_read
