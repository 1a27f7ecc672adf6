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
    What one try of a task came to.

    :param response: the last answer, if any came; it knows those before it (``previous``).
    :param error: why the try failed.
    :param value: what goes to XCom as the return value, as plain JSON types.
    :param unread: that the answer still has to be read as an ``output_type`` whose class was not at hand.
    :param accepted: what is wrong with the response, though the task takes it (``on_invalid_output="return"``).
    :param invalid: whether the response does not match ``output_type``.
    :param repaired: whether its JSON had to be repaired.
    :param generations: records of kept answers by id, None where they could not be had.
    """

    response: Response | None = None
    error: ResponsesError | None = None
    accepted: ResponsesError | None = None
    value: Any = None
    unparsed: bool = False
    invalid: bool = False
    repaired: bool = False
    generations: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
