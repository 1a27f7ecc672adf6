"""Bodies as text: JSON that is read, and what a message may quote of the rest."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json

MAX_QUOTED: Final = 500  # characters of a server's own words in a message


def parse_json(text: bytes | str) -> Any:
    """Read JSON; None if it is none. Half of a surrogate pair, which is valid JSON but no text, becomes U+FFFD."""
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


def cut(text: str) -> str:
    """Shorten a text to what a message may quote."""
    text = " ".join(text.split())
    return text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}… ({len(text)} characters)"


def describe(body: bytes, *, quote: bool = True) -> str:
    """Describe a body that is not what was expected."""
    if not body.strip():
        return "an empty body"
    begins = f" beginning {cut(body[:200].decode(errors='replace'))!r}" if quote else ""
    return f"{len(body)} bytes{begins}"
