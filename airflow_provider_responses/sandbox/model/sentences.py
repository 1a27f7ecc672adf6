"""Sentences, titles and words taken from a text."""

from __future__ import annotations

import re
from typing import Final

LONGEST_SENTENCE: Final = 24  # words
_TASK: Final = re.compile(r"[^\n.?!:]{1,120}:\s+(?P<rest>\S.*)", re.DOTALL)


def without_task(text: str) -> str:
    """Return a text without the task before its first colon (``Summarize this: ...``)."""
    found = _TASK.match(text.strip())
    return found["rest"] if found else text.strip()


def words_of(text: str) -> list[str]:
    """Return the words of a text, without those of the task before its first colon."""
    return re.findall(r"\w[\w'-]*", without_task(text))


def sentence(text: str, longest: int = LONGEST_SENTENCE) -> str:
    """Return the first sentence of a text, cut after ``longest`` words."""
    first = re.split(r"(?<=[.!?])\s|\n\s*\n", without_task(text), maxsplit=1)[0]
    words = first.split()
    if not words:
        return "The text is empty."
    made = " ".join(words[:longest])
    made = f"{made.rstrip(',;:')}…" if len(words) > longest else made
    made = made if made.endswith((".", "!", "?", "…")) else f"{made}."
    return made[0].upper() + made[1:]


def title(text: str, longest: int = 6) -> str:
    """Return the first words of a text as a title."""
    made = " ".join(words_of(text)[:longest])
    return made[:1].upper() + made[1:] if made else "Nothing"


def split_into_pieces(text: str) -> list[str]:
    """Split a text into the pieces in which it is streamed: words with the space before them."""
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", text)
