"""Paths on this machine and in object stores."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.task.arguments import is_lazy
from airflow_provider_responses.validation import wrong_value


def is_path(value: Any) -> bool:
    """Whether a value is a path: text, a ``Path``, or an ``ObjectStoragePath``, which is no ``PathLike``."""
    return isinstance(value, (str, PathLike)) or hasattr(value, "protocol")


def check_path(name: str, value: Any) -> None:
    """
    Refuse a value that is no path; one that is known only when the task runs is not checked.

    :param name: the argument.
    :raises RequestValidationError: naming it.
    """
    if not is_path(value) and not is_lazy(value):
        raise wrong_value(name, "a path", value)


def open_path(path: Any) -> Any:
    """
    Return a ``Path`` for a path on this machine, else an ``ObjectStoragePath``.

    :raises ConfigurationError: if no installed provider has the path's storage.
    """
    opened: Any = path
    if isinstance(opened, str) and opened.startswith("file://"):
        host, _, rest = opened.removeprefix("file://").partition("/")
        if host not in {"", "localhost"}:
            raise ConfigurationError(f"{path}: a file:// path has three slashes, as in file:///data/out")
        opened = f"/{rest}"
    try:
        if isinstance(opened, str) and "://" in opened:
            from airflow.providers.common.compat.sdk import ObjectStoragePath

            opened = ObjectStoragePath(opened)
        protocol = getattr(opened, "protocol", "")
        if protocol not in {"", "file"}:
            opened.fs  # noqa: B018  fails here, and not when a file is opened after all has been paid
            return opened
    except ValueError as error:
        raise ConfigurationError(
            f"{path}: {error}. Install the provider of this storage on the workers, such as "
            "apache-airflow-providers-amazon for s3"
        ) from None
    local = Path(getattr(opened, "path", opened)).expanduser()
    # One folder has one name, however it was written. Links are resolved only for `..`, whose folder depends on them.
    return local.resolve() if ".." in local.parts else local.absolute()
