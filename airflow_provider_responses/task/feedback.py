"""
The request that is sent after an invalid response, with the reason added to its input. No I/O and no Airflow.

It is another request, with an idempotency key of its own: OpenRouter caches its response beside the invalid one. A
retry of the task gets all of them at no cost, one after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.task.idempotency import METADATA_KEY

if TYPE_CHECKING:
    from airflow_provider_responses.exceptions import OutputValidationError
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.task.request import TaskRequest


def feedback_of(request: TaskRequest, error: OutputValidationError) -> str | None:
    """
    Return the text that is added to a request after an invalid response.

    None if nothing is added: after a truncated response, which a longer input would not help, or if the task has
    ``output_feedback=False``.
    """
    response = error.response
    if not request.output_feedback or response is None or response.status not in {None, "completed"}:
        return None
    return None if response.maybe_truncated else error.feedback


def with_feedback(request: ResponsesRequest, feedback: Sequence[str]) -> ResponsesRequest:
    """
    Return a request with texts of :func:`feedback_of` after its input, each as a message of the user.

    :param request: the first one, with its idempotency key.
    """
    if not feedback:
        return request
    in_extra_body = "input" in request.extra_body
    given: Any = request.extra_body["input"] if in_extra_body else request.input
    if isinstance(given, str):
        given = [_message(given)]
    elif given is not None and not isinstance(given, list):
        return request  # of a form that only its server knows
    items = [*(given or ()), *map(_message, feedback)]
    changes: dict[str, Any] = (
        {"extra_body": {**request.extra_body, "input": items}} if in_extra_body else {"input": items}
    )
    metadata = request.metadata or {}
    if METADATA_KEY in metadata:
        changes["metadata"] = {**metadata, METADATA_KEY: f"{metadata[METADATA_KEY]}-{len(feedback)}"}
    return request.model_copy(update=changes)


def _message(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text}
