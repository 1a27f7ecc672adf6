"""
The ``output_type`` that the return annotation of a decorated function gives.

The function returns the input of a request: a text, a list of items or a dict. An annotation that fits such a value
describes the function itself, as that of any other function. One that fits none of them describes the output:

- a pydantic model, a dataclass, an enum, a ``Literal``, a number, a boolean, a date, a time, a UUID
- a list of these, or a union of these and None

Texts, dicts, TypedDicts and lists of them, ``Any``, and the items of this package are none.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import types
import typing
import uuid
import warnings
from collections import abc
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

_OUTPUTS: Final = (
    *(bool, int, float, decimal.Decimal, enum.Enum),
    *(datetime.date, datetime.time, datetime.timedelta, uuid.UUID),
)
_LISTS: Final = frozenset({list, set, frozenset, abc.Sequence, abc.Set, abc.Collection, abc.Iterable})
_OWN: Final = "airflow_provider_responses."


def output_type_of(function: Callable[..., Any]) -> Any:
    """Return the type that the return annotation of a function gives, None if it gives none; see the module."""
    annotation = getattr(function, "__annotations__", {}).get("return")
    if isinstance(annotation, str) and (annotation := _evaluate(function, annotation)) is None:
        return None
    return annotation if _is_output(annotation) else None


def _evaluate(function: Callable[..., Any], text: str) -> Any:
    """Return the annotation that a text stands for, None if its names are not known where the function is defined."""
    holder: Any = types.SimpleNamespace(__annotations__={"return": text})
    inner = inspect.unwrap(function)
    try:
        hints = typing.get_type_hints(
            holder, getattr(inner, "__globals__", {}), inspect.getclosurevars(inner).nonlocals, include_extras=True
        )
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        name = getattr(function, "__name__", "the function")
        warnings.warn(
            f"the return annotation {text!r} of {name} gives no output_type: it cannot be read ({error}). Define its "
            "names in the module, or set output_type",
            UserWarning,
            stacklevel=2,
        )
        return None
    return hints["return"]


def _is_output(annotation: Any) -> bool:
    """Whether no input of a request has a type."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _is_output(arguments[0])
    if origin is Literal:
        return True
    if origin is Union or isinstance(annotation, types.UnionType):
        others = [it for it in arguments if it is not type(None)]
        return all(map(_is_output, others))
    if origin in _LISTS:
        return bool(arguments) and _is_output(arguments[0])
    if not isinstance(annotation, type) or annotation.__module__.startswith(_OWN):
        return False
    return issubclass(annotation, _OUTPUTS) or dataclasses.is_dataclass(annotation) or _is_model(annotation)


def _is_model(annotation: type) -> bool:
    from pydantic import BaseModel

    return issubclass(annotation, BaseModel) and annotation is not BaseModel
