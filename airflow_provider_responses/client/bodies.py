"""Bodies as text: read JSON, and quote the rest in messages. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import from_json

MAX_QUOTED: Final = 500  # characters of a server's own message in an error
# Where pydantic's errors, and FastAPI's, begin to repeat their input: all from there on is content.
_REPEATED: Final = re.compile(r"""input_value=|\\*["'](?:input|ctx)\\*["']\s*:""")
MOST_LINES: Final = 20  # of an error's body that is framed as a stream
LEFT_OUT: Final = "… (the rest repeats the input, and is left out)"


def parse_json(text: bytes | str) -> Any:
    """Return the value of JSON, None if it is invalid. Half of a surrogate pair, which is no text, becomes U+FFFD."""
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


def parse_what_arrived(text: bytes) -> Any:
    """Return the value of JSON whose end may be missing, or of the first JSON of a stream; None if there is none."""
    whole = parse_json(text)
    if whole is not None:
        return whole
    for line in text.splitlines()[:MOST_LINES]:
        name, _, value = line.partition(b":")
        if name == b"data" and isinstance(found := parse_json(value), dict):
            return found
    try:
        return from_json(text, allow_partial="trailing-strings")
    except ValueError:
        return None


def cut(text: str) -> str:
    """Return a text shortened for a message."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}… ({len(text)} characters)"


def quoted(text: str) -> str:
    """Return a server's message shortened, and without the request that it repeats."""
    if repeated := _REPEATED.search(text):
        text = text[: repeated.start()].rstrip(" ,[{(") + LEFT_OUT
    return cut(text)


def describe(body: bytes, *, quote: bool = True) -> str:
    """Return a description of an unexpected body."""
    if not body.strip():
        return "an empty body"
    # JSON without a message may hold anything, and so the request.
    if body.lstrip()[:1] in {b"{", b"["}:
        data = parse_what_arrived(body)
        if isinstance(data, Mapping):
            what = "the beginning of a JSON object" if parse_json(body) is None else "a JSON object"
            return f"{len(body)} bytes, {what} with the fields {cut(', '.join(map(repr, data))) or 'none'}"
        return f"{len(body)} bytes, a JSON list" if isinstance(data, list) else f"{len(body)} bytes of broken JSON"
    begins = f" beginning {quoted(body[:200].decode(errors='replace'))!r}" if quote else ""
    return f"{len(body)} bytes{begins}"


def embedded(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a text ends with, as proxies pass on the body of another server; None without one."""
    begins = text.find("{")
    data = parse_json(text[begins:].strip()) if begins >= 0 and text.rstrip().endswith("}") else None
    return data if isinstance(data, dict) else None
