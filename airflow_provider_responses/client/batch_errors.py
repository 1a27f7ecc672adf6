"""The meaning of the errors of batch calls, and advice for each. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from airflow_provider_responses.exceptions import APIError, ResponsesError, TransportError

# The kinds of calls: a submit, a list, a read of one batch, a deletion, and the result of one request in a batch.
BatchAction = Literal["submit", "list", "read", "delete", "result"]

MAY_EXIST: Final = "The batch may exist: look for it with list_batches() before it is submitted again"
# Server errors of a submit after which no batch exists.
REJECTED: Final = frozenset({503})
# Other statuses of a submit after which a batch may exist.
UNCLEAR: Final = frozenset({408})

ADVICE: Final[Mapping[tuple[BatchAction, int], str]] = {
    ("submit", 404): "Check that the model can be used in batches (https://openrouter.ai/models?variant=batch), and "
    "the connection's base URL",
    ("submit", 413): "Split the requests over several batches",
    (
        "read",
        402,
    ): "The account owes the price of the batch: add credits (https://openrouter.ai/settings/credits); then "
    "the batch can be read",
    ("read", 404): "Check the batch's id. The batch may have been deleted, or belongs to another key's workspace",
    ("read", 409): "The batch has not finished: poll get_batch() until is_finished is true",
    ("read", 410): "The batch has expired: the server holds results for 30 days. Submit the requests again",
    ("delete", 404): "Check the batch's id. The batch may have been deleted, or belongs to another key's workspace",
    ("delete", 409): "A batch can be deleted after it has finished: poll get_batch() until is_finished is true",
    ("delete", 410): "The batch has expired: there is nothing to delete",
}
ADVICE_RESULT: Final = "Send this request again, in another batch or by itself"


def advise_batch(action: BatchAction, status: int, *, retryable: bool) -> str | None:
    """Return the advice for an error of a batch call, None if it is the same as for other calls."""
    if action == "submit" and may_have_created(status):
        return MAY_EXIST
    if action == "result" and retryable:
        return ADVICE_RESULT
    return ADVICE.get((action, status))


def may_have_created(status: int) -> bool:
    """Return whether a batch may exist although its submit failed with this status."""
    return (status >= 500 and status not in REJECTED) or status in UNCLEAR


def is_ambiguous(action: BatchAction | None) -> bool:
    """Return whether a call without a response may have had an effect that costs: reads of a batch have none."""
    return action in (None, "submit")


def is_refused(action: BatchAction | None, status: int) -> bool:
    """Return whether the same batch call fails again within seconds, although other calls with this status may not."""
    return status == 409 and action in ("read", "delete")


def mark_submit_failure(error: ResponsesError, *, body_began: bool) -> ResponsesError:
    """Return the error of a submit, which is ambiguous if a batch may exist."""
    if isinstance(error, TransportError):
        error.ambiguous = error.ambiguous or body_began
    elif isinstance(error, APIError) and error.status_code is not None:
        error.ambiguous = error.ambiguous or may_have_created(error.status_code)
    return error
