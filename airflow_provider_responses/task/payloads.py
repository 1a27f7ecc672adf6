"""
What travels between a worker and the triggerer, through Airflow's database: requests there, outcomes back.

Nested JSON travels as text, or as lists of pairs where its templates are still to be rendered: PostgreSQL reorders the
keys of an object, Airflow gives some keys a meaning of its own, and the same request must be the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from airflow_provider_responses import exceptions
from airflow_provider_responses.client.config import RequestOptions, secret_headers
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError, ResponsesError
from airflow_provider_responses.models.fields import SECRETS
from airflow_provider_responses.models.response import COST_HEADER, Response
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.texts import unwrap_enum

VERSION: Final = 2  # of the event
LARGEST_ANSWER: Final = 1024 * 1024  # bytes; what is larger and kept by OpenRouter is fetched again instead
WORKER_COMES: Final = 1800  # seconds that an answer must still be kept, for a worker to come and fetch it

_DETAILS: Final = (
    "retryable",
    "ambiguous",
    "status_code",
    "code",
    "error_type",
    "metadata",
    "availability",
    "retry_after",
    "generation_id",
    "openrouter_metadata",
)
# The others may hold cookies, or what a server repeats of the request's.
_HEADERS: Final = frozenset(
    {"x-generation-id", "x-openrouter-cache-status", "x-openrouter-cache-source-id", COST_HEADER}
)
# Parts of JSON schemas whose keys are anybody's names.
_NAMED_BY_USERS: Final = frozenset(
    {"properties", "patternProperties", "dependentRequired", "dependentSchemas", "$defs", "definitions"}
)
# A key is no template on a worker. In a list of pairs it is one, which loses comments and the last line's end.
_RENDERED_IN_KEYS: Final = ("{{", "{%", "{#", "\n", "\r")
_OWN_DETAILS: Final = {
    "RequestValidationError": ("fields",),
    "StreamInterruptedError": ("text",),
    "TransportError": ("kind",),
}


class Event(dict[str, Any]):
    """
    The payload of a trigger's event: a plain dict that shows ids and costs when it is logged, and never the answer.

    Keys: ``version``, ``response_id``, ``generation_id``, ``model``, ``usage``, ``error`` (its class),
    ``idempotency_key``, ``outcome`` (the rest as JSON text, None if the response has to be fetched again) and
    ``request`` (its fields as JSON text, where a worker may have to send it again).
    """

    def __repr__(self) -> str:
        return repr({name: value for name, value in self.items() if name not in {"outcome", "request"}})


def write_event(outcome: Outcome, *, idempotency_key: str | None, fields: Mapping[str, Any] | None = None) -> Event:
    """
    Pack an outcome; a large answer travels as well, unless it is known that OpenRouter keeps it.

    :param fields: the request's, which a worker could not make the same: a function gave them, or the time did.
    """
    text: str | None = json.dumps(
        {
            "response": _write_response(outcome.response),
            "error": _write_error(outcome.error),
            "value": outcome.value,
            "unparsed": outcome.unparsed,
            "invalid": outcome.invalid,
            "repaired": outcome.repaired,
            "generations": dict(outcome.generations),
        }
    )
    response = outcome.response
    if outcome.error is None and response and len(text or "") > LARGEST_ANSWER and _can_be_fetched(response):
        text = None
    return Event(
        version=VERSION,
        idempotency_key=idempotency_key,
        response_id=_shown(response.id) if response else None,
        generation_id=_shown(response.generation_id) if response else None,
        model=_shown(response.model) if response else None,
        usage=_tokens_and_cost(response) if response else None,
        error=type(outcome.error).__name__ if outcome.error else None,
        outcome=text,
        request=write_request(fields) if fields is not None and (text is None or outcome.unparsed) else None,
    )


def write_unsent() -> Event:
    """Return the event of a trigger that has sent nothing and leaves its attempt to a worker."""
    return Event(version=VERSION, unsent=True)


def is_unsent(event: Any) -> bool:
    """Whether an event is one of :func:`write_unsent`."""
    return isinstance(event, Mapping) and event.get("version") == VERSION and event.get("unsent") is True


def read_event(event: Any) -> tuple[Outcome | None, str | None]:
    """
    Return the outcome and the idempotency key of its request; the outcome is None if it has to be fetched again.

    :raises ConfigurationError: retryable, if the event is none of :func:`write_event`.
    """
    if not isinstance(event, Mapping) or event.get("version") != VERSION or "outcome" not in event:
        what = f"version {event['version']!r}" if isinstance(event, Mapping) and "version" in event else "another shape"
        raise ConfigurationError(
            f"the trigger's event has {what}, where version {VERSION} is expected: the triggerer runs another version "
            "of airflow-provider-responses than the workers. Install the same on both; a retry sends the same request "
            "and gets the response that is cached",
            retryable=True,
            ambiguous=True,
        )
    idempotency_key = event.get("idempotency_key")
    if event["outcome"] is None:
        return None, idempotency_key
    try:
        data = json.loads(event["outcome"])
        outcome = Outcome(
            response=_read_response(data["response"]),
            error=_read_error(data["error"]),
            value=data["value"],
            unparsed=data["unparsed"],
            invalid=data["invalid"],
            repaired=data["repaired"],
            generations=data["generations"],
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _unreadable(error) from error
    return outcome, idempotency_key


def read_fields(event: Any) -> dict[str, Any] | None:
    """
    Unpack the fields of the request that an event is about, None if it holds none.

    :raises ConfigurationError: retryable, if they cannot be read.
    """
    text = event.get("request")
    try:
        return None if text is None else dict(json.loads(text).items())
    except (TypeError, ValueError, AttributeError) as error:
        raise _unreadable(error) from error


def secret_in(options: Any, fields: Any) -> str | None:
    """Say which of a task's options, or of its request's fields, keeps it on a worker; None if there is no secret."""
    headers = RequestOptions.to_dict(options).get("headers")
    header = next(iter(secret_headers(headers)), None) if isinstance(headers, Mapping) else None  # or it is a template
    found = f"options.headers holds {header!r}" if header else _secret_field(fields, "request")
    hint = ": put it into the connection's extra_headers" if header else ""
    return f"{found}, and a trigger's row may hold no secret{hint}" if found else None


def _secret_field(value: Any, path: str) -> str | None:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if name := next((name for name in value if name in SECRETS and value[name]), None):
            return f"{path} holds {name!r}"
        items = ((name, item) for name, item in value.items() if name not in _NAMED_BY_USERS)
    elif isinstance(value, Collection) and not isinstance(value, (str, bytes)):
        items = enumerate(value)
    return next(filter(None, (_secret_field(item, f"{path}.{name}") for name, item in items)), None)


def write_request(fields: Mapping[str, Any]) -> str:
    """Give a request's fields, which can be sent, as JSON text: as they are sent, whatever they were given as."""
    # Here, and not above: DAG files import this module, and building the models takes its time.
    from airflow_provider_responses.models.request import ResponsesRequest

    request = ResponsesRequest.parse(fields, dialect="open")  # checked for its server before
    return json.dumps({name: getattr(request, name) for name in fields}, allow_nan=False, default=dict)


