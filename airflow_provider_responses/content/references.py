"""Finds the parts of a request that stand for files, and replaces them. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from airflow_provider_responses.content.parts import BY_CONTENT, BYTES, INDEXED, PART_TYPES, PATH
from airflow_provider_responses.exceptions import RequestValidationError

INPUT: Final = "input"
LISTS: Final = ("content", "output")  # of an item: where its parts are
Part = Mapping[str, Any]


def is_reference(value: Any) -> bool:
    """Return whether a value is a part that stands for a file."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("type"), str)  # else it may have no hash
        and value["type"] in PART_TYPES
        and (PATH in value or BYTES in value or INDEXED in value or value["type"] == BY_CONTENT)
    )


def find_references(fields: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """
    Yield the parts of a request that stand for files, each with its place, such as ``input.0.content.1``.

    :raises RequestValidationError: for such a part outside of a message.
    """
    items = fields.get(INPUT)
    for number, item in enumerate(items if isinstance(items, (list, tuple)) else ()):
        place = f"{INPUT}.{number}"
        if is_reference(item):
            raise RequestValidationError(
                f"{place} must be a message, got a file by itself: put it into the content of one, as in "
                "{'role': 'user', 'content': [{'type': 'input_text', 'text': '…'}, InputFile.from_path('…')]}",
                fields=(place,),
            )
        if not isinstance(item, Mapping):
            continue
        for name in LISTS:
            parts = item.get(name)
            for n, part in enumerate(parts if isinstance(parts, (list, tuple)) else ()):
                if is_reference(part):
                    yield f"{place}.{name}.{n}", part


def has_references(fields: Mapping[str, Any]) -> bool:
    """Return whether a request has parts that stand for files."""
    return next(find_references(fields), None) is not None


def replace_references(fields: Mapping[str, Any], replace: Callable[[str, Part], Part]) -> dict[str, Any]:
    """
    Return a request with other parts in place of those that stand for files.

    :param replace: returns the other part, from the place and the part.
    """
    found = dict(find_references(fields))
    if not found:
        return dict(fields)
    items = []
    for number, item in enumerate(fields[INPUT]):
        lists = {name: item[name] for name in LISTS if isinstance(item, Mapping) and name in item}
        changed = {
            name: [
                replace(place, found[place]) if (place := f"{INPUT}.{number}.{name}.{n}") in found else part
                for n, part in enumerate(parts)
            ]
            for name, parts in lists.items()
            if isinstance(parts, (list, tuple))
        }
        items.append({**item, **changed} if changed else item)
    return {**fields, INPUT: items}


def check_without_files(value: Any, request: Any) -> None:
    """
    Refuse a request with files, which a worker reads and sends, for the triggerer.

    :param value: the input, before its templates are rendered.
    :param request: the other fields.
    :raises RequestValidationError: naming the place.
    """
    others = request if isinstance(request, Mapping) else {}
    for given in (value, others.get(INPUT)):
        if (found := next(find_references({INPUT: given}), None)) is not None:
            raise RequestValidationError(
                f"{found[0]}: it is a file, which a worker reads and sends", fields=(found[0],)
            )
