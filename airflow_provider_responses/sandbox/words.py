"""Words and sentences taken from what the request says."""

from __future__ import annotations

import re
from typing import Final

LONGEST_SENTENCE: Final = 24  # words
_TASK: Final = re.compile(r"[^\n.?!:]{1,120}:\s+(?P<rest>\S.*)", re.DOTALL)


def matter(text: str) -> str:
    """Give what a text is about, without the task before its colon ("Summarize this: ...")."""
    found = _TASK.match(text.strip())
    return found["rest"] if found else text.strip()


def words_of(text: str) -> list[str]:
    """Give the words of what a text is about."""
    return re.findall(r"\w[\w'-]*", matter(text))


def sentence(text: str, longest: int = LONGEST_SENTENCE) -> str:
    """Make one sentence from the beginning of a text."""
    first = re.split(r"(?<=[.!?])\s|\n\s*\n", matter(text), maxsplit=1)[0]
    words = first.split()
    if not words:
        return "There is nothing to say."
    cut = len(words) > longest
    made = " ".join(words[:longest])
    made = f"{made.rstrip(',;:')}…" if cut else made
    made = made if made.endswith((".", "!", "?", "…")) else f"{made}."
    return made[0].upper() + made[1:]


def title(text: str, longest: int = 6) -> str:
    """Make a title from the first words of a text."""
    made = " ".join(words_of(text)[:longest])
    return made[:1].upper() + made[1:] if made else "Nothing"


def split_into_pieces(text: str) -> list[str]:
    """Split a text into the pieces in which it is streamed: words with the space before them."""
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+$", text)
