"""Warnings about an output path that the next attempt, on another worker, would not find."""

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


def log_output_path_warnings(output_path: Any, executor: str | None = None) -> None:
    """
    Log why the next attempt may not find an ``output_path``.

    :param output_path: the operator's argument; it can be opened.
    :param executor: the task's own; by default the one that Airflow is configured with.
    """
    for warning in _warnings(output_path, executor):
        log.warning("%s", warning)


def _warnings(output_path: Any, executor: str | None) -> Iterator[str]:
    path = open_path(output_path)
    if not isinstance(path, _LOCAL):
        return
    if _is_relative(output_path):
        yield (
            f"output_path {str(output_path)!r} is relative: it is {str(path)!r} here, and another folder for a worker "
            "that was started elsewhere, which would send all rows again. Use an absolute path, or one of a store such "
            "as s3://…"
        )
    if (name := _executor_class(executor)) not in _ONE_MACHINE:
        yield (
            f"output_path {str(path)!r} is on this worker's disk, and {name} may run the next attempt on another, "
            "which would send all rows again. Use a path of a store such as s3://…, unless all workers mount this "
            "folder from one place"
        )


def _is_relative(path: Any) -> bool:
    text = str(path if isinstance(path, (str, PathLike)) else getattr(path, "path", path))
    return "://" not in text and not Path(text).expanduser().is_absolute()


def _executor_class(own: str | None) -> str:
    """Return the class name of the executor that runs a task, which may name it by its alias."""
    # Such as "LocalExecutor,alias:some.module.CeleryExecutor;team=LocalExecutor".
    configured = re.split("[,;]", conf.get("core", "executor", fallback="LocalExecutor"))
    paths = [name.strip().rpartition("=")[2].rpartition(":") for name in configured]
    path = next((path for alias, _, path in paths if own in {alias, path}), own) if own else paths[0][2]
    return str(path).rpartition(".")[2]