def to_pairs(value: Any, path: str = "") -> Any:
    """
    Turn dicts, however deep, into lists of pairs, which keep their order and let Airflow render their texts.

    :raises RequestValidationError: naming the path of what is not plain JSON.
    """
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or any(mark in key for mark in _RENDERED_IN_KEYS):
                raise RequestValidationError(f"{path or 'it'} has the key {key!r}", fields=(path,))
        return {"pairs": [[key, to_pairs(item, f"{path}.{key}" if path else key)] for key, item in value.items()]}
    if isinstance(value, (list, tuple)):
        return [to_pairs(item, f"{path}[{place}]") for place, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestValidationError(f"{path or 'it'} is {value!r}", fields=(path,))
    if isinstance(value, str):
        return unwrap_enum(value)
    if value is None or isinstance(value, (int, float, bool)):
        return value
    raise RequestValidationError(f"{path or 'it'} is a {type(value).__name__}", fields=(path,))


def from_pairs(value: Any) -> Any:
    """Undo :func:`to_pairs`."""
    if isinstance(value, Mapping):
        return {key: from_pairs(item) for key, item in value["pairs"]}
    return [from_pairs(item) for item in value] if isinstance(value, (list, tuple)) else value


def _unreadable(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"the trigger's event cannot be read ({type(error).__name__}: {error}): a retry sends the same request and "
        "gets the response that is cached",
        retryable=True,
        ambiguous=True,  # the triggerer has sent the request
    )


def _can_be_fetched(response: Response) -> bool:
    """Whether a worker gets the same from OpenRouter, which knows nothing of earlier sends and what they cost."""
    return not response.previous and _stays_kept(response)


def _stays_kept(response: Response) -> bool:
    """Whether OpenRouter says that it keeps an answer for long enough; it never keeps one that is not whole."""
    status, ttl, age = (response.headers.get(f"x-openrouter-cache-{name}", "") for name in ("status", "ttl", "age"))
    age = "0" if status.upper() == "MISS" else age
    known = response.status == "completed" and status.upper() in {"MISS", "HIT"} and _is_count(ttl) and _is_count(age)
    return known and int(ttl) - int(age) >= WORKER_COMES


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _shown(text: str | None) -> str | None:
    """Leave out what a database or a log may choke on: whoever sent it must not bring the triggerer down."""
    return text if text is None or text.isprintable() else None


def _tokens_and_cost(response: Response) -> dict[str, Any]:
    usage = response.usage
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "cost": usage.cost}


