"""Responses that are not written yet, and how they become the lines of parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_responses.enrich.answers import line_of, text_of
from airflow_provider_responses.enrich.sources import CHUNK_SIZE

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.progress import Answer

Known = list[tuple[bytes, str, str]]


class PartWriter:
    """
    See the module.

    :param folder: where parts are written.
    :param index: of the rows, which learns of what is written.
    :param fields: the columns that hold what the model responded.
    :param typed: whether a value has a field for each of them.
    :param clock: seconds, as of ``time.monotonic``.
    :param part_rows: in a part at most.
    :param part_size: characters of a part, about.
    :param flush_seconds: after which few responses are a part as well.
    """

    def __init__(
        self,
        folder: OutputStore,
        index: Index,
        fields: tuple[str, ...],
        *,
        typed: bool,
        clock: Callable[[], float],
        part_rows: int,
        flush_seconds: float,
        part_size: int = CHUNK_SIZE,
    ) -> None:
        self._folder, self._index, self._fields, self._typed = folder, index, fields, typed
        self._clock, self._part_rows, self._part_size = clock, part_rows, part_size
        self._flush_seconds = flush_seconds
        self._unwritten: list[Answer] = []
        self._flushed_at = clock()

    def keep(self, answer: Answer) -> None:
        """Take what came of a request."""
        self._unwritten.append(answer)

    async def flush_due(self) -> None:
        """Write whole parts, and after ``flush_seconds`` what there is."""
        due = len(self._unwritten)
        if self._clock() - self._flushed_at < self._flush_seconds:
            due -= due % self._part_rows  # the rest may wait, and so makes no small part
        while due > 0:
            answers, lines, known = self._part()
            await asyncio.to_thread(self._folder.write_part, lines)
            self._is_written(answers)
            self._index.know(known)
            due -= answers

    def flush(self) -> None:
        """Write all, before the index, which may have no room, learns of it."""
        written: Known = []
        while self._unwritten:
            answers, lines, known = self._part()
            self._folder.write_part(lines)
            self._is_written(answers)
            written += known
        self._index.know(written)

    def _is_written(self, answers: int) -> None:
        del self._unwritten[:answers]  # first of all: else they would be written twice
        self._flushed_at = self._clock()

    def _part(self) -> tuple[int, list[str], Known]:
        """Return how many responses make the next part, its lines, and what the index learns."""
        lines: list[str] = []
        known: Known = []
        size = 0
        for answer in self._unwritten[: self._part_rows]:
            text = text_of(answer, self._fields, typed=self._typed)
            known.append((answer.pending.fingerprint, answer.status, text))
            lines.append(line_of(self._index, answer, text))
            size += len(lines[-1])
            if size >= self._part_size:
                break
        return len(lines), lines, known
