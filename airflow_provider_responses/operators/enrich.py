"""Many rows as one task: a table in, an enriched table out."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import name_of
from airflow_provider_responses.enrich.prompt import describe
from airflow_provider_responses.enrich.results import FORMATS
from airflow_provider_responses.enrich.sources import CsvFile, Row, read_file
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError, SourceError
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.operators.databases.loader import TableLoader
from airflow_provider_responses.operators.output_path_warnings import log_output_path_warnings
from airflow_provider_responses.operators.paths import open_path
from airflow_provider_responses.operators.progress_report import ProgressReport
from airflow_provider_responses.operators.source_argument import check_source, read_source, source_path
from airflow_provider_responses.operators.source_columns import check_template_columns, choose_loaded_columns
from airflow_provider_responses.operators.sql import SqlQuery, SqlTable
from airflow_provider_responses.operators.templates import RowTemplate
from airflow_provider_responses.task.arguments import is_lazy
from airflow_provider_responses.task.attempt import call_timeout
from airflow_provider_responses.task.idempotency import clearing_id, idempotency_key_of
from airflow_provider_responses.task.request import merge_fields, returned_fields
from airflow_provider_responses.task.texts import parse_number
from airflow_provider_responses.validation import check_choice, check_list_of_names, check_type, show, show_exception

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.enrich.engine import Enrichment
    from airflow_provider_responses.enrich.job import Environment

__all__ = ["ResponsesEnrichOperator"]

MAX_ROW_SHOWN: Final = 100  # characters of a row that a function of the user's has failed for
ON_CHANGED: Final = ("send", "fail")


class ResponsesEnrichOperator(BaseResponsesOperator):
    """
    Send a request for each row of a table, write all rows with their responses in order, and resume earlier attempts.

    XCom: ``return_value`` is the manifest: paths, counts by status, cost in US dollars, tokens, cache hits, seconds and
    rows a second. Rows never go to XCom.

    :param source: the table: a file (CSV, JSONL, Parquet) at a path that ``ObjectStoragePath`` opens, a ``CsvFile``, a
        ``SqlQuery``, or a list of dicts, such as another task's output.
    :param input: the prompt of a row: Jinja, with ``row`` beside the task's context, or a function that takes the
        row, a dict, and gives the input, or a whole request as a dict.
    :param key: the column that tells rows apart; by default their position and content do.
    :param columns: of the source, that go into the result; all by default.
    :param output_path: the folder of the result; what is in it is resumed from.
    :param output_format: ``jsonl`` or ``parquet``.
    :param resume: whether responses that are in ``output_path`` are used; otherwise all rows are sent again.
    :param on_changed_request: ``send`` rows again whose request has changed since they got their response, such as
        by another prompt, or ``fail`` before anything is sent.
    :param limits: ``Limits``, or a dict of them.
    :param shard: which share of the rows is this task's, and of how many, as ``(0, 4)``.
    :param load_to: a ``SqlTable`` that rows with a response are loaded into.
    :param allow_empty: whether a source without rows is a success.

    Without ``output_type``, the text of a response is the column ``output``; with it, its fields are columns.

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
        "model",
        "instructions",
        "request",
        "options",
        "conn_id",
        "prompt_template",  # the last: it shows the others as they were rendered
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "request": "json",
        "options": "json",
        "prompt_template": "json",
    }
    ui_color = "#eef0ff"
    # Each row has an input of its own, and no row is streamed.
    excluded_arguments = frozenset({"input", "stream"})
    retry_note = "Airflow's retries apply, and continue from the responses that are stored"
    data_fields = frozenset({"source"})
    object_fields = frozenset({"source", "request", "options", "columns", "limits", "shard"})

    def __init__(
        self,
        *,
        source: str | PathLike[str] | CsvFile | SqlQuery | Iterable[Mapping[str, Any]],
        output_path: str,
        input: str | Callable[[Row], Any] | None = None,
        key: str | None = None,
        columns: Sequence[str] | None = None,
        output_format: str = "jsonl",
        resume: bool = True,
        on_changed_request: Literal["send", "fail"] = "send",
        limits: Limits | Mapping[str, Any] | None = None,
        shard: Sequence[int] = (0, 1),
        load_to: SqlTable | None = None,
        allow_empty: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Copies, since templates are rendered in place, and mapped tasks share their arguments.
        self.source = copy.copy(source) if isinstance(source, (CsvFile, SqlQuery)) else source
        self.input = input
        self.key = key
        self.columns = columns
        self.output_path = output_path
        self.output_format = output_format
        self.resume = resume
        self.on_changed_request = on_changed_request
        self.limits = limits
        self.shard = shard
        self.load_to = copy.copy(load_to) if isinstance(load_to, SqlTable) else load_to
        self.allow_empty = allow_empty
        self._enrichment: Enrichment | None = None
        self._killed = False
        self.prompt_template = self._prompt(self.model)
        with self._refusing():
            self._check()

    @classmethod
    def check_given(cls, given: Mapping[str, Any]) -> None:
        super().check_given(given)
        if "source" in given:
            check_source(given["source"])
        check_choice("output_format", given.get("output_format", FORMATS[0]), FORMATS)
        check_choice("on_changed_request", given.get("on_changed_request", "send"), ON_CHANGED)
        check_list_of_names("columns", given.get("columns"), optional=True, lazy=is_lazy)
        if not is_lazy(given.get("limits")):
            Limits.parse(given.get("limits"))

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        if content is self.prompt_template:  # it holds the rows' template, which is not Airflow's
            return self._prompt(self.model)
        return super().render_template(content, *args, **kwargs)

    def _prompt(self, model: Any) -> dict[str, Any]:
        """Return the record of what all rows are asked by."""
        return describe(
            self.input,
            model=model,
            instructions=self.instructions,
            request=self.request,
            output_type=self.output_type,
        )

    @classmethod
    def stored_of(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        parts = {name: given.get(name) for name in ("model", "instructions", "request", "output_type")}
        return {"prompt_template": describe(given.get("python_callable", given.get("input")), **parts)}

    def execute(self, context: Context) -> dict[str, Any]:
        """Read, ask, write; see the class."""
        from airflow_provider_responses.enrich.engine import Enrichment

        began = time.monotonic()
        try:
            if isinstance(self.limits, Mapping):
                self.limits = {name: parse_number(limit) for name, limit in self.limits.items()}
            self._check(rendered=True)
            loader = None if self.load_to is None else TableLoader(self.load_to, self.key)
            progress = self._progress(context)
            enrichment = Enrichment(self._job(context, began, loader), self.environment(progress))
            log_output_path_warnings(self.output_path, self.executor)
        except ResponsesError as error:
            self._fail(error)
        self._enrichment = enrichment
        if self._killed:  # on_kill came before there was anything to tell
            enrichment.cancel()
        try:
            if loader is not None:
                loader.check_table(enrichment.fields)
            manifest = enrichment.run()
            if loader is not None:
                count = loader.load(self._rows_with_answers(manifest))
                self.log.info("Loaded %d rows into %s", count, loader.table.table)
        except ResponsesError as error:
            if enrichment.manifest is not None and self.do_xcom_push:
                context["ti"].xcom_push(key="return_value", value=enrichment.manifest)
            self._fail(error)
        finally:
            progress.close()
        return manifest

    def environment(self, report: Callable[[Mapping[str, float | None]], None]) -> Environment:
        """Return what the engine runs in, such as the clock and where progress is reported to."""
        from airflow_provider_responses.enrich.job import Environment

        return Environment(report=report)

    def on_kill(self) -> None:
        """Write what is answered, and drop what is in flight."""
        self._killed = True
        if self._enrichment is not None:
            self._enrichment.cancel()

    def _check(self, *, rendered: bool = False) -> None:
        """Refuse what can be seen without the source."""
        super()._check(rendered=rendered)
        check_source(self.source, rendered=rendered)
        if isinstance(self.source, SqlQuery):
            self.source.check(self.key)
        self._check_input()
        check_choice("output_format", self.output_format, FORMATS)
        if str(self.output_path or "").strip() in {"", "None"}:
            raise RequestValidationError("output_path: missing; give the folder of the result", fields=("output_path",))
        check_type("output_path", self.output_path, (str, PathLike), expected="a path", lazy=is_lazy)
        if not is_lazy(self.resume):
            check_choice("resume", str(self.resume).lower(), ("true", "false"))
        check_choice("on_changed_request", self.on_changed_request, ON_CHANGED)
        check_choice("allow_empty", self.allow_empty, (True, False))
        if self.key is not None:
            check_type("key", self.key, str, expected="one column's name (combine several in the source)", lazy=is_lazy)
        check_list_of_names("columns", self.columns, optional=True, lazy=is_lazy)
        if self.load_to is not None:
            check_type("load_to", self.load_to, SqlTable, expected="SqlTable(conn_id, table)", type_only=True)
            self.load_to.check(self.key)
        if not is_lazy(self.limits):
            Limits.parse(self.limits)
        if not is_lazy(self.shard):
            self._shard()

    def _check_place(self, folder: Any) -> None:
        """Refuse a source that the result would replace."""
        path = source_path(self.source)
        if path is None:
            return
        source = path.resolve()
        names = {f"result.{kind}" for kind in FORMATS}
        # Two connections may open one store, and a source that is replaced is lost.
        places = [name_of(path, with_connection=False) for path in (source.parent, folder.resolve())]
        if source.name in names and places[0] == places[1]:
            raise RequestValidationError(
                f"output_path: the result would replace the source {str(source)!r}; take another folder",
                fields=("output_path",),
            )

    def _check_input(self) -> None:
        if self.input is None and "prompt" not in (self.request or {}):
            raise RequestValidationError(
                "input: missing; give a template such as 'Sentiment of: {{ row.text }}', or a function of the row",
                fields=("input",),
            )
        if self.input is not None and not isinstance(self.input, str) and not callable(self.input):
            raise RequestValidationError(
                f"input is a {type(self.input).__name__}; allowed are a template and a function of the row",
                fields=("input",),
            )
        if inspect.iscoroutinefunction(self.input):
            raise RequestValidationError("input is an async function; take a plain one", fields=("input",))

    def _shard(self) -> tuple[int, int]:
        try:
            number, of = (int(part) for part in self.shard)
        except (TypeError, ValueError):
            number = of = -1
        if not 0 <= number < of:
            raise RequestValidationError(
                f"shard is {self.shard!r}; allowed are two whole numbers such as (0, 4), the first from 0 and smaller",
                fields=("shard",),
            )
        return number, of

    def _job(self, context: Context, began: float, loader: TableLoader | None) -> Any:
        from airflow_provider_responses.enrich.job import Job
        from airflow_provider_responses.enrich.output_store import Writer, name_of_owner
        from airflow_provider_responses.hooks.responses import ResponsesHook

        ti: Any = context["ti"]
        folder = open_path(self.output_path)
        self._check_place(folder)
        number, of = self._shard()
        if of > 1:
            folder /= f"shard-{number:04d}-of-{of:04d}"
        seconds = None
        if self.execution_timeout is not None:
            seconds = call_timeout(self.execution_timeout.total_seconds() - (time.monotonic() - began))
        ask, names, uses = self._asking(context)
        needed = None if self.columns is None or uses is None else {*self.columns, *uses, *filter(None, [self.key])}
        config = ResponsesHook(self.conn_id).config
        is_connections = self.model is None and {"model", "models"}.isdisjoint(self.request or {})
        return Job(
            chunks=lambda: choose_loaded_columns(
                check_template_columns(read_source(self.source, needed), names),
                loader,
                columns=self.columns,
                key=self.key,
            ),
            trial=None if loader is None else self._trial(loader),
            ask=ask,
            run=self._arguments().to_task_request(idempotency_key=None, stream=False),
            config=config,
            folder=folder,
            writer=Writer(
                owner=name_of_owner(ti),
                try_number=ti.try_number,
                idempotency_key=idempotency_key_of(ti, clearing_id=clearing_id(ti, self.retries)),
            ),
            limits=Limits.parse(self.limits),
            key=self.key,
            columns=self.columns,
            shard=(number, of),
            options=RequestOptions.parse(self.options),
            prompt=self._prompt(config.default_model if is_connections else self.model),
            on_changed_request=self.on_changed_request,
            resume=str(self.resume).lower() == "true",
            output_format=self.output_format,
            allow_empty=self.allow_empty,
            seconds=seconds,
        )

    def _trial(self, loader: TableLoader) -> Callable[[Iterator[tuple[int, Row]]], None] | None:
        """Return what loads rows and sample responses for a trial, where the database can take that back."""
        from airflow_provider_responses.enrich.answers import fields_of, type_of
        from airflow_provider_responses.enrich.output_columns import columns_of

        def try_rows(rows: Iterator[tuple[int, Row]]) -> None:
            if not loader.names or not loader.is_known:
                return
            from airflow_provider_responses.operators.databases.trial_load import TrialLoad

            run = self._arguments().to_task_request(idempotency_key=None, stream=False)
            nullable = self.on_invalid_output == "return"
            TrialLoad(loader, columns_of(type_of(run), fields_of(run), nullable=nullable)).run(rows)

        return try_rows if loader.table.trial else None

    def _asking(
        self, context: Context
    ) -> tuple[Callable[[Row], Mapping[str, Any]], frozenset[str], frozenset[str] | None]:
        """Return what makes a request about a row, the columns that it names, and all that it may read."""
        common = self._arguments().fields()
        if self.input is None:
            return (lambda _: common), frozenset(), frozenset()
        if callable(self.input):
            return self._calling(self.input, common, context), frozenset(), None
        if self._is_data(self.input):
            raise RequestValidationError(
                "input: came from another task through expand or expand_kwargs, and a template has to stand in the DAG "
                "file: in data it could read connections and variables. Write it there, and give what differs as "
                "columns of `source`",
                fields=("input",),
            )
        dag = self.get_dag()
        env = dag.get_template_env(force_sandboxed=True) if dag is not None else self.get_template_env()
        template = RowTemplate(self.input, env, context)
        ask = lambda row: merge_fields({"input": template.render(row)}, common)  # noqa: E731
        return ask, template.columns, template.uses

    def _calling(
        self, function: Callable[[Row], Any], common: Mapping[str, Any], context: Context
    ) -> Callable[[Row], Mapping[str, Any]]:
        def ask(row: Row) -> Mapping[str, Any]:
            try:
                given = self._call(function, row, context)
            except (ConnectionError, TimeoutError) as error:  # it may succeed for the same row later
                raise SourceError(f"input: the function raised {show_exception(error)}") from error
            except Exception as error:  # any exception is the row's own error, and no other row fails by it
                raise RequestValidationError(
                    f"the function raised {show_exception(error)}, for {show(row, most=MAX_ROW_SHOWN)}"
                ) from error
            return merge_fields(common, returned_fields(given))

        return ask

    def _call(self, function: Callable[..., Any], row: Row, context: Context) -> Any:  # noqa: ARG002  the decorator's wants it
        return function(row)

    def _progress(self, context: Context) -> ProgressReport:
        tags = {"dag_id": self.dag_id, "task_id": self.task_id}
        if (shard := self._shard()) != (0, 1):
            tags["shard"] = str(shard[0])
        return ProgressReport(tags, context.get("task_state_store"))

    def _rows_with_answers(self, manifest: Mapping[str, Any]) -> Iterator[Row]:
        taken = {"ok"} if self.on_invalid_output == "fail" else {"ok", "incomplete", "refused", "unreadable"}
        return (row for chunk in read_file(open_path(manifest["output"])) for row in chunk if row["_status"] in taken)
