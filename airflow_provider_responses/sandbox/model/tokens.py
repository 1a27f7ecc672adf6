"""The number of tokens in a text: one for each four characters."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

CHARACTERS_PER_TOKEN: Final = 4
INPUT_FIELDS: Final = ("instructions", "input", "prompt", "tools", "text")


def count_tokens(text: str) -> int:
    """Return the number of tokens in a text."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def count_input_tokens(body: Mapping[str, Any]) -> int:
    """Return the number of tokens in those fields of a request that a model reads."""
    values = [body[name] for name in INPUT_FIELDS if body.get(name)]
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    return sum(map(count_tokens, texts))
