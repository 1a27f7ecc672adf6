"""
The answer of ``POST /responses``.

Plain classes over the raw body instead of pydantic models: an answer has been paid for, so no shape of it
may raise. What has an unexpected type reads as missing, and ``raw`` keeps everything.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

LARGEST_COUNT: Final = 2**53  # of tokens; what is larger is none, and neither JSON nor Airflow carries it


def _get(source: Any, key: str, kind: type | tuple[type, ...]) -> Any:
    value = source.get(key) if isinstance(source, Mapping) else None
    if isinstance(value, bool) and kind is not bool:
        return None
    return value if isinstance(value, kind) else None


def _dicts(source: Any, key: str) -> list[dict[str, Any]]:
    return [item for item in _get(source, key, list) or [] if isinstance(item, dict)]


def _count(source: Any, key: str) -> int | None:
    value: int | None = _get(source, key, int)
    return value if value is not None and abs(value) <= LARGEST_COUNT else None


def _price(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Tokens and price of one answer. ``cost`` is in US dollars; ``None`` is unknown, which is not 0."""

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
        """Read a ``usage`` object; anything missing or of another type is ``None``."""
        return cls(
            input_tokens=_count(raw, "input_tokens"),
            output_tokens=_count(raw, "output_tokens"),
            total_tokens=_count(raw, "total_tokens"),
            cached_tokens=_count(_get(raw, "input_tokens_details", dict), "cached_tokens"),
            reasoning_tokens=_count(_get(raw, "output_tokens_details", dict), "reasoning_tokens"),
            cost=_price(_get(raw, "cost", (int, float))),
            is_byok=_get(raw, "is_byok", bool),
            raw=raw if isinstance(raw, dict) else {},
        )


@dataclass(frozen=True, kw_only=True)
class Response:
    """
    One answer: the whole body as ``raw``, and what is commonly needed of it.

    :param raw: the JSON body as it arrived.
    :param headers: response headers, names in lower case.
    :param previous: errors of the tries that came before this answer, oldest first.
    :param seconds: from the first try to the answer.
    :param inconsistent: whether the end of the stream held another text than its pieces, which were taken.
    :param maybe_truncated: whether it is as long as `max_output_tokens` allows, and called complete all the same.
    """

    raw: dict[str, Any] = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    previous: tuple[Exception, ...] = field(default=(), repr=False)
    seconds: float | None = field(default=None, repr=False)
    inconsistent: bool = field(default=False, repr=False)
    maybe_truncated: bool = field(default=False, repr=False)

    def __repr__(self) -> str:
        # Neither prompt nor answer: this lands in logs.
        return f"Response(id={self.id!r}, status={self.status!r}, model={self.model!r}, usage={self.usage!r})"

    @property
    def id(self) -> str | None:
        """The response's id."""
        value: str | None = _get(self.raw, "id", str)
        return value

    @property
    def status(self) -> str | None:
        """One of completed, incomplete, failed, cancelled, queued, in_progress."""
        value: str | None = _get(self.raw, "status", str)
        return value

    @property
    def model(self) -> str | None:
        """The model that really served."""
        value: str | None = _get(self.raw, "model", str)
        return value

    @property
    def output(self) -> list[dict[str, Any]]:
        """The output items."""
        return _dicts(self.raw, "output")

    @functools.cached_property
    def usage(self) -> Usage:
        """Tokens and cost."""
        return Usage.from_raw(self.raw.get("usage"))

    @property
    def error(self) -> dict[str, Any] | None:
        """The error inside a failed answer."""
        value = _get(self.raw, "error", (dict, str))
        return {"message": value} if isinstance(value, str) else value

    @property
    def error_type(self) -> str | None:
        """The stable name of the error inside a failed answer."""
        value: str | None = _get(self.raw, "error_type", str) or _get(self.error, "error_type", str)
        return value

    @property
    def incomplete_reason(self) -> str | None:
        """Why the answer was cut off: ``max_output_tokens``, ``content_filter``."""
        value: str | None = _get(self.incomplete_details, "reason", str)
        return value

    @property
    def incomplete_details(self) -> dict[str, Any] | None:
        """Details of an incomplete answer."""
        value: dict[str, Any] | None = _get(self.raw, "incomplete_details", dict)
        return value

    @property
    def openrouter_metadata(self) -> dict[str, Any] | None:
        """Routing metadata, where it was asked for."""
        value: dict[str, Any] | None = _get(self.raw, "openrouter_metadata", dict)
        return value

    @property
    def output_text(self) -> str:
        """All text of the answer's messages, joined."""
        texts = [_get(p, "text", str) or "" for p in self._parts("output_text")]
        return "".join(texts) if texts else (_get(self.raw, "output_text", str) or "")

    @property
    def output_texts(self) -> list[str]:
        """The texts that may hold a typed output, in the order in which they are tried."""
        return [self.output_text]

    @property
    def refusal(self) -> str | None:
        """What the model said instead of an answer, if it refused."""
        texts = [_get(p, "refusal", str) or "" for p in self._parts("refusal")]
        return "".join(texts) if texts else None

    @property
    def function_calls(self) -> list[dict[str, Any]]:
        """Items in which the model asks for a function call."""
        return [item for item in self.output if item.get("type") == "function_call"]

    @property
    def citations(self) -> list[dict[str, Any]]:
        """URL citations of the answer's text."""
        notes = (note for part in self._parts("output_text") for note in _dicts(part, "annotations"))
        return [note for note in notes if note.get("type") == "url_citation"]

    @property
    def images(self) -> list[str]:
        """Generated images, as the service gave them (base64 or a data URL)."""
        calls = (item for item in self.output if item.get("type") == "image_generation_call")
        return [image for call in calls if (image := _get(call, "result", str))]

    @property
    def generation_id(self) -> str | None:
        """The generation's id, for ``/generation``."""
        return self.headers.get("x-generation-id")

    @property
    def cached(self) -> bool:
        """Whether the answer came from the response cache, for nothing."""
        return self.headers.get("x-openrouter-cache-status", "").upper() == "HIT"

    @property
    def cache_source_id(self) -> str | None:
        """The generation id that made the kept answer."""
        return self.headers.get("x-openrouter-cache-source-id")

    @property
    def tries(self) -> int:
        """How many requests were sent for this answer."""
        return len(self.previous) + 1

    def to_input(self) -> list[dict[str, Any]]:
        """Give the answer as items of the next turn's ``input``."""
        return [dict(item) for item in self.output]

    def _parts(self, kind: str) -> Iterator[dict[str, Any]]:
        for item in self.output:
            if item.get("type", "message") == "message":
                yield from (part for part in _dicts(item, "content") if part.get("type") == kind)
