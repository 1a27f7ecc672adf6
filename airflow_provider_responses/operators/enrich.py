"""Many rows as one task: a table in, an enriched table out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.batch.options import BATCH_THRESHOLD
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.prompt import describe
from airflow_provider_responses.enrich.result_formats import FORMATS
from airflow_provider_responses.enrich.sources import CsvFile, Row
from airflow_provider_responses.exceptions import RequestCancelledError, RequestValidationError, ResponsesError
from airflow_provider_responses.hooks import telemetry
from airflow_provider_responses.links.task_instance import links_of_enrichment, push_result_link
from airflow_provider_responses.operators import before_paying
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.operators.batches import (
    batch_options,
    fits_into_trigger,
    log_running_batches,
    make_wait,
    wait_on_worker,
)
from airflow_provider_responses.operators.databases.loader import TableLoader, read_result
from airflow_provider_responses.operators.enrichment_usage import usage_pushed
from airflow_provider_responses.operators.files import check_row_files
from airflow_provider_responses.operators.judge_argument import check_judge
from airflow_provider_responses.operators.log_groups import log_group
from airflow_provider_responses.operators.outlets import add_to_outlets
from airflow_provider_responses.operators.output_path_warnings import log_output_path_warnings
from airflow_provider_responses.operators.paths import check_path
from airflow_provider_responses.operators.progress_report import ProgressReport
from airflow_provider_responses.operators.prompt_argument import check_input
from airflow_provider_responses.operators.source_argument import check_source, read_shard
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from airflow_provider_responses.task.arguments import is_lazy, read_boolean
from airflow_provider_responses.task.escalation import check_escalations, check_output_type_is_set
from airflow_provider_responses.task.texts import parse_number
from airflow_provider_responses.validation import check_choice, check_list_of_names, check_type

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_responses.batch.waiting import WaitOutcome
    from airflow_provider_responses.enrich.engine import Enrichment
    from airflow_provider_responses.enrich.job import Environment
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.observability.spans import EnrichmentSpan
    from airflow_provider_responses.task.escalation import Escalation

__all__ = ["ResponsesEnrichOperator"]

ON_CHANGED: Final = ("send", "fail")


class ResponsesEnrichOperator(BaseResponsesOperator):
    """
    Send a request for each row of a table, write all rows with their responses in order, and resume earlier attempts.

    XCom: ``return_value`` is the manifest: paths, counts by status, cost in US dollars, tokens, cache hits, seconds and
    rows a second; with ``estimate_only`` or ``preview`` it is the estimate of that. ``usage`` has cost and tokens by
    model. Rows never go to XCom.

    :param source: the table: a file (CSV, JSONL, Parquet) at a path that ``ObjectStoragePath`` opens, a ``CsvFile``, a
        ``SqlQuery``, or a list of dicts, such as another task's output.
    :param input: the prompt of a row: a Jinja template with ``row`` beside the task's context, or a function that takes
        the row, a dict, and returns the input or a whole request (a dict).
    :param files: files of a row: a template of their paths, one a line, or the name of a column of paths or bytes.
    :param key: the column that identifies a row; by default its position and content do.
    :param columns: columns of the source for the result; by default all.
    :param output_path: the folder of the result. Responses that it holds are not requested again.
    :param output_format: ``jsonl`` or ``parquet``.
    :param resume: whether responses in ``output_path`` are used; otherwise all rows are sent again.
    :param on_changed_request: ``send`` rows again whose request differs from that of their response, such as after a
        change of the prompt, or ``fail`` before anything is sent.
    :param limits: ``Limits``, or a dict of them.
    :param shard: the number of this task's share of the rows and the number of shares, such as ``(0, 4)``.
    :param load_to: a ``SqlTable`` that rows with a response are loaded into.
    :param escalate: larger models, each an ``Escalation``, for rows whose response does not pass its checks.
    :param judge: a ``Judge``: a model that scores the responses of rows, into the columns ``_score`` and
        ``_score_reason``.
    :param allow_empty: whether a source without rows is a success.
    :param mode: ``live`` sends each request by itself; ``batch`` submits batches, which cost about half and take up to
        24 hours; ``auto`` decides by ``batch_threshold`` and ``finish_within``.
    :param deferrable: whether the task holds no worker while it waits for batches.
    :param batch_threshold: number of rows below which ``auto`` sends live; rows that batches have left over are sent
        live if they are fewer.
    :param finish_within: time from the start of an attempt until its batches must have ended, in seconds or as a
        ``timedelta``.
    :param on_batch_failure: handling of the rows of a batch that failed, expired or was cancelled: ``resubmit``,
        ``live``, or ``fail``.
    :param on_orphaned_intent: handling of rows that may be in a batch which cannot be found or read: ``fail``, or
        ``resubmit`` although they may be paid twice.
    :param delete_after: whether a batch is deleted on the server once its results are written.
    :param callback_url: public https URL that OpenRouter calls when a batch has ended.
    :param estimate_only: whether to count requests, tokens and US dollars, and send nothing.
    :param preview: number of rows to send, from 2 to 200, for an estimate of all; their responses are not sent again.

    The text of a response is the column ``output``; with an ``output_type``, its fields are columns instead.

    Other arguments: see :class:`BaseResponsesOperator` and Airflow's ``BaseOperator``.
    """

    template_fields: Sequence[str] = (
        "source",
        "output_path",
        "key",
        "columns",
        "shard",
        "limits",
        "load_to",
        "resume",
        "estimate_only",
        "preview",
        "model",
        "instructions",
        "request",
        "options",
        "conn_id",
        "files_root",
        "max_file_bytes",
        "prompt_template",  # the last: it shows the others after they are rendered
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "request": "json",
        "options": "json",
        "prompt_template": "json",
    }
    ui_color = "#eef0ff"
    operator_extra_links = links_of_enrichment()
    # Each row has its own input, and no response is streamed.
    excluded_arguments = frozenset({"input", "stream"})
    retry_note = "Airflow's retries apply, and continue from the responses that are stored"
    data_fields = frozenset({"source"})
    object_fields = frozenset({"source", "request", "options", "columns", "limits", "shard"})

    # Many arguments: DAG authors set each by its name, as in all of Airflow's operators.
    def __init__(
        self,
        *,
        source: str | PathLike[str] | CsvFile | SqlQuery | Iterable[Mapping[str, Any]],
        output_path: str,
        input: str | Callable[[Row], Any] | None = None,
        files: str | None = None,
        key: str | None = None,
        columns: Sequence[str] | None = None,
        output_format: str = "jsonl",
        resume: bool = True,
        on_changed_request: Literal["send", "fail"] = "send",
        limits: Limits | Mapping[str, Any] | None = None,
        shard: Sequence[int] = (0, 1),
        load_to: SqlTable | None = None,
        escalate: Sequence[Escalation] | None = None,
        judge: Judge | None = None,
        allow_empty: bool = True,
        mode: Literal["live", "batch", "auto"] = "live",
        deferrable: bool = True,
        batch_threshold: int = BATCH_THRESHOLD,
        finish_within: timedelta | float | None = None,
        on_batch_failure: Literal["resubmit", "live", "fail"] = "resubmit",
        on_orphaned_intent: Literal["fail", "resubmit"] = "fail",
        delete_after: bool = False,
        callback_url: str | None = None,
        estimate_only: bool | str = False,
        preview: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Copies, since templates are rendered in place, and mapped tasks share their arguments.
        self.source = copy.copy(source) if isinstance(source, (CsvFile, SqlQuery)) else source
        self.input = input
        self.files = files
        self.key = key
        self.columns = columns
        self.output_path = output_path
        self.output_format = output_format
        self.resume = resume
        self.on_changed_request = on_changed_request
        self.limits = limits
        self.shard = shard
        self.load_to = copy.copy(load_to) if isinstance(load_to, SqlTable) else load_to
        self.escalate = escalate
        self.judge = judge
        self.allow_empty = allow_empty
        self.mode = mode
        self.deferrable = deferrable
        self.batch_threshold = batch_threshold
        self.finish_within = finish_within
        self.on_batch_failure = on_batch_failure
        self.on_orphaned_intent = on_orphaned_intent
        self.delete_after = delete_after
        self.callback_url = callback_url
        self.estimate_only = estimate_only
        self.preview = preview
        self.enrichment: Enrichment | None = None
        self._killed = False
        self._span: EnrichmentSpan | None = None
        self.prompt_template = self._describe_prompt(self.model)
        with self._checking_arguments():
            self._check()

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        super().check_mapped(arguments)
        if "source" in arguments:
            check_source(arguments["source"])
        check_row_files(arguments.get("files"))
        check_choice("output_format", arguments.get("output_format", FORMATS[0]), FORMATS)
        check_choice("on_changed_request", arguments.get("on_changed_request", "send"), ON_CHANGED)
        check_list_of_names("columns", arguments.get("columns"), optional=True, lazy=is_lazy)
        model, request = arguments.get("model"), arguments.get("request")
        check_judge(arguments.get("judge"), check_escalations(arguments.get("escalate"), model=model, request=request))
        if not is_lazy(arguments.get("limits")):
            Limits.parse(arguments.get("limits"))
        batch_options({name: value for name, value in arguments.items() if not is_lazy(value)})

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        if content is self.prompt_template:  # it holds the template of the rows, which is rendered for each row
            return self._describe_prompt(self.model)
        return super().render_template(content, *args, **kwargs)

    def resolve_template_files(self) -> None:
        super().resolve_template_files()
        self.prompt_template = self._describe_prompt(self.model)

    def _describe_prompt(self, model: Any) -> dict[str, Any]:
        """Return the parts of the request that all rows share."""
        return describe(
            self.input,
            model=model,
            instructions=self.instructions,
            request=self.request,
            output_type=self.output_type,
            escalate=self.escalate,
            judge=self.judge,
        )

    @classmethod
    def computed_template_fields(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        names = ("model", "instructions", "request", "output_type", "escalate", "judge")
        parts = {name: arguments.get(name) for name in names}
        return {"prompt_template": describe(arguments.get("python_callable", arguments.get("input")), **parts)}

    def execute(self, context: Context) -> dict[str, Any]:
        """Send the rows and write the result; see the class."""
        push_result_link(self, context["ti"])
        with usage_pushed(self, context, resumed=False) as self._usage:
            return self._run_steps(context, None)

    def execute_complete(self, context: Context, event: Any) -> dict[str, Any]:
        """Continue after batches have ended."""
        from airflow_provider_responses.batch.waiting import read_batch_event

        with usage_pushed(self, context, resumed=True) as self._usage:
            try:
                outcome = read_batch_event(event)
            except ResponsesError as error:
                self._fail(error)
            self._usage.totals.set(outcome.attempt)
            return self._run_steps(context, outcome)

    def _run_steps(self, context: Context, waited: WaitOutcome | None) -> dict[str, Any]:
        """Run steps of the attempt until there is a result; defer between them."""
        if read_boolean(self.estimate_only) is True or before_paying.read_preview(self.preview) is not None:
            return self._run_before_paying(context)
        while True:
            if waited is not None and waited.error is not None:
                log_running_batches(waited.statuses)
                self._fail(waited.error)
            with telemetry.enrichment_span(context["ti"], self.model) as self._span:
                ended = self._run_step(context, waited)
            if not isinstance(ended, Unfinished):
                figures = {name: ended[name] for name in ("rows", "cost", "output")}
                add_to_outlets(context, self.outlets, figures)
                return ended
            waited = self._wait(ended)

    def _run_before_paying(self, context: Context) -> dict[str, Any]:
        """Return the estimate of the table, without or with a preview; there is no result and no manifest."""
        from airflow_provider_responses.operators.enrichment_job import make_job

        try:
            self._prepare_arguments()
            job = make_job(self, context, time.monotonic(), None)
            environment = self.environment(lambda _: None)
            if read_boolean(self.estimate_only) is True:
                return before_paying.estimate(job, environment, self.mode)
            preview = before_paying.make_preview(job, environment, before_paying.read_preview(self.preview), self.mode)
            self.enrichment = preview
            if self._killed:
                preview.cancel()
            return preview.run()
        except ResponsesError as error:
            self._fail(error)

    def _prepare_arguments(self) -> None:
        if isinstance(self.limits, Mapping):
            self.limits = {name: parse_number(limit) for name, limit in self.limits.items()}
        self._check(rendered=True)

    def _wait(self, unfinished: Unfinished) -> WaitOutcome:
        """Defer until batches have ended, or wait for them on the worker."""
        try:
            wait = make_wait(unfinished, conn_id=self.conn_id, options=self.options)
            if self.deferrable and fits_into_trigger(wait):
                from airflow_provider_responses.triggers.batches import ResponsesBatchTrigger

                self.log.info("Deferring until %d batches have ended", len(wait.batch_ids))
                self.defer(trigger=ResponsesBatchTrigger(**wait.to_kwargs()), method_name="execute_complete")
            return wait_on_worker(wait, self._check_killed)
        except ResponsesError as error:
            self._fail(error)

    def _check_killed(self) -> None:
        if self._killed:
            raise RequestCancelledError("the task was ended; its batches run on, and a retry uses their results")

    def _run_step(self, context: Context, waited: WaitOutcome | None) -> dict[str, Any] | Unfinished:
        from airflow_provider_responses.batch.enrichment import BatchEnrichment
        from airflow_provider_responses.operators.enrichment_job import make_job

        began = time.monotonic()
        try:
            self._prepare_arguments()
            loader = None if self.load_to is None else TableLoader(self.load_to, self.key)
            progress = ProgressReport.of(self, self._usage.with_store(context), self._shard(), self._span)
            enrichment = BatchEnrichment(
                make_job(self, context, began, loader),
                batch_options(vars(self)),
                self.environment(self._usage.reported_before(progress)),
                totals=None if waited is None else waited.attempt,
                statuses=None if waited is None else waited.statuses,
            )
            log_output_path_warnings(self.output_path, self.executor)
        except ResponsesError as error:
            self._fail(error)
        self.enrichment = enrichment
        if self._killed:  # `on_kill` ran before there was an enrichment
            enrichment.cancel()
        failure = None
        try:
            if loader is not None:
                loader.check_table(enrichment.columns, enrichment.job.meta_columns)
            manifest = enrichment.step()
            if loader is not None and not isinstance(manifest, Unfinished):
                count = loader.load(read_result(manifest["output"], self.on_invalid_output))
                self.log.info("Loaded %d rows into %s", count, loader.table.table)
        except ResponsesError as error:
            failure = error
        finally:
            progress.close()  # before the XCom: in `dag.test()`, two threads cannot talk to Airflow at once
        if failure is not None:
            if enrichment.manifest is not None and self.do_xcom_push:
                context["ti"].xcom_push(key="return_value", value=enrichment.manifest)
            self._fail(failure)
        return manifest

    def environment(self, report: Callable[[Mapping[str, float | None]], None]) -> Environment:
        """Return the environment of the engine, such as its clock and the function that reports progress."""
        from airflow_provider_responses.enrich.job import Environment

        tracing = None if self._span is None else self._span.rows
        return Environment(report=report, log_group=log_group, tracing=tracing)

    def get_openlineage_facets_on_start(self) -> OperatorLineage:
        """Return the datasets that the task reads and writes, for OpenLineage."""
        from airflow_provider_responses.operators.lineage import enrichment_lineage

        return enrichment_lineage(self, None)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:  # noqa: ARG002
        """Return the same with the number of rows, and tokens and cost, also of an attempt that failed."""
        from airflow_provider_responses.operators.lineage import enrichment_lineage

        return enrichment_lineage(self, None if self.enrichment is None else self.enrichment.manifest)

    def on_kill(self) -> None:
        """Drop the requests in flight, and write the responses that have arrived; batches run on."""
        self._killed = True
        if self.enrichment is not None:
            self.enrichment.cancel()
            if batch_ids := self.enrichment.running_batches():
                log_running_batches(batch_ids)

    def _check(self, *, rendered: bool = False) -> None:
        """Refuse wrong arguments, without reading the source."""
        super()._check(rendered=rendered)
        check_source(self.source, rendered=rendered)
        if isinstance(self.source, SqlQuery):
            self.source.check(self.key)
        check_input(self.input, self.request)
        check_row_files(self.files)
        check_choice("output_format", self.output_format, FORMATS)
        if str(self.output_path or "").strip() in {"", "None"}:
            raise RequestValidationError("output_path is missing: set a folder", fields=("output_path",))
        check_path("output_path", self.output_path)
        if not is_lazy(self.resume):
            check_choice("resume", read_boolean(self.resume), (True, False))
        check_choice("on_changed_request", self.on_changed_request, ON_CHANGED)
        check_choice("allow_empty", self.allow_empty, (True, False))
        if self.key is not None:
            check_type("key", self.key, str, expected="one column's name (combine several in the source)", lazy=is_lazy)
        check_list_of_names("columns", self.columns, optional=True, lazy=is_lazy)
        if self.load_to is not None:
            check_type("load_to", self.load_to, SqlTable, expected="SqlTable(conn_id, table)", type_only=True)
            self.load_to.check(self.key)
        escalations = check_escalations(self.escalate, model=self.model, request=self.request)
        check_judge(self.judge, escalations)
        check_output_type_is_set(escalations, self.output_type, has_judge=True)
        if not is_lazy(self.limits):
            Limits.parse(self.limits)
        if not is_lazy(self.shard):
            self._shard()
        before_paying.check_arguments(self.estimate_only, self.preview)
        check_choice("deferrable", self.deferrable, (True, False))
        batch_options(vars(self))

    def _shard(self) -> tuple[int, int]:
        return read_shard(self.shard)

    def _call_function(self, function: Callable[..., Any], row: Row, context: Context) -> Any:  # noqa: ARG002  for the decorator
        return function(row)
