"""What is likely to go wrong with an output path: the next attempt may run where it is another folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path, PosixPath, WindowsPath
from typing import Any, Final

from airflow.providers.common.compat.sdk import conf

from airflow_provider_responses.operators.paths import open_path

log = logging.getLogger(__name__)

_LOCAL: Final = (PosixPath, WindowsPath)  # with Airflow 2.11 an ObjectStoragePath is a Path as well
# Executors whose tasks all run on one machine.
_ONE_MACHINE: Final = frozenset({"LocalExecutor", "SequentialExecutor", "DebugExecutor"})


def warn_about(given: Any, executor: str | None = None) -> None:
    """
    Log what is likely to go wrong with an ``output_path`` that could be opened.

    :param given: as the task was given it.
    :param executor: the task's own; by default the one that Airflow is configured with.
    """
    for warning in _warnings(given, executor):
        log.warning("%s", warning)


def _warnings(given: Any, executor: str | None) -> Iterator[str]:
    path = open_path(given)
    if not isinstance(path, _LOCAL):
        return
    if _is_relative(given):
        yield (
            f"output_path {str(given)!r} is relative: it is {str(path)!r} here, and another folder for a worker that "
            "was started elsewhere, which would send all rows again; give an absolute path, or one of a store such as "
            "s3://…"
        )
    if (name := _executor(executor)) not in _ONE_MACHINE:
        yield (
            f"output_path {str(path)!r} is on this worker's disk, and {name} may run the next attempt on another, "
            "which would send all rows again; give a path of a store such as s3://…, unless all workers mount this "
            "folder from one place"
        )


def _is_relative(given: Any) -> bool:
    text = str(given if isinstance(given, (str, PathLike)) else getattr(given, "path", given))
    return "://" not in text and not Path(text).expanduser().is_absolute()


def _executor(own: str | None) -> str:
    """Return the class name of the executor that runs a task, which may name it by its alias."""
    # Such as "LocalExecutor,alias:some.module.CeleryExecutor;team=LocalExecutor".
    configured = re.split("[,;]", conf.get("core", "executor", fallback="LocalExecutor"))
    paths = [name.strip().rpartition("=")[2].rpartition(":") for name in configured]
    path = next((path for alias, _, path in paths if own in {alias, path}), own) if own else paths[0][2]
    return str(path).rpartition(".")[2]
