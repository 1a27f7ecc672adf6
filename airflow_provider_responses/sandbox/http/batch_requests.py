"""The requests of a batch, once they were validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RequestError:
    """The error of one request."""

    status: int
    message: str
    error_type: str


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """
    One request of a batch.

    :param body: complete and valid, unless there is an ``error``.
    """

    custom_id: str
    model: str
    body: dict[str, Any]
    error: RequestError | None = None
