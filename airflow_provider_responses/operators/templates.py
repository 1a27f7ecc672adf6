"""One template, rendered for row after row."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_responses.enrich.values import to_json
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.texts import unwrap_enum

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_responses.enrich.sources import Row


class RowTemplate:
    """
    See the module. What is null renders as nothing, and ``row.items`` is a column, if there is one.

    :param text: the template; it names ``row``, and may name what is in the task's context.
    :param env: Airflow's environment.
    :param context: the task's.
    :raises RequestValidationError: for a template that cannot be read, names what is unknown, or does not name ``row``.
    """

    def __init__(self, text: str, env: jinja2.Environment, context: Mapping[str, Any]) -> None:
        import jinja2
        from jinja2 import meta

        env = _for_rows(env)
        try:
            tree = env.parse(text)
            found = meta.find_undeclared_variables(tree)
            names = {name for name in found - {"row"} if name in context}
            template = env.from_string(text, globals={name: context[name] for name in names})
        except jinja2.TemplateSyntaxError as error:
            raise RequestValidationError(f"input: the template cannot be read: {error}", fields=("input",)) from None
        if unknown := sorted(found - names - {"row"}):
            raise RequestValidationError(
                f"input: the template names {unknown[0]!r}, which is neither `row` nor in the task's context; the "
                f"columns are row.{unknown[0]} and the like",
                fields=("input",),
            )
        if "row" not in found and not any(meta.find_referenced_templates(tree)):
            raise RequestValidationError(
                "input: the template names no column, so that all rows would ask the same; name one as {{ row.text }}",
                fields=("input",),
            )
        self.columns = _columns(tree)
        self.uses = _uses(tree)  # the columns that it reads; None if that may be any
        self._template = template

    def render(self, row: Row) -> str:
        """
        Render for a row.

        :raises RequestValidationError: saying why it cannot be.
        """
        try:
            # Not by `finalize` alone: a filter or `~` would read a member of an enum as its name.
            return self._template.render(row={name: _shown(value) for name, value in row.items()})
        except Exception as error:  # what filters and values raise is theirs; the row marks itself
            raise RequestValidationError(
                f"input: the template cannot be rendered ({type(error).__name__}: {error}); the row's columns are "
                f"{', '.join(map(str, row))}",
                fields=("input",),
            ) from error


class _Bytes(bytes):
    """Bytes that no template turns into text by accident; ``decode()``, ``tojson`` and so on read them."""

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(
            f"a column holds bytes ({len(self)}) and no text; decode it in the source or with "
            "{{ row.….decode() }}, or take {{ row.… | tojson }} for base64"
        )

    __str__ = __repr__ = __format__ = _refuse

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Bytes(found) if isinstance(found, bytes) else found


def _shown(value: Any) -> Any:
    """Return a value as a template gets it: the same whichever driver it comes from."""
    kind = type(value)
    if kind is str or kind is int or kind is float or value is None:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _Bytes(value)
    if kind is list or kind is tuple:
        return kind(map(_shown, value))
    return {name: _shown(item) for name, item in value.items()} if kind is dict else unwrap_enum(value)


def _for_rows(env: jinja2.Environment) -> jinja2.Environment:
    import jinja2

    env = env.overlay(finalize=_text, undefined=jinja2.StrictUndefined)
    env.filters = {**env.filters, "tojson": _tojson}
    otherwise = env.getattr

    def attribute(holder: Any, name: str) -> Any:
        return holder[name] if type(holder) is dict and name in holder else otherwise(holder, name)

    env.getattr = attribute  # type: ignore[method-assign,assignment]  # an overlay has the class of its origin
    return env


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if inspect.isroutine(value):  # its text is an address, another one in each process
        raise TypeError(f"{value.__name__} is a function or a method and no column; call it, or name a column")
    return str(_Bytes(value)) if isinstance(value, (bytes, bytearray)) else unwrap_enum(value)


def _tojson(value: Any, indent: int | None = None) -> str:
    """Give JSON as in the result; Jinja's own knows no dates, and is escaped for HTML."""
    return json.dumps(to_json(value, "row"), ensure_ascii=False, indent=indent)


def _columns(tree: Any) -> frozenset[str]:
    """Give the columns that a template names and does without nowhere."""
    from jinja2 import nodes

    guards = [
        *(node for node in tree.find_all(nodes.Filter) if node.name in {"default", "d"}),
        *(node for node in tree.find_all(nodes.Test) if node.name in {"defined", "undefined"}),
    ]
    optional = {name for guard in guards for name in _named(guard)}
    optional |= {node.expr.value for node in tree.find_all(nodes.Compare) if isinstance(node.expr, nodes.Const)}
    if any(node.name == "row" and node.ctx != "load" for node in tree.find_all(nodes.Name)):
        return frozenset()  # it has a `row` of its own
    return frozenset(_named(tree) - optional)


def _named(tree: Any) -> set[Any]:
    """Give the columns that a part of a template names."""
    from jinja2 import nodes

    attributes = {
        node.attr
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "row" and not hasattr(dict, node.attr)
    }
    items = {
        node.arg.value
        for node in tree.find_all(nodes.Getitem)
        if isinstance(node.node, nodes.Name) and node.node.name == "row" and isinstance(node.arg, nodes.Const)
    }
    return attributes | items


def _uses(tree: Any) -> frozenset[str] | None:
    """Return all columns that a template may read; None if only the row as a whole can tell."""
    from jinja2 import meta, nodes

    if any(meta.find_referenced_templates(tree)):
        return None  # which sees the row, too
    found: set[str] = set()
    seen = 0
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if not _is_row(node.node):
            continue
        name = node.attr if isinstance(node, nodes.Getattr) else _constant(node.arg)
        if not isinstance(name, str) or hasattr(dict, name):  # row[0], row[name], row.items(), row.get("a")
            return None
        seen += 1
        found.add(name)
    is_whole = seen < sum(1 for node in tree.find_all(nodes.Name) if node.name == "row")
    return None if is_whole else frozenset(found)


def _is_row(node: Any) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Name) and node.name == "row"


def _constant(node: Any) -> Any:
    from jinja2 import nodes

    return node.value if isinstance(node, nodes.Const) else None
