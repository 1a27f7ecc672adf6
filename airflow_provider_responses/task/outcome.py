"""The outcome of one attempt of a task. No I/O and no Airflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.exceptions import ResponsesError
    from airflow_provider_responses.models.response import Response


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    The outcome of one attempt of a task.

    :param response: the last response, if any arrived; ``previous`` has the errors of the sends before it.
    :param error: why the attempt failed.
    :param accepted: the error of a truncated, refused or invalid response that the task accepts
        (``on_invalid_output="return"``).
    :param value: the return value for XCom, as plain JSON types.
    :param unparsed: whether a worker must read the response, since this process cannot import the class of
        ``output_type``, or may not decide whether a larger model gets the request.
    :param invalid: whether the response does not match ``output_type``.
    :param repaired: whether its JSON had to be repaired.
    :param tier: of the model that the last send went to; see ``task.escalation``.
    :param escalated: number of times that a larger model got the request.
    :param generations: OpenRouter's records of cached responses by id, None for those that could not be looked up.
    """

    response: Response | None = None
    error: ResponsesError | None = None
    accepted: ResponsesError | None = None
    value: Any = None
    unparsed: bool = False
    invalid: bool = False
    repaired: bool = False
    tier: int = 0
    escalated: int = 0
    generations: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
