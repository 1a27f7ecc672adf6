"""An item of a response, made to fit the types of an ``input``: what has another type is made to fit, or left out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from airflow_provider_responses.models.items import InputItem

Path = tuple[int | str, ...]
MOST_ROUNDS: Final = 100
_GONE: Final = object()  # stands where something was taken out, so that paths stay right until all are used


class _Made(dict[str, Any]):
    """An object that a server left out; it holds nothing, so it cannot be what needs fields."""


class _MisfitError(Exception):
    """Nothing is left of the item that could be sent."""


@cache
def _validator() -> Callable[[Any], Any]:
    validate: Callable[[Any], Any] = TypeAdapter(InputItem).validate_python
    return validate


def fitted(item: dict[str, Any], stand_ins: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Return an item that is valid towards OpenRouter, and so towards others; what is valid stays as it came.

    A value in place of a text becomes its JSON, a text in place of a list its only entry. A text or a list that is
    missing is empty. Else the smallest part around a wrong value that may be missing is left out. The same item
    always gives the same result.

    :param item: is changed.
    :param stand_ins: the item's own fields that must not be missing, with what stands for a wrong value.
    """
    for _ in range(MOST_ROUNDS):
        try:
            found: dict[str, Any] = _swept(_validator()(item))
        except ValidationError as error:
            try:
                for problem in error.errors(include_url=False, include_context=False):
                    _fit(item, problem, stand_ins)
            except _MisfitError:
                return None
            item = _swept(item, made=True)
        else:
            return found
    return None


def _fit(item: dict[str, Any], problem: ErrorDetails, stand_ins: Mapping[str, Any]) -> None:
    path, kind, value = problem["loc"], problem["type"], problem["input"]
    around = _around(item, path)
    if around is None:
        return
    name = path[-1]
    if isinstance(around, _Made):
        _take_out(item, path[:-2], stand_ins)
    elif kind == "missing":
        around[name] = None  # the next round says what it has to be
    elif kind in {"kind", "no_kind"}:
        _take_out(item, path[:-1], stand_ins)
    elif value is None and isinstance(name, str):
        if len(path) == 1 and name in stand_ins:
            _take_out(item, path, stand_ins)
        elif (empty := _empty(kind)) is None:
            _take_out(item, path[:-1], stand_ins)
        else:
            around[name] = empty
    elif kind == "string_type" and value is not None:
        around[name] = json.dumps(value, ensure_ascii=False)
    elif kind == "list_type" and isinstance(value, str) and value:
        around[name] = [value]
    else:
        _take_out(item, path, stand_ins)


def _empty(kind: str) -> Any:
    """Return the value of a type that says nothing; None if it has none: 0 would be a claim."""
    makers: dict[str, Callable[[], Any]] = {"string_type": str, "list_type": list, "dict_type": _Made}
    return makers[kind]() if kind in makers else None


def _take_out(item: dict[str, Any], path: Path, stand_ins: Mapping[str, Any]) -> None:
    if not path:
        raise _MisfitError
    around, name = _around(item, path), path[-1]
    if around is not None:
        stands_in = len(path) == 1 and name in stand_ins
        around[name] = copy.deepcopy(stand_ins[str(name)]) if stands_in else _GONE


def _around(item: dict[str, Any], path: Path) -> Any:
    """Return the object or list that holds what a path leads to; None if it was taken out already."""
    value: Any = item
    for step in path[:-1]:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value if isinstance(value, (dict, list)) else None


def _swept(value: Any, *, made: bool = False) -> Any:
    """Copy a value without what was taken out of it; unless ``made``, what was made are plain objects."""
    if isinstance(value, dict):
        kept = {name: _swept(entry, made=made) for name, entry in value.items() if entry is not _GONE}
        return _Made(kept) if made and isinstance(value, _Made) else kept
    if isinstance(value, list):
        return [_swept(entry, made=made) for entry in value if entry is not _GONE]
    return value
