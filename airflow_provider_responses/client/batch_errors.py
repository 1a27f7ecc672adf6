"""The meaning of the errors of batch calls, and advice for each. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from airflow_provider_responses.exceptions import ResponsesError, TransportError

# The kinds of calls. `result` is the result of one request in a batch; OpenAI's API has files that are uploaded, whose
# content is read, and that are deleted.
BatchAction = Literal["upload", "submit", "list", "read", "content", "cancel", "delete", "result"]

MAY_EXIST: Final = "The batch may exist: look for it with list_batches() before it is submitted again"
# Server errors of a submit after which no batch exists.
REJECTED: Final = frozenset({501, 503})
# Other statuses of a submit after which a batch may exist.
UNCLEAR: Final = frozenset({408})

ADVICE: Final[Mapping[tuple[BatchAction, int], str]] = {
    ("upload", 413): "Split the requests over several batches",
    ("submit", 413): "Split the requests over several batches",
    ("read", 404): "Check the batch's id. The batch may belong to another key",
    ("content", 404): "The file of the results was deleted, or has expired. Submit the requests again",
    ("cancel", 404): "Check the batch's id. The batch may belong to another key",
    ("cancel", 409): "The batch has finished: read its results",
    ("read", 409): "The batch has not finished: poll get_batch() until is_finished is true",
    ("read", 410): "The batch has expired. Submit the requests again",
}
ADVICE_OPENROUTER: Final[Mapping[tuple[BatchAction, int], str]] = {
    **ADVICE,
    ("submit", 404): "Check that the model can be used in batches (https://openrouter.ai/models?variant=batch), and "
    "the connection's base URL",
    (
        "read",
        402,
    ): "The account owes the price of the batch: add credits (https://openrouter.ai/settings/credits); then "
    "the batch can be read",
    ("read", 404): "Check the batch's id. The batch may have been deleted, or belongs to another key's workspace",
    ("read", 410): "The batch has expired: the server holds results for 30 days. Submit the requests again",
    ("delete", 404): "Check the batch's id. The batch may have been deleted, or belongs to another key's workspace",
    ("delete", 409): "A batch can be deleted after it has finished: poll get_batch() until is_finished is true",
    ("delete", 410): "The batch has expired: there is nothing to delete",
}
ADVICE_RESULT: Final = "Send this request again, in another batch or by itself"


def advise_batch(action: BatchAction, status: int, *, retryable: bool, is_openrouter: bool) -> str | None:
    """Return the advice for an error of a batch call, None if it is the same as for other calls."""
    if action == "submit" and may_have_created(status):
        return MAY_EXIST
    if action == "result" and retryable:
        return ADVICE_RESULT
    return (ADVICE_OPENROUTER if is_openrouter else ADVICE).get((action, status))


def may_have_created(status: int) -> bool:
    """Return whether a batch may exist although its submit failed with this status."""
    return (status >= 500 and status not in REJECTED) or status in UNCLEAR


def is_ambiguous(action: BatchAction | None) -> bool:
    """Return whether a call without a response may have had an effect that costs: only a submit has one."""
    return action in (None, "submit")


def is_refused(action: BatchAction | None, status: int) -> bool:
    """Return whether the same batch call fails again within seconds, although other calls with this status may not."""
    if action in (None, "result"):
        return False
    return status == 501 or (status == 409 and action in ("read", "cancel", "delete"))


def mark_upload_failure(error: ResponsesError, action: BatchAction | None, *, body_began: bool) -> None:
    """Mark a failure during the upload of the requests as ambiguous if a batch may exist."""
    if action == "submit" and isinstance(error, TransportError):
        error.ambiguous = error.ambiguous or body_began
