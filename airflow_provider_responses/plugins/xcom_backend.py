"""Reads the values of XComs, also those that a custom XCom backend has stored elsewhere."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final, cast

from airflow.providers.common.compat.sdk import conf

SECONDS: Final = 10.0  # in which a backend may read all values of one page; each may be a file in an object store

log = logging.getLogger(__name__)


class UnreadableError(Exception):
    """A value could not be read."""


class XComValues:
    """
    See the module.

    :param clock: seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_at = clock() + SECONDS
        self._failure: str | None = None
        self._read = self._backend()

    @property
    def is_custom(self) -> bool:
        """Whether a custom backend stores the values."""
        return self.backend is not None

    def _backend(self) -> Callable[[Any], Any] | None:
        """Return the method of a custom backend that reads values, None if there is none."""
        from airflow.sdk.bases.xcom import BaseXCom

        own = f"{BaseXCom.__module__}.{BaseXCom.__qualname__}"
        path = str(conf.get("core", "xcom_backend", fallback=own) or own)
        name = path.rpartition(".")[2]
        self.backend: str | None = None
        if path in {own, "airflow.sdk.execution_time.xcom.BaseXCom", "airflow.models.xcom.BaseXCom"}:
            return None
        try:
            found = _import(path)
        except Exception as error:  # noqa: BLE001  a user's module may raise anything
            log.warning("The XCom backend %s cannot be imported: %s", path, error)
            self.backend, self._failure = name, f"{name} cannot be imported: {type(error).__name__}"
            return None
        if found.deserialize_value is BaseXCom.deserialize_value:
            return None  # it stores values as Airflow does
        self.backend = name
        return cast("Callable[[Any], Any]", found.deserialize_value)

    def read(self, key: str, value: Any, is_expected: Callable[[Any], bool]) -> Any:
        """
        Return a value.

        :param value: as the database has it.
        :param is_expected: whether a value has the form that is looked for; the backend reads the others.
        :raises UnreadableError: if the backend fails, or has no time left.
        """
        plain = decoded(value)
        if not self.is_custom or is_expected(plain):
            return plain
        if self._read is None:
            raise UnreadableError(self._failure)
        if self._clock() > self._ends_at:
            raise UnreadableError(f"{self.backend} took longer than {SECONDS:g} s for the values before")
        try:
            return self._read(SimpleNamespace(key=key, value=value))
        except Exception as error:
            log.warning("The XCom backend %s cannot read a value: %s", self.backend, type(error).__name__)
            raise UnreadableError(f"{self.backend} failed: {type(error).__name__}") from error


def decoded(value: Any) -> Any:
    """Return a value of the database, which Airflow stores as JSON or as a text with JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _import(path: str) -> Any:
    import importlib

    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
