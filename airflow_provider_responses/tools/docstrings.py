"""The description of a function and of its parameters, from a docstring in the style of Sphinx, Google or NumPy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Final

_FIELD: Final = re.compile(r":(?P<kind>\w+)(?:\s+[^:]*?)??(?:\s+\*{0,2}(?P<name>\w+))?:(?:\s+|$)(?P<text>.*)")
_SECTION: Final = re.compile(
    r"(?P<title>Args|Arguments|Parameters|Params|Returns?|Raises|Yields?|Notes?|Examples?|Attributes|See Also|Warns?)"
    r"\s*:?\s*$"
)
# "name (type): text" by Google, "name : type" by NumPy.
_ENTRY: Final = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?\s*(?::\s*(?P<text>.*))?")
_PARAMETERS: Final = frozenset({"Args", "Arguments", "Parameters", "Params"})


def read_docstring(docstring: str | None, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """
    Return the description of a function, and those of its parameters.

    :param names: of the parameters.
    """
    known = set(names)
    description: list[str] = []
    found: dict[str, list[str]] = {}
    section, target, indent = "", description, ""
    lines = inspect.cleandoc(docstring or "").splitlines()
    for number, line in enumerate(lines):
        text = line.strip()
        is_underlined = number + 1 < len(lines) and _is_rule(lines[number + 1])
        heading = None if line.startswith(" ") else _SECTION.fullmatch(text)
        if heading and (text.endswith(":") or is_underlined):
            section, target, indent = heading["title"], [], ""
        elif field := _FIELD.fullmatch(text):
            section, target = "field", [field["text"]]
            if field["kind"] in {"param", "parameter", "arg", "argument"} and field["name"] in known:
                found[field["name"]] = target
        elif section in _PARAMETERS and text and not _is_rule(text):
            # Entries begin at the indentation of the first one, and their descriptions are indented further.
            indent = indent or line[: len(line) - len(line.lstrip())] or "none"
            if (line.startswith(" ") if indent == "none" else line.startswith(f"{indent} ")) or not (
                entry := _ENTRY.fullmatch(text)
            ):
                target.append(text)
                continue
            target = [entry["text"] or ""] if indent != "none" else []
            if entry["name"] in known:
                found[entry["name"]] = target
        elif not _is_rule(text):
            target.append(text)
    return _text(description), {name: text for name, lines in found.items() if (text := _text(lines))}


def _is_rule(line: str) -> bool:
    return re.fullmatch(r"\s*-{3,}\s*", line) is not None


def _text(lines: list[str]) -> str:
    """Return lines as text: one line for each paragraph."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip())
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
