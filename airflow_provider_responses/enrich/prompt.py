"""The record of the prompt that all rows share, for Airflow's UI, for the stored DAG, and for the manifest."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import textwrap
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from hashlib import blake2b
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.escalation import check_escalations
from airflow_provider_responses.task.texts import unwrap_enum
from airflow_provider_responses.task.type_encoding import type_text

_LENGTH: Final = 8  # bytes of a fingerprint
# Airflow's name for the module of a DAG file has a digest of its path, which differs between processes and versions.
_OF_A_DAG_FILE: Final = re.compile(r"^unusual_prefix_[0-9a-f]+_")


def describe(
    input: str | Callable[..., Any] | None,
    *,
    model: Any = None,
    instructions: Any = None,
    request: Any = None,
    output_type: Any = None,
    escalate: Any = None,
    judge: Any = None,
) -> dict[str, Any]:
    """
    Return the record of a prompt; the same arguments give the same record in every process.

    Keys: ``fingerprint`` (16 hex digits), ``input`` (the template, or the function's source), ``instructions``,
    ``model``, ``output_schema`` (JSON schema), ``output_type`` (its name) and ``request``, which the fingerprint is
    of; and ``judge`` and ``larger_models`` (of ``escalate``), which change no request to the task's own model. They
    are in alphabetical order, so that the fingerprint remains where Airflow cuts a long field.

    :param input: the template of the rows, or the function that is called for each of them.
    """
    prompt = {
        "input": _source_of(input) if callable(input) else _plain(input),
        "instructions": _plain(instructions),
        "model": _plain(model),
        "output_schema": None if output_type is None else _schema_of(output_type),
        "output_type": None if output_type is None else _name_of(output_type),
        "request": _plain(request) or None,
    }
    prompt = {name: value for name, value in prompt.items() if value is not None}
    later = {"judge": _judge_of(judge), "larger_models": _larger_models_of(escalate)}
    found = prompt | {name: value for name, value in later.items() if value}
    return {"fingerprint": _digest(json.dumps(prompt, sort_keys=True)), **dict(sorted(found.items()))}


def _judge_of(judge: Any) -> Any:
    """Return the arguments of a judge; None without one, and for what the operator refuses with a reason."""
    if judge is None:
        return None
    from airflow_provider_responses.enrich.judge import Judge

    if not isinstance(judge, Judge):
        return None
    given = {it.name: _plain(getattr(judge, it.name)) for it in fields(judge)}
    return {name: value for name, value in given.items() if value is not None and value != {}}


def _larger_models_of(escalate: Any) -> list[Any] | None:
    """Return the arguments of each escalation; None without one, and for what the operator refuses with a reason."""
    try:
        escalations = check_escalations(escalate)
    except RequestValidationError:
        return None
    return [
        {
            "model": _plain(it.model),
            "when": [_source_of(condition) if callable(condition) else condition for condition in it.conditions],
            **({"request": _plain(it.request)} if it.request else {}),
        }
        for it in escalations
    ]


def _name_of(output_type: Any) -> str:
    if isinstance(output_type, type):
        return f"{_OF_A_DAG_FILE.sub('', output_type.__module__)}.{output_type.__qualname__}"
    return type_text(output_type)


def _schema_of(output_type: Any) -> Any:
    from airflow_provider_responses.models.output import json_schema_format

    try:
        return json_schema_format(output_type)["schema"]
    except (RequestValidationError, TypeError, AttributeError):
        return None  # the operator refuses this type with a reason


def _plain(value: Any) -> Any:
    """Return a value as plain JSON types, and other objects, such as an upstream task's output, as their class name."""
    value = unwrap_enum(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(unwrap_enum(name)): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return _plain(dump(mode="json"))
    return f"<{type(value).__qualname__}>"


def _source_of(function: Callable[..., Any]) -> str:
    """Return a function's source without its decorators, otherwise its name and a digest of its bytecode."""
    if isinstance(function, functools.partial):
        bound = json.dumps([_plain(list(function.args)), _plain(function.keywords)], sort_keys=True)
        return f"{_source_of(function.func)}\n# with {bound}"
    inner: Any = inspect.unwrap(function)
    inner = inner if inspect.isroutine(inner) else type(inner).__call__
    code = getattr(inner, "__code__", None)
    if code is None:  # not written in Python
        return f"<function {getattr(function, '__qualname__', type(function).__qualname__)}>"
    return _text_of(inner, code) or f"<function {inner.__qualname__}, digest {_digest(repr(_facts_of(code)))}>"


def _text_of(function: Any, code: types.CodeType) -> str | None:
    try:
        lines, _ = inspect.findsource(function)
        text = "".join(lines)
        tree = _parsed(text)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None  # made by `exec`, or its file is gone or has changed
    found = [node for node in ast.walk(tree) if _begins(node, code)]
    return textwrap.dedent(ast.get_source_segment(text, found[0], padded=True) or "") if len(found) == 1 else None


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> ast.Module:
    """Return the parsed text of a file, cached for all of its tasks."""
    return ast.parse(text)


def _begins(node: ast.AST, code: types.CodeType) -> bool:
    """Return whether a node of a file begins where the code does."""
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return node.name == code.co_name and first == code.co_firstlineno


def _facts_of(code: types.CodeType) -> Sequence[Any]:
    """Return the bytecode of a function and what it refers to, without addresses and line numbers."""
    constants = [_facts_of(it) if isinstance(it, types.CodeType) else _constant(it) for it in code.co_consts]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]


def _constant(value: Any) -> Any:
    return sorted(map(repr, value)) if isinstance(value, frozenset) else value


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="surrogatepass"), digest_size=_LENGTH).hexdigest()