def _write_response(response: Response | None) -> dict[str, Any] | None:
    if response is None:
        return None
    return {
        "raw": response.raw,
        "headers": {name: text for name, text in response.headers.items() if name in _HEADERS},
        "previous": [_write_error(error) for error in response.previous],
        "seconds": response.seconds,
        "inconsistent": response.inconsistent,
        "maybe_truncated": response.maybe_truncated,
    }


def _read_response(data: Mapping[str, Any] | None) -> Response | None:
    if data is None:
        return None
    return Response(
        raw=data["raw"],
        headers=data["headers"],
        previous=tuple(earlier for item in data["previous"] if (earlier := _read_error(item))),
        seconds=data["seconds"],
        inconsistent=data["inconsistent"],
        maybe_truncated=data["maybe_truncated"],
    )


def _write_error(error: Exception | None) -> dict[str, Any] | None:
    if error is None:
        return None
    name = type(error).__name__
    details = {name: getattr(error, name, None) for name in (*_DETAILS, *_OWN_DETAILS.get(name, ()))}
    response = getattr(error, "response", None)
    # Of a response with a past, the error's own past is the same: it travels once.
    past = [] if response is not None and response.previous else getattr(error, "previous", ())
    return {
        "class": name,
        "message": str(error),
        "details": {name: value for name, value in details.items() if value is not None},
        "notes": getattr(error, "__notes__", []),
        "wait": getattr(error, "wait", None),
        "response": _write_response(response),
        "previous": [_write_error(earlier) for earlier in past],
    }


def _read_error(data: Mapping[str, Any] | None) -> ResponsesError | None:
    if data is None:
        return None
    cls = getattr(exceptions, data["class"], None) if data["class"] in exceptions.__all__ else ResponsesError
    details = dict(data["details"])
    if "fields" in details:
        details["fields"] = tuple(details["fields"])
    response = _read_response(data["response"])
    past = (earlier for item in data["previous"] if (earlier := _read_error(item)))
    error: ResponsesError = (cls or ResponsesError)(data["message"], response=response, **details)
    error.previous = response.previous if response is not None and response.previous else tuple(past)
    if data["wait"] is not None:
        error.wait = data["wait"]
    for note in data["notes"]:
        error.add_note(note)
    return error
