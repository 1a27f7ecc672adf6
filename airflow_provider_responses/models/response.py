"""
The response of ``POST /responses``.

Plain classes over the raw body instead of pydantic models: a response is paid for, so no shape of it may raise. A
value of an unexpected type counts as missing; ``raw`` holds the whole body.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from airflow_provider_responses.models import messages
from airflow_provider_responses.models.messages import FoundMessage, ResponseMessage

COST_HEADER: Final = "x-litellm-response-cost"  # LiteLLM's price of a response, in US dollars
NO_DETAILS: Final = ("", "none", "null")  # texts that some servers send as `incomplete_details` of every response
LARGEST_COUNT: Final = 2**53  # tokens; JSON and Airflow cannot hold a larger number


def _get(source: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    value = source.get(key) if type(source) is dict or isinstance(source, Mapping) else None
    if isinstance(value, bool) and kind is not bool:
        return None
    return value if isinstance(value, kind) else None


def _dicts(source: Any, key: str) -> list[dict[str, Any]]:
    return [item for item in _get(source, key, list) or [] if isinstance(item, dict)]


def _count(source: Any, *keys: str) -> int | None:
    """Return the first count under these names that is not 0; else 0 if one of them is, None if there is none."""
    if type(source) is not dict and not isinstance(source, Mapping):
        return None
    found: int | None = None
    for key in keys:
        value = source.get(key)
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, (int, float))):
            continue
        if abs(value) <= LARGEST_COUNT:  # false for NaN as well
            found = round(value)
            if found:
                break
    return found


def _price(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and price of one response. ``cost`` is in US dollars; ``None`` means unknown, not 0."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: float | None = None
    is_byok: bool | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_raw(cls, raw: Any) -> Usage:
        """Read a ``usage`` object, also one of chat completions. Missing and unexpected values are ``None``."""
        inputs, outputs = (
            _get(raw, f"{new}_tokens_details", dict) or _get(raw, f"{old}_tokens_details", dict)
            for new, old in (("input", "prompt"), ("output", "completion"))
        )
        return cls(
            input_tokens=_count(raw, "input_tokens", "prompt_tokens"),
            output_tokens=_count(raw, "output_tokens", "completion_tokens"),
            total_tokens=_count(raw, "total_tokens"),
            cached_tokens=_count(inputs, "cached_tokens"),
            reasoning_tokens=_count(outputs, "reasoning_tokens"),
            cost=_price(_get(raw, "cost", (int, float))),
            is_byok=_get(raw, "is_byok", bool),
            raw=raw if isinstance(raw, dict) else {},
        )

    def without_tokens(self) -> Usage:
        """Return the same usage with unknown numbers of tokens, for a server that does not count them."""
        unknown = dict.fromkeys(
            ("input_tokens", "output_tokens", "total_tokens", "cached_tokens", "reasoning_tokens"), None
        )
        return replace(self, **unknown)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Response:
    """
    One response: the whole body as ``raw``, and its most used parts as properties.

    :param raw: the JSON body as it arrived; of a stream, the body in its last event, with the output of its events.
    :param headers: response headers, names in lower case.
    :param previous: errors of the failed sends before this response, oldest first.
    :param seconds: from the first send to the end of the response.
    :param inconsistent: whether the last event of the stream held another text than the events before it, which count.
    :param maybe_truncated: whether it has as many tokens as ``max_output_tokens`` allows, although it is completed.
    """

    raw: dict[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    previous: tuple[Exception, ...] = field(default=(), repr=False)
    seconds: float | None = field(default=None, repr=False)
    inconsistent: bool = field(default=False, repr=False)
    maybe_truncated: bool = field(default=False, repr=False)

    def __repr__(self) -> str:
        # Neither prompt nor output: this lands in logs.
        return f"Response(id={self.id!r}, status={self.status!r}, model={self.model!r}, usage={self.usage!r})"

    @property
    def id(self) -> str | None:
        """The response's id."""
        value: str | None = _get(self.raw, "id", str)
        return value

    @functools.cached_property
    def status(self) -> str | None:
        """
        One of completed, incomplete, failed, cancelled, queued, in_progress.

        A response that the server calls completed is incomplete if there are ``incomplete_details``, if a message or a
        function call in it is incomplete, or if it holds nothing but reasoning.
        """
        value: str | None = _get(self.raw, "status", str)
        return "incomplete" if value in (None, "completed") and self._is_truncated else value

    @property
    def model(self) -> str | None:
        """The model that generated the response."""
        value: str | None = _get(self.raw, "model", str)
        return value

    @functools.cached_property
    def output(self) -> list[dict[str, Any]]:
        """The output items."""
        return messages.items_of(self.raw.get("output"))

    @functools.cached_property
    def usage(self) -> Usage:
        """Tokens and cost. If both counts are 0, the server does not count tokens, unless the response is cached."""
        usage = Usage.from_raw(self.raw.get("usage"))
        if usage.input_tokens == usage.output_tokens == 0 and not self.cached:
            usage = usage.without_tokens()
        if usage.cost is None and COST_HEADER in self.headers:
            usage = replace(usage, cost=_price(self.headers[COST_HEADER]))
        return usage

    @property
    def error(self) -> dict[str, Any] | None:
        """The error inside a failed response. An empty object is none: some servers send it with every response."""
        value = _get(self.raw, "error", (dict, str))
        error = {"message": value} if isinstance(value, str) else value
        return error if error and any(error.values()) else None

    @property
    def error_type(self) -> str | None:
        """The stable name of the error inside a failed response."""
        value: str | None = _get(self.raw, "error_type", str) or _get(self.error, "error_type", str)
        return value

    @property
    def incomplete_reason(self) -> str | None:
        """The reason why the response was truncated: ``max_output_tokens``, ``content_filter``."""
        value: str | None = _get(self.incomplete_details, "reason", str)
        return value or None

    @property
    def incomplete_details(self) -> dict[str, Any] | None:
        """Details of an incomplete response; some servers send the reason alone."""
        value = _get(self.raw, "incomplete_details", (dict, str))
        if isinstance(value, str):
            return None if value.lower() in NO_DETAILS else {"reason": value}
        details: dict[str, Any] | None = value
        return details

    @property
    def openrouter_metadata(self) -> dict[str, Any] | None:
        """Routing metadata, if the request asked for it."""
        value: dict[str, Any] | None = _get(self.raw, "openrouter_metadata", dict)
        return value

    @property
    def messages(self) -> list[ResponseMessage]:
        """All messages, in their order; a message that occurs twice under one id counts once."""
        return [one.message for one in self._found]

    @property
    def output_text(self) -> str:
        """
        The text of the messages of phase ``final_answer``, or of those after the last tool call.

        A blank line separates several messages. ``messages`` has the other ones.
        """
        chosen = messages.choose_output(self._found)
        return messages.join_texts(message.text for message in chosen) or self._plain_text

    @property
    def output_texts(self) -> list[str]:
        """The texts of the messages that may hold a typed output, the likeliest first."""
        return messages.output_candidates(self._found) or [self._plain_text]

    @functools.cached_property
    def refusal(self) -> str | None:
        """The words of the refusal, if the model refused."""
        if not any(messages.is_refused(item) for item in self.output):  # the usual case
            return None
        return messages.join_texts(one.message.refusal or "" for one in self._found)

    @property
    def function_calls(self) -> list[dict[str, Any]]:
        """The function calls that the model requests."""
        return [item for item in self.output if item.get("type") == "function_call"]

    @property
    def citations(self) -> list[dict[str, Any]]:
        """URL citations in the texts of the messages."""
        notes = (note for part in self._text_parts() for note in _dicts(part, "annotations"))
        return [note for note in notes if note.get("type") == "url_citation"]

    @property
    def images(self) -> list[str]:
        """Generated images, as the service sent them (base64 or a data URL)."""
        calls = (item for item in self.output if item.get("type") == "image_generation_call")
        return [image for call in calls if (image := _get(call, "result", str))]

    @property
    def generation_id(self) -> str | None:
        """The id of the generation, for ``GET /generation``."""
        return self.headers.get("x-generation-id")

    @property
    def ended_in_reasoning(self) -> bool:
        """Whether the response holds nothing but reasoning: the model produced no output."""
        kinds = [item.get("type") for item in self.output]
        return bool(kinds) and all(kind == "reasoning" for kind in kinds) and not self.output_text

    @property
    def was_generated(self) -> bool:
        """Whether a model worked on the response: it has output, or tokens were counted."""
        usage = self.usage
        if self.cached or usage.cost == 0:
            return False
        has_output = any(not messages.is_message(item) or item.get("content") for item in self.output)
        return has_output or any((usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cost))

    @property
    def cached(self) -> bool:
        """Whether the response came from the response cache, at no cost."""
        return self.headers.get("x-openrouter-cache-status", "").upper() == "HIT"

    @property
    def cache_source_id(self) -> str | None:
        """The id of the generation whose response was cached."""
        return self.headers.get("x-openrouter-cache-source-id")

    @property
    def sends(self) -> int:
        """Number of requests that were sent for this response."""
        return len(self.previous) + 1

    def with_history(self, previous: tuple[Exception, ...], seconds: float) -> Response:
        """Return the same response with the failed sends before it and its duration; cached properties are kept."""
        response = object.__new__(type(self))
        response.__dict__.update(self.__dict__, previous=previous, seconds=seconds)
        return response

    def to_input(self) -> list[dict[str, Any]]:
        """
        Return the response as items of the next turn's ``input``.

        Items stay as they arrived. Ids and fields that the API requires, and the server left out, are filled in. Values
        that the API does not accept as input are converted or removed.
        """
        # Imported here: DAG files import this module, and building the models of items is slow.
        from airflow_provider_responses.models import history

        items = self.output
        if self._plain_text and not any(message.text for message in self.messages):
            items = [*items, *messages.items_of(self._plain_text)]
        return history.to_input(items, response_id=self.id)

    @functools.cached_property
    def _found(self) -> list[FoundMessage]:
        return messages.find_messages(self.output)

    @functools.cached_property
    def _is_truncated(self) -> bool:
        if any((self.incomplete_details or {}).values()) or self.ended_in_reasoning:
            return True
        return any(
            item.get("status") == "incomplete" and item.get("type") in (None, "message", "function_call")
            for item in self.output
        )

    @property
    def _plain_text(self) -> str:
        """The `output_text` of servers that send no output items."""
        text: str | None = _get(self.raw, "output_text", str)
        return text or ""

    def _text_parts(self) -> Iterator[dict[str, Any]]:
        for found in self._found:
            parts = messages.parts_of(found.item.get("content"))
            yield from (part for part in parts if messages.text_in(part) is not None)
