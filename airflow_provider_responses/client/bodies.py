"""Reads bodies as JSON, and shortens or describes them in messages. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json

MAX_QUOTED: Final = 500  # characters of a server's own message in an error
# From here on, errors of pydantic and FastAPI repeat their input, which is content.
_REPEATED: Final = re.compile(r"""input_value=|\\*["'](?:input|ctx)\\*["']\s*:""")
MOST_LINES: Final = 20  # lines of an error's body that is framed as a stream
LEFT_OUT: Final = "… (the rest repeats the input and is left out)"


def parse_json(text: bytes | str) -> Any:
    """Return the value of JSON, None if it is invalid. Half of a surrogate pair becomes U+FFFD."""
    try:
        return from_json(text)
    except ValueError:
        pass
    try:
        return json.loads(
            json.dumps(json.loads(text), ensure_ascii=False)
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )
    except (ValueError, RecursionError):
        return None


def parse_partial(text: bytes) -> Any:
    """Return the value of JSON that may be truncated, or of the first JSON in a stream; None if there is none."""
    value = parse_json(text)
    if value is not None:
        return value
    for line in text.splitlines()[:MOST_LINES]:
        name, _, data = line.partition(b":")
        if name == b"data" and isinstance(found := parse_json(data), dict):
            return found
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None


def shorten(text: str) -> str:
    """Return a text shortened for a message."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}… ({len(text)} characters)"


def quoted(text: str) -> str:
    """Return a server's message shortened, without the part that repeats the request."""
    if repeated := _REPEATED.search(text):
        text = text[: repeated.start()].rstrip(" ,[{(") + LEFT_OUT
    return shorten(text)


def describe(body: bytes, *, quote: bool = True) -> str:
    """Return a description of an unexpected body."""
    if not body.strip():
        return "an empty body"
    # JSON without a message may hold the request.
    if body.lstrip()[:1] in {b"{", b"["}:
        data = parse_partial(body)
        if isinstance(data, Mapping):
            form = "the beginning of a JSON object" if parse_json(body) is None else "a JSON object"
            return f"{len(body)} bytes, {form} with the fields {shorten(', '.join(map(repr, data))) or 'none'}"
        return f"{len(body)} bytes, a JSON list" if isinstance(data, list) else f"{len(body)} bytes of broken JSON"
    begins = f" beginning {quoted(body[:200].decode(errors='replace'))!r}" if quote else ""
    return f"{len(body)} bytes{begins}"


def embedded(text: str) -> dict[str, Any] | None:
    """Return the JSON object at the end of a text, as proxies add the body of another server; None without one."""
    begins = text.find("{")
    data = parse_json(text[begins:].strip()) if begins >= 0 and text.rstrip().endswith("}") else None
    return data if isinstance(data, dict) else None
