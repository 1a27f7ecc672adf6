"""Strings within a schema's limits, made of the words of a text where words are asked for."""

from __future__ import annotations

import datetime
import hashlib
import math
import uuid
from collections.abc import Callable
from typing import Final

from airflow_provider_responses.sandbox.patterns import matching
from airflow_provider_responses.sandbox.schemas import Schema, conforms
from airflow_provider_responses.sandbox.words import sentence, title, words_of

SENTENCES: Final = (
    "summary",
    "text",
    "reason",
    "description",
    "explanation",
    "answer",
    "comment",
    "rationale",
    "content",
)
TITLES: Final = ("title", "headline", "subject", "heading")


def string(one: Schema, name: str, text: str, choice: int) -> str:
    """Give a string that the schema allows."""
    limits = {key: one[key] for key in ("minLength", "maxLength", "pattern") if key in one}

    def fits(value: str) -> bool:
        return conforms(value, limits, {})

    make = _FORMATS.get(str(one.get("format")))
    if make is not None:
        return make(choice)
    made = _of_length(_spoken(name, text, choice), one)
    if "pattern" in one and (choice % 2 or not fits(made)):
        found = matching(str(one["pattern"]), fits, choice)
        return made if found is None else found
    return made


def _spoken(name: str, text: str, choice: int) -> str:
    lower = name.lower()
    if any(word in lower for word in TITLES):
        return title(text)
    if any(word in lower for word in SENTENCES):
        return sentence(text)
    words = words_of(text)
    if lower.endswith("name"):
        words = [word for word in words[1:] if word[:1].isupper()] or words
    longer = [word for word in dict.fromkeys(words) if len(word) > 3]
    candidates = longer or words or ["text"]
    return candidates[choice % len(candidates)]


def _of_length(made: str, one: Schema) -> str:
    least, most = int(one.get("minLength", 0)), one.get("maxLength", math.inf)
    if len(made) < least:
        made = (f"{made} " * (least // (len(made) + 1) + 1)).strip()
        made = made.ljust(least, ".")
    if len(made) > most:
        cut = made[: int(most)]
        stripped = cut.rstrip()
        made = stripped if len(stripped) >= least else cut.replace(" ", "_")
    return made


def _date(choice: int) -> str:
    return (datetime.date(2025, 1, 1) + datetime.timedelta(days=choice % 365)).isoformat()


def _time(choice: int) -> str:
    return f"{choice % 24:02}:{choice % 60:02}:00Z"


def _uuid(choice: int) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(str(choice).encode()).digest()[:16], version=4))


_FORMATS: Final[dict[str, Callable[[int], str]]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda choice: f"{_date(choice)}T{_time(choice)}",
    "duration": lambda choice: f"P{1 + choice % 30}D",
    "uuid": _uuid,
    "email": lambda choice: f"user{choice % 1000}@example.com",
    "idn-email": lambda choice: f"user{choice % 1000}@example.com",
    "hostname": lambda choice: f"host{choice % 1000}.example.com",
    "ipv4": lambda choice: f"192.0.2.{choice % 256}",
    "ipv6": lambda choice: f"2001:db8::{choice % 65536:x}",
    "uri": lambda choice: f"https://example.com/{choice % 1000}",
    "url": lambda choice: f"https://example.com/{choice % 1000}",
    "iri": lambda choice: f"https://example.com/{choice % 1000}",
    "uri-reference": lambda choice: f"https://example.com/{choice % 1000}",
    "json-pointer": lambda choice: f"/{choice % 1000}",
    "regex": lambda _: ".*",
}
