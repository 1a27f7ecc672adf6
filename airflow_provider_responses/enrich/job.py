"""What an enrichment is to do, and what it runs in."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.enrich.index import Index
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import LEASE_SECONDS, OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.enrich.sources import Row
from airflow_provider_responses.task.request import TaskRequest

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient

PART_ROWS: Final = 1000
FLUSH_SECONDS: Final = 15.0

Ask = Callable[[Row], Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Job:
    """
    What a run does.

    :param chunks: gives the source's rows in chunks; it is called once, and blocks.
    :param ask: gives the fields of the request about a row.
    :param run: how rows are asked and their answers are read; its fields are not used.
    :param key: the column that tells rows apart; by default their position does.
    :param columns: of the source, that go into the result; all by default.
    :param shard: which share of the rows is this run's, and of how many.
    :param options: for every request.
    :param output_format: ``jsonl`` or ``parquet``.
    :param prompt: the record of what all rows are asked by; see :func:`prompt.describe`.
    :param on_changed_request: ``send`` rows again whose request has changed since they were answered, or ``fail``.
    :param allow_empty: whether a source without rows is a success.
    :param trial: is given each row that will be sent, with its position and columns, before anything is; what it raises
        ends the run.
    :param seconds: that the run may take; what is answered by then stays.
    """

    chunks: Callable[[], Iterable[list[Row]]]
    ask: Ask
    run: TaskRequest
    config: ClientConfig
    folder: Any
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
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """
    What a run is in: time and chance, where it reports to, and what it is made of. Tests replace them.

    :param report: takes the figures of the progress line.
    :param tick: seconds between looks at what has to be written or reported.
    :param lease_seconds: after the lease's last renewal, others may write.
    :param progress_seconds: between two progress lines.
    :param part_rows: in a part at most.
    :param flush_seconds: after which few responses are a part as well.
    :param open_folder: opens the output; all of its storage calls are methods.
    :param open_index: makes the index; each of its commits is a call of ``Index.commit``.
    :param part_writer: makes what writes the parts; each flush is a call of ``PartWriter.store``.
    """

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    report: Callable[[Mapping[str, float | None]], None] = lambda _: None
    client: Callable[[ClientConfig], AsyncResponsesClient] | None = None
    tick: float = 1.0
    lease_seconds: float = LEASE_SECONDS
    progress_seconds: float = 10.0
    part_rows: int = PART_ROWS
    flush_seconds: float = FLUSH_SECONDS
    open_folder: Callable[..., OutputStore] = OutputStore
    open_index: Callable[[Path], Index] = Index
    part_writer: Callable[..., PartWriter] = PartWriter
