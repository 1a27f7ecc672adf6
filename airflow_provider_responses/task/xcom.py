"""
The XCom ``usage`` that a task pushes beside its return value. Its form is public.

No I/O and no Airflow. ``docs/responses.md`` describes each field, and has the form as a JSON schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired

from typing_extensions import TypedDict

from airflow_provider_responses.exceptions import (
    BudgetExceededError,
    ConfigurationError,
    RequestValidationError,
    ResponsesError,
    ToolError,
    VersionMismatchError,
)

if TYPE_CHECKING:
    from airflow_provider_responses.models.response import Response, Usage

VERSION: Final = 1  # of the form below; a field that is added does not change it
RETURN_KEY: Final = "return_value"
USAGE_KEY: Final = "usage"
KEYS: Final = frozenset({RETURN_KEY, USAGE_KEY})
# Keys, and beginnings of keys, that this package or Airflow uses.
_RESERVED: Final = frozenset({*KEYS, "skipmixin_key"})
_RESERVED_PREFIXES: Final = ("airflow_provider_responses.", "_link_")


class Cause(TypedDict):
    """The cause of a failed send: the class of its error, and the HTTP status, null without an HTTP response."""

    error: str
    status: int | None


class Send(TypedDict):
    """
    One request over HTTP.

    ``cause`` is null for the send that brought the response, and ``wait`` for the last one. The others are there if the
    response was not accepted: the model that has made it, the larger one that got the request, and the response's cost
    in US dollars and tokens; of a cached one, those of the response that it repeats.
    """

    cause: Cause | None
    ambiguous: bool
    wait: float | None
    model: NotRequired[str | None]
    escalated_to: NotRequired[str]
    cost: NotRequired[float | None]
    cached: NotRequired[bool]
    input_tokens: NotRequired[int | None]
    output_tokens: NotRequired[int | None]


class StepCall(TypedDict):
    """
    A call of a tool.

    ``status`` is succeeded, failed, unknown_tool or invalid_arguments; null without a result. ``seconds`` is null if
    the tool did not run in this attempt.
    """

    name: str
    status: str | None
    seconds: float | None


class Step(TypedDict):
    """One request of a task with tools, and the calls that its response requested."""

    response_id: str | None
    generation_id: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    cost_this_attempt: float | None
    cached: bool | None
    sends: list[Send]
    calls: list[StepCall]


class UsageXCom(TypedDict):
    """The XCom ``usage`` of one attempt of a task. Unknown is null, never 0. Later versions may add fields."""

    version: Literal[1]
    kind: Literal["request", "enrichment"]
    prompt_fingerprint: str | None
    status: str | None
    model: str | None
    provider: str | None
    response_id: str | None
    generation_id: str | None
    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    cost_this_attempt: float | None
    cached: bool | None
    sends: list[Send]
    ambiguous_sends: int
    maybe_truncated: bool | None
    inconsistent: bool | None
    repaired: bool | None
    steps: list[Step] | None
    escalated: int | None


class ModelUsage(TypedDict):
    """
    The requests of an enrichment that one model has served, of all its attempts since it was last cleared.

    ``model`` is null for requests without a response. ``unpriced`` is the number of responses without a price, and of
    sends that may have been billed.
    """

    model: str | None
    requests: int
    failed: int
    cached: int
    cost: float | None
    unpriced: int
    input_tokens: int | None
    output_tokens: int | None


class EnrichmentUsageXCom(UsageXCom):
    """The XCom ``usage`` of one attempt of an enrichment: the sums over its table."""

    requests: int
    requests_cached: int
    requests_failed: int
    failures: dict[str, int]
    models: list[ModelUsage]
    rows: int | None
    result_path: str | None


def usage_of(
    *,
    response: Response | None,
    error: ResponsesError | None,
    tokens: Usage | None,
    cost: float | None,
    cost_this_attempt: float | None,
    generation: Mapping[str, Any] | None = None,
    invalid: bool = False,
    repaired: bool = False,
    prompt_fingerprint: str | None = None,
    escalated: int | None = None,
    price_of: Callable[[Response], tuple[float | None, Usage]] | None = None,
) -> UsageXCom:
    """
    Return the ``usage`` of an attempt.

    :param response: the last response, None if none arrived.
    :param error: why the attempt failed.
    :param tokens: of the response; of a cached one, those of the response that it repeats.
    :param cost: US dollars, of all attempts since the task was cleared.
    :param cost_this_attempt: US dollars.
    :param generation: OpenRouter's record of the response that a cached one repeats.
    :param invalid: whether the response does not match the task's ``output_type``.
    :param repaired: whether its JSON had to be repaired.
    :param prompt_fingerprint: of the request.
    :param escalated: number of times that a larger model got the request, since the task was cleared.
    :param price_of: returns the US dollars and the tokens of an earlier response.
    """
    sends = sends_of(response, error, price_of)
    generation_id = None if response is None else response.generation_id
    return {
        "version": VERSION,
        "kind": "request",
        "prompt_fingerprint": prompt_fingerprint,
        "status": _status(response, error, invalid=invalid),
        "model": None if response is None else response.model,
        "provider": None if response is None else provider_of(response, generation),
        "response_id": None if response is None else response.id,
        "generation_id": generation_id or (error.generation_id if error is not None else None),
        "input_tokens": None if tokens is None else tokens.input_tokens,
        "output_tokens": None if tokens is None else tokens.output_tokens,
        "total_tokens": None if tokens is None else tokens.total_tokens,
        "cached_tokens": None if tokens is None else tokens.cached_tokens,
        "reasoning_tokens": None if tokens is None else tokens.reasoning_tokens,
        "cost": cost,
        "cost_this_attempt": cost_this_attempt,
        "cached": None if response is None else response.cached,
        "sends": sends,
        "ambiguous_sends": sum(send["ambiguous"] for send in sends),
        "maybe_truncated": None if response is None else response.maybe_truncated,
        "inconsistent": None if response is None else response.inconsistent,
        "repaired": None if response is None else repaired,
        "steps": None,
        "escalated": escalated,
    }


def sends_of(
    response: Response | None,
    error: ResponsesError | None,
    price_of: Callable[[Response], tuple[float | None, Usage]] | None = None,
) -> list[Send]:
    """
    Return the sends of an attempt, oldest first.

    :param price_of: see :func:`usage_of`.
    """
    if error is not None:
        failed: Sequence[Exception] = (*error.previous, error) if _was_sent(error) else error.previous
        return [_failed_send(earlier, price_of) for earlier in failed]
    if response is None:
        return []
    earlier = [_failed_send(it, price_of) for it in response.previous]
    return [*earlier, {"cause": None, "ambiguous": False, "wait": None}]


def provider_of(response: Response, generation: Mapping[str, Any] | None = None) -> str | None:
    """Return the name of the provider that served a response, None if it is unknown."""
    metadata = response.openrouter_metadata or {}
    endpoints = metadata.get("endpoints")
    available = endpoints.get("available") if isinstance(endpoints, Mapping) else None
    named = (
        *(it.get("provider") for it in _mappings(available) if it.get("selected") is True),
        *(it.get("provider") for it in _mappings(metadata.get("attempts")) if it.get("status") == 200),
        response.raw.get("provider"),
        (generation or {}).get("provider_name"),
    )
    return next((name for name in named if isinstance(name, str) and name), None)


def check_output_keys(output_type: Any) -> None:
    """
    Refuse a type whose fields cannot all be XComs of their own.

    :raises RequestValidationError: naming the field.
    """
    from airflow_provider_responses.models.output_reader import reader_of

    reader = reader_of(output_type)
    name = reader.name
    if (keys := reader.field_names()) is None:
        raise RequestValidationError(
            f"multiple_outputs needs an output_type with named fields and without a @model_serializer, got {name}: the "
            "names of the XComs would be unknown. Change the type, or remove multiple_outputs",
            fields=("output_type",),
        )
    if taken := sorted(key for key in keys if key in _RESERVED or key.startswith(_RESERVED_PREFIXES)):
        raise RequestValidationError(
            f"multiple_outputs: the field {taken[0]!r} of output_type {name} would overwrite the XCom of that name. "
            "Rename the field, or remove multiple_outputs",
            fields=(taken[0],),
        )


def _status(response: Response | None, error: ResponsesError | None, *, invalid: bool) -> str | None:
    if response is None or (error is not None and error.response is None):
        return "failed"  # the last send brought no response
    if isinstance(error, ConfigurationError):
        return "failed"  # a function of `escalate` could not check the response
    if response.refusal is not None:
        return "refused"
    return "invalid_output" if invalid else response.status


def _was_sent(error: ResponsesError) -> bool:
    unsent = (BudgetExceededError, ConfigurationError, RequestValidationError, ToolError, VersionMismatchError)
    if isinstance(error, ConfigurationError) and error.response is not None:
        return True  # a function of `escalate` could not check the response
    return not isinstance(error, unsent)


def _failed_send(error: Exception, price_of: Callable[[Response], tuple[float | None, Usage]] | None) -> Send:
    known = error if isinstance(error, ResponsesError) else None
    send: Send = {
        "cause": {"error": type(error).__name__, "status": known.status_code if known else None},
        "ambiguous": known is not None and known.ambiguous,
        "wait": known.wait if known else None,
    }
    if known is not None and known.escalated_to is not None:
        send["model"] = None if known.response is None else known.response.model
        send["escalated_to"] = known.escalated_to
        if known.response is not None and price_of is not None:
            cost, tokens = price_of(known.response)
            send |= {"cost": cost, "cached": known.response.cached}
            send |= {"input_tokens": tokens.input_tokens, "output_tokens": tokens.output_tokens}
    return send


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
