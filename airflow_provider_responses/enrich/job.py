"""The arguments of an enrichment, and its environment: clocks, random numbers and factories."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.enrich.columns import meta_columns
from airflow_provider_responses.enrich.index import Index
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import LEASE_SECONDS, OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.task.request import TaskRequest

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.content.row_files import RowFiles
    from airflow_provider_responses.enrich.judge import Judge
    from airflow_provider_responses.enrich.report import Report
    from airflow_provider_responses.observability.spans import Tracing
    from airflow_provider_responses.task.escalation import Escalation

PART_ROWS: Final = 1000
FLUSH_SECONDS: Final = 15.0

RowFields = Callable[[Row], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    The arguments of an enrichment.

    :param read_chunks: returns the rows of the source in chunks. It is called once, and blocks.
    :param row_fields: returns the fields of the request of a row.
    :param request: the other arguments of each request; its fields are not used.
    :param config: of the client.
    :param output_path: a ``Path``, an ``ObjectStoragePath`` or a ``Storage``.
    :param writer: the task instance.
    :param key: the column that identifies rows, by default their position.
    :param columns: of the source, that go into the result, by default all.
    :param shard: number of this task's share of the rows, and number of shares.
    :param options: for every request.
    :param resume: whether to use the responses of earlier attempts and runs.
    :param output_format: ``jsonl`` or ``parquet``.
    :param prompt: the record of the prompt; see :func:`prompt.describe`.
    :param on_changed_request: ``send`` rows again whose request has changed since they got a response, or ``fail``.
    :param allow_empty: whether a source without rows is a success.
    :param trial: is called before anything is sent, with the position and the columns of each row that will be sent.
        An exception in it ends the attempt.
    :param check_price: is called before anything is sent, with the job, the index, the counts of the attempt and
        the output. An exception in it ends the attempt.
    :param timeout: seconds that the attempt may take. Responses that arrived by then are saved.
    :param files: reads the files of rows; None if no row can have any.
    :param escalate: the larger models, for responses that are not accepted.
    :param judge: scores responses; None for no scores.
    """

    read_chunks: Callable[[], Iterable[list[Row]]]
    row_fields: RowFields
    request: TaskRequest
    config: ClientConfig
    output_path: Any
    writer: Writer
    limits: Limits = field(default_factory=Limits)
    key: str | None = None
    columns: Sequence[str] | None = None
    shard: tuple[int, int] = (0, 1)
    options: RequestOptions = field(default_factory=RequestOptions)
    resume: bool = True
    output_format: str = "jsonl"
    prompt: Mapping[str, Any] | None = None
    on_changed_request: Literal["send", "fail"] = "send"
    allow_empty: bool = True
    trial: Callable[[Iterator[tuple[int, Row]]], None] | None = None
    check_price: Callable[[Job, Index, Report, OutputStore], None] | None = None
    timeout: float | None = None
    files: RowFiles | None = None
    escalate: tuple[Escalation, ...] = ()
    judge: Judge | None = None

    @property
    def meta_columns(self) -> tuple[str, ...]:
        """The columns of the result beside those of the source and of the response."""
        return meta_columns(escalates=bool(self.escalate), judges=self.judge is not None)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """
    Clocks, random numbers, intervals and factories of an enrichment. Tests replace them.

    :param clock: seconds, as of ``time.monotonic``.
    :param now: seconds since the epoch.
    :param draw: returns a random number from 0 to 1.
    :param report: receives the figures of each progress line.
    :param log_group: returns the group of log lines with a name, for a ``with`` block.
    :param tracing: of the requests of single rows, None if no row has a span.
    :param client: makes the client.
    :param tick: seconds between two checks whether something must be written or reported.
    :param lease_seconds: after the lease's last renewal, until other writers may take over.
    :param progress_seconds: between two progress lines.
    :param part_rows: maximum number of rows of a part.
    :param flush_seconds: after which a smaller part is written.
    :param open_output: opens the output; all of its storage calls are methods.
    :param open_index: makes the index; each of its commits is a call of ``Index.commit``.
    :param part_writer: makes the part writer; each flush is a call of ``PartWriter.store``.
    """

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    report: Callable[[Mapping[str, Any]], None] = lambda _: None
    log_group: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext()
    tracing: Tracing | None = None
    client: Callable[[ClientConfig], AsyncResponsesClient] | None = None
    tick: float = 1.0
    lease_seconds: float = LEASE_SECONDS
    progress_seconds: float = 10.0
    part_rows: int = PART_ROWS
    flush_seconds: float = FLUSH_SECONDS
    open_output: Callable[..., OutputStore] = OutputStore
    open_index: Callable[[Path], Index] = Index
    part_writer: Callable[..., PartWriter] = PartWriter
