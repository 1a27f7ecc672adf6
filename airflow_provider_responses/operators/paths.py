"""Paths of this machine and of object stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow_provider_responses.exceptions import ConfigurationError


def open_path(given: Any) -> Any:
    """
    Return a ``Path`` for what is on this machine, else an ``ObjectStoragePath``.

    :raises ConfigurationError: for a storage that Airflow does not know.
    """
    path: Any = given
    if isinstance(path, str) and path.startswith("file://"):
        host, _, rest = path.removeprefix("file://").partition("/")
        if host not in {"", "localhost"}:
            raise ConfigurationError(f"{given}: a file:// path has three slashes, as in file:///data/out")
        path = f"/{rest}"
    try:
        if isinstance(path, str) and "://" in path:
            from airflow.providers.common.compat.sdk import ObjectStoragePath

            path = ObjectStoragePath(path)
        protocol = getattr(path, "protocol", "")
        if protocol not in {"", "file"}:
            path.fs  # noqa: B018  else it is missed only when a file is opened, after all has been paid
            return path
    except ValueError as error:
        raise ConfigurationError(
            f"{given}: {error}; install the provider of this storage on the workers, such as "
            "apache-airflow-providers-amazon for s3"
        ) from None
    local = Path(getattr(path, "path", path)).expanduser()
    # One folder has one name, whatever it was called by; what is above it, only the links on the way tell.
    return local.resolve() if ".." in local.parts else local.absolute()
