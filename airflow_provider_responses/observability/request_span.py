"""The span of a request that is not traced: its methods do nothing. DAG files import this module, so it is small."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response


class RequestSpan:
    """The span of one request, with all its sends. This class records nothing; see ``spans.RecordedSpan``."""

    __slots__ = ()
    is_recorded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        pass

    def begin_call(self) -> None:
        """Note that a call of the client begins: the times of its failed sends count from now."""

    def add_resends(self, errors: Iterable[Exception]) -> None:
        """Add an event for each failed send of the last call that was followed by another one."""

    def set_outcome(self, response: Response | None, error: Exception | None, cost: float | None) -> None:
        """
        Set the attributes of the last response, and the status.

        :param cost: US dollars of all responses to the request, None if unknown.
        """


NO_SPAN: Final = RequestSpan()
