"""Converts an item of a response to a valid item of an ``input``: values of another type are converted or removed."""

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
_REMOVED: Final = object()  # stands in for a removed value, so that the paths of all problems stay valid


class _FilledIn(dict[str, Any]):
    """An empty object in place of a missing one. If it turns out to need fields, the part around it is removed."""


class _MisfitError(Exception):
    """No part of the item can be sent."""


@cache
def _validator() -> Callable[[Any], Any]:
    validate: Callable[[Any], Any] = TypeAdapter(InputItem).validate_python
    return validate


def fit_item(item: dict[str, Any], stand_ins: Mapping[str, Any]) -> dict[str, Any] | None:
    """
    Return an item that is valid for OpenRouter, and so for other servers; valid values are not changed.

    A value in place of a text becomes its JSON, a text in place of a list its only entry. A missing text or list is
    filled in as an empty one. Otherwise the smallest optional part around a wrong value is removed. The same item
    always has the same result. None is returned if no part of the item can be sent.

    :param item: is changed.
    :param stand_ins: the item's own required fields, each with the value that replaces a wrong one.
    """
    for _ in range(MOST_ROUNDS):
        try:
            found: dict[str, Any] = _without_removed(_validator()(item))
        except ValidationError as error:
            try:
                for problem in error.errors(include_url=False, include_context=False):
                    _fit_value(item, problem, stand_ins)
            except _MisfitError:
                return None
            item = _without_removed(item, keep_filled_in=True)
        else:
            return found
    return None


def _fit_value(item: dict[str, Any], problem: ErrorDetails, stand_ins: Mapping[str, Any]) -> None:
    path, kind, value = problem["loc"], problem["type"], problem["input"]
    container = _container_of(item, path)
    if container is None:
        return
    name = path[-1]
    if isinstance(container, _FilledIn):
        _remove(item, path[:-2], stand_ins)
    elif kind == "missing":
        container[name] = None  # the error of the next round has the expected type
    elif kind in {"kind", "no_kind"}:
        _remove(item, path[:-1], stand_ins)
    elif value is None and isinstance(name, str):
        if len(path) == 1 and name in stand_ins:
            _remove(item, path, stand_ins)
        elif (empty := _empty(kind)) is None:
            _remove(item, path[:-1], stand_ins)
        else:
            container[name] = empty
    elif kind == "string_type" and value is not None:
        container[name] = json.dumps(value, ensure_ascii=False)
    elif kind == "list_type" and isinstance(value, str) and value:
        container[name] = [value]
    else:
        _remove(item, path, stand_ins)


def _empty(kind: str) -> Any:
    """Return the empty value of a type, None if it has none: 0 would be a claim."""
    makers: dict[str, Callable[[], Any]] = {"string_type": str, "list_type": list, "dict_type": _FilledIn}
    return makers[kind]() if kind in makers else None


def _remove(item: dict[str, Any], path: Path, stand_ins: Mapping[str, Any]) -> None:
    if not path:
        raise _MisfitError
    container, name = _container_of(item, path), path[-1]
    if container is not None:
        has_stand_in = len(path) == 1 and name in stand_ins
        container[name] = copy.deepcopy(stand_ins[str(name)]) if has_stand_in else _REMOVED


def _container_of(item: dict[str, Any], path: Path) -> Any:
    """Return the object or list around the value at a path, None if it was removed already."""
    value: Any = item
    for step in path[:-1]:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    return value if isinstance(value, (dict, list)) else None


def _without_removed(value: Any, *, keep_filled_in: bool = False) -> Any:
    """Copy a value without the removed parts; objects that were filled in become plain ones, unless they are kept."""
    if isinstance(value, dict):
        left = {
            name: _without_removed(entry, keep_filled_in=keep_filled_in)
            for name, entry in value.items()
            if entry is not _REMOVED
        }
        return _FilledIn(left) if keep_filled_in and isinstance(value, _FilledIn) else left
    if isinstance(value, list):
        return [_without_removed(entry, keep_filled_in=keep_filled_in) for entry in value if entry is not _REMOVED]
    return value
