"""
Encodes an ``output_type`` as text that another process, such as the triggerer, decodes.

A class is ``module:name``, anything else JSON: a JSON Schema as it is, a list or a union by its parts. A class in a DAG
file has no encoding, since only the processes that parse the file can import it.
"""

from __future__ import annotations

import enum
import importlib
import json
import sys
import types
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin

_DAG_FILE: Final = "unusual_prefix_"  # Airflow's module names of DAG files begin with it
_SIMPLE: Final = (str, int, bool, type(None))


def encode_type(output_type: Any) -> str | None:
    """Return a type as text, None if another process cannot import it."""
    if output_type is None:
        return None
    if isinstance(output_type, Mapping):
        return json.dumps({"schema": dict(output_type)})
    try:
        encoded = _encode(output_type)
    except TypeError:
        return None
    return encoded if isinstance(encoded, str) else json.dumps(encoded)


def decode_type(text: str) -> Any:
    """
    Undo :func:`encode_type`.

    :raises Exception: any that an imported module raises.
    """
    return _decode(json.loads(text) if text.startswith("{") or text == "null" else text)


def type_text(output_type: Any) -> str:
    """Return a type as it is written, for messages."""
    from airflow_provider_responses.models.output_reader import name_of

    return name_of(output_type)


def _encode(part: Any) -> Any:
    """
    Return a type as JSON.

    :raises TypeError: if another process cannot import it.
    """
    if part is None or part is type(None):
        return None
    if part is Any:
        return {"any": True}
    if part is Ellipsis:
        return {"ellipsis": True}
    origin, arguments = get_origin(part), get_args(part)
    if origin is Literal:
        return {"literal": [_encode_value(value) for value in arguments]}
    if origin is Union or isinstance(part, types.UnionType):
        return {"union": [_encode(it) for it in arguments]}
    if isinstance(origin, type) and arguments:
        return {"generic": _path(origin), "arguments": [_encode(it) for it in arguments]}
    return _path(part)


def _encode_value(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return {"enum": _path(type(value)), "member": value.name}
    if type(value) in _SIMPLE:
        return value
    raise TypeError(value)


def _path(named: Any) -> str:
    module = getattr(named, "__module__", None)
    name = getattr(named, "__qualname__", None) or getattr(named, "__name__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise TypeError(named)
    if module == "__main__" or module.startswith(_DAG_FILE) or not name.replace(".", "").isidentifier():
        raise TypeError(named)
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not named:  # such as a class in a function
        raise TypeError(named)
    return f"{module}:{name}"


def _decode(part: Any) -> Any:
    if part is None:
        return type(None)
    if isinstance(part, str):
        module, _, name = part.partition(":")
        found: Any = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)
        return found
    match part:
        case {"any": _}:
            return Any
        case {"ellipsis": _}:
            return ...
        case {"schema": schema}:
            return schema
        case {"literal": values}:
            return Literal[tuple(map(_decode_value, values))]
        case {"union": members}:
            return Union[tuple(map(_decode, members))]  # noqa: UP007  any number of members
    return _decode(part["generic"])[tuple(map(_decode, part["arguments"]))]


def _decode_value(value: Any) -> Any:
    return _decode(value["enum"])[value["member"]] if isinstance(value, Mapping) else value
