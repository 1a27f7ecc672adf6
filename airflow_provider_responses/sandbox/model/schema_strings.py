"""Strings that conform to a schema: words, titles and sentences of a text, or values of a format."""

from __future__ import annotations

import base64
import hashlib
import math
import uuid
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from airflow_provider_responses.models.output_limits import limits_of
from airflow_provider_responses.models.output_types import TIME_WITHOUT_ZONE, WITHOUT_ZONE
from airflow_provider_responses.sandbox.model import schema_dates
from airflow_provider_responses.sandbox.model.json_schema import Schema, conforms
from airflow_provider_responses.sandbox.model.regex_strings import matching_string
from airflow_provider_responses.sandbox.model.schema_numbers import make_number
from airflow_provider_responses.sandbox.model.sentences import sentence, title, words_of

# Parts of the names of properties, as users choose them, that become a sentence or a title.
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


def make_string(schema: Schema, name: str, text: str, choice: int) -> str:
    """Return a string that the schema and its description allow."""
    schema = {**schema, **limits_of(schema)}
    if "maxDigits" in schema:
        return format(Decimal(str(make_number(schema, name, choice))), "f")
    limits = {key: schema[key] for key in ("minLength", "maxLength", "pattern") if key in schema}

    def is_valid(value: str) -> bool:
        return conforms(value, limits, {})

    make = _FORMATS.get(str(schema.get("format")))
    if make is not None:
        return make(schema, choice)
    made = _fit_length(_from_text(name, text, choice), schema)
    if "pattern" in schema and (choice % 2 or not is_valid(made)):
        found = matching_string(str(schema["pattern"]), is_valid, choice)
        return made if found is None else found
    return made


def _from_text(name: str, text: str, choice: int) -> str:
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


def _fit_length(made: str, schema: Schema) -> str:
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength", math.inf)
    if len(made) < least:
        made = (f"{made} " * (least // (len(made) + 1) + 1)).strip()
        made = made.ljust(least, ".")
    if len(made) > most:
        cut = made[: int(most)]
        stripped = cut.rstrip()
        made = stripped if len(stripped) >= least else cut.replace(" ", "_")
    return made


def _uuid(version: int) -> Callable[[Mapping[str, Any], int], str]:
    def make(_: Mapping[str, Any], choice: int) -> str:
        digits = hashlib.sha256(str(choice).encode()).hexdigest()
        return str(uuid.UUID(f"{digits[:12]}{version}{digits[13:16]}a{digits[17:32]}"))

    return make


def _filled(pattern: str, most: int = 1000) -> Callable[[Mapping[str, Any], int], str]:
    """Return a function that puts a number below ``most`` into a text."""
    return lambda _, choice: pattern.format(choice % most)


def _base64(alphabet: bytes) -> Callable[[Mapping[str, Any], int], str]:
    return lambda _, choice: base64.b64encode(f"text {choice % 1000}?>".encode(), alphabet).decode()


def _address(limits: Mapping[str, Any], choice: int) -> str:
    scheme = (limits.get("schemes") or ["https"])[0]
    if scheme == "file":
        return f"file:///tmp/{choice % 1000}"
    if scheme == "https":
        return f"https://example.com/{choice % 1000}"
    return f"{scheme}://user:secret@host.example.com:5432/{choice % 1000}"


_FORMATS: Final[dict[str, Callable[[Mapping[str, Any], int], str]]] = {
    "date": schema_dates.date,
    "time": schema_dates.time,
    "date-time": schema_dates.date_time,
    WITHOUT_ZONE: schema_dates.date_time_without_zone,
    TIME_WITHOUT_ZONE: schema_dates.time_without_zone,
    "duration": schema_dates.duration,
    "uuid": _uuid(4),
    **{f"uuid{version}": _uuid(version) for version in range(1, 9)},
    "email": _filled("user{}@example.com"),
    "idn-email": _filled("user{}@example.com"),
    "name-email": _filled("User <user{}@example.com>"),
    "hostname": _filled("host{}.example.com"),
    "ipv4": _filled("192.0.2.{}", 256),
    "ipv6": _filled("2001:db8::{:x}", 65536),
    "ipv4interface": _filled("192.0.2.{}/24", 256),
    "ipv6interface": _filled("2001:db8::{:x}/64", 65536),
    "ipv4network": _filled("10.{}.0.0/16", 256),
    "ipv6network": _filled("2001:db8:{:x}::/48", 65536),
    "ipvanyaddress": _filled("192.0.2.{}", 256),
    "ipvanyinterface": _filled("192.0.2.{}/24", 256),
    "ipvanynetwork": _filled("10.{}.0.0/16", 256),
    "uri": _address,
    "url": _address,
    "iri": _address,
    "multi-host-uri": _address,
    "uri-reference": _address,
    "json-pointer": _filled("/{}"),
    "regex": _filled("a{{{}}}"),
    "base64": _base64(b"+/"),
    "base64url": _base64(b"-_"),
    "complex": _filled("{}+1j"),
    "fraction": _filled("{}/7"),
}
