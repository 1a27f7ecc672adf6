"""One attempt of an enrichment, in a process that may be killed."""

from __future__ import annotations

import os
import signal
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.part_writer import PartWriter
from airflow_provider_responses.task.escalation import Escalation
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.crashes import Crash, CrossingDisk, CrossingIndex, Point
from tests.enrich.jobs import Label, enrich, table

ROWS = 1000
CONCURRENCY = 16


class Whole(OutputStore):
    """A store that has no appends, as object stores have none."""

    can_append = False


def kill() -> None:
    """Kill this process, without any chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_halfway(file: int) -> None:
    """Kill it when half of a file is written."""
    os.ftruncate(file, os.fstat(file).st_size // 2)
    kill()


class KilledDisk(CrossingDisk):
    """Local disk, of a process that is killed while the storage writes a file."""

    def tear(self, operation: str, name: str, data: bytes, effect: Callable[[], Any]) -> None:
        if operation == "append":
            super().tear(operation, name, data, effect)
        else:
            os.fsync = kill_halfway  # no other thread writes now
            effect()


def killed_at(crash: Crash) -> dict[str, Any]:
    """Return an environment in which the process is killed at a boundary."""

    class Writing(PartWriter):
        def store(self, lines: list[str]) -> None:
            with crash.around("flush"):
                super().store(lines)

    return {"open_index": lambda path: CrossingIndex(path, crash), "part_writer": Writing}


def is_unsure(value: Any) -> bool:
    """Return whether a text is not accepted, as about a fifth of them."""
    return zlib.crc32(value.encode()) % 5 == 0


def steps() -> dict[str, Any]:
    """Return a larger model and a judge of half of the rows, as arguments of a job."""
    return {
        "escalate": (Escalation(model="openai/gpt-4o", when=is_unsure),),
        "judge": Judge(model="google/gemini-2.5-flash", rubric="From 1 to 5.", sample=0.5),
    }


def main(
    url: str,
    folder: str,
    attempt: int,
    *,
    cache: bool = True,
    rows: int = ROWS,
    limits: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    appends: bool = True,
    at: tuple[str, int, str] | None = None,
    has_steps: bool = False,
) -> None:
    crash = Crash(None if at is None else Point(*at), stop=kill)
    killed = {} if at is None else killed_at(crash)
    enrich(
        SimpleNamespace(base_url=url),
        Path(folder) if at is None else KilledDisk(Path(folder), crash),
        table(rows),
        Environment(open_output=OutputStore if appends else Whole, **(environment or {}) | killed),
        request=TaskRequest(fields={}, output_type=None if has_steps else Label, stream=False, cache=cache),
        writer=Writer(owner="task", try_number=attempt),
        limits=Limits(**{"concurrency": CONCURRENCY, **(limits or {})}),
        **(steps() if has_steps else {}),
    )
