"""
One attempt of a task: its sends, one after another, until there is an outcome.

No I/O and no Airflow: all execution modes (worker, triggerer, a row of a table) share it and cannot drift apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import OutputValidationError, ResponsesError
from airflow_provider_responses.task.cost import dollars
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest, caches

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

LONGEST_WAIT: Final = 86_400.0  # seconds: a service that asks for more does not stop a task for longer
TIMEOUT_MARGIN: Final = 1.0  # seconds that a call ends before its task would, at most a twentieth of the time


def before(execution_timeout: float) -> float:
    """Give the seconds that a call may take, so that it ends before Airflow ends its task and can say what it spent."""
    return max(execution_timeout - min(TIMEOUT_MARGIN, execution_timeout / 20), 0.001)


class Exchange:
    """
    The sends of one try: an answer that is not as typed is asked for again. Whoever runs it does the sending.

    :param run: what is asked.
    :param options: as ``TaskRequest.prepare`` gave them.
    :param note: is called with an invalid response's error before the request is sent again; by default it is logged.
    """

    def __init__(
        self, run: TaskRequest, options: RequestOptions, *, note: Callable[[OutputValidationError], None] | None = None
    ) -> None:
        self.run = run
        self._note = note or self._log
        self._options = options
        self._retries = run.output_retries
        self._earlier: tuple[Exception, ...] = ()
        self._last: Response | None = None

    @property
    def paid(self) -> float | None:
        """US dollars of the last answer, None if it is unknown or was kept."""
        return None if self._last is None or self._last.cached else self._last.usage.cost

    def options(self, left: float) -> RequestOptions:
        """
        Give the options of the next send.

        :param left: seconds that it may take.
        """
        options = replace(self._options, timeout=left)
        if self._earlier and caches(options):  # else the answer that would not do comes again
            return options.with_headers({"X-OpenRouter-Cache-Clear": "true"})
        return options

    def receive(self, response: Response) -> Outcome | None:
        """Take an answer; None asks for another send."""
        if self._earlier:
            response = replace(response, previous=(*self._earlier, *response.previous))
        self._last = response
        if self.run.lacks_output_type:
            return Outcome(response=response, unparsed=True)
        try:
            return self.run.read(response)
        except OutputValidationError as error:
            if not self._retries:
                error.response = response
                error.after(response.previous)
                return Outcome(response=response, error=error, invalid=True)
            self._retries -= 1
            error.wait = 0.0
            error.response = replace(response, previous=())
            self._earlier = (*response.previous, error)
            self._note(error)
            return None

    def _log(self, error: OutputValidationError) -> None:
        cost = None if error.response is None else error.response.usage.cost
        log.warning(
            "Asking again, within this try (%d more after this): %s. It had cost %s",
            self._retries,
            error,
            dollars(cost),
        )

    def fail(self, error: ResponsesError) -> Outcome:
        """Take a failure."""
        if error.response is not None:
            error.response = replace(error.response, previous=(*self._earlier, *error.response.previous))
        error.after((*self._earlier, *error.previous))
        if error.response is not None and self.run.accepts(error):
            if self.run.lacks_output_type:
                return Outcome(response=error.response, unparsed=True)
            return replace(self.run.read(error.response), accepted=error)
        # An earlier answer was paid for, though the last send brought none.
        last = None if self._last is None else replace(self._last, previous=error.previous)
        return Outcome(response=error.response or last, error=error)


def log_line(response: Response, usage: Mapping[str, Any]) -> str:
    """Return the one line about a response; it holds neither prompt nor text."""
    cache = "hit (nothing paid)" if response.cached else "miss"
    seconds = "?" if response.seconds is None else f"{response.seconds:.1f}"
    return (
        f"Response {response.id} by {response.model}: {usage['input_tokens']} + {usage['output_tokens']} tokens, "
        f"cost {dollars(usage['cost'])}, cache {cache}, sends {len(usage['sends'])}, {seconds} s, "
        f"generation {response.generation_id}"
    )
