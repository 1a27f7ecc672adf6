"""The template of a prompt, rendered for each row."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.texts import unwrap_enum
from airflow_provider_responses.validation import show_exception

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_responses.enrich.sources import Row


class RowTemplate:
    """
    The template of a prompt.

    Null renders as nothing. ``row.items`` is the column ``items``, if there is one.

    :param text: the template; it uses ``row``, and may use variables of the task's context.
    :param env: Airflow's environment.
    :param context: the task's context.
    :param field: the argument that holds the template.
    :param needs_row: whether a template that does not use ``row`` is refused.
    :raises RequestValidationError: for a syntax error, an unknown variable, or a template that does not use ``row``.
    """

    def __init__(
        self,
        text: str,
        env: jinja2.Environment,
        context: Mapping[str, Any],
        *,
        field: str = "input",
        needs_row: bool = True,
    ) -> None:
        import jinja2
        from jinja2 import meta

        env = _for_rows(env)
        try:
            tree = env.parse(text)
            found = meta.find_undeclared_variables(tree)
            names = {name for name in found - {"row"} if name in context}
            template = env.from_string(text, globals={name: context[name] for name in names})
        except jinja2.TemplateSyntaxError as error:
            raise RequestValidationError(
                f"{field}: the template is not valid: {error.message}", fields=(field,)
            ) from None
        if unknown := sorted(found - names - {"row"}):
            raise RequestValidationError(
                f"{field}: the template uses {unknown[0]!r}, which is neither `row` nor in the task's context. For a "
                f"column, write row.{unknown[0]}",
                fields=(field,),
            )
        if needs_row and "row" not in found and not any(meta.find_referenced_templates(tree)):
            raise RequestValidationError(
                f"{field}: the template uses no column, so all rows would have the same "
                f"{'prompt' if field == 'input' else field}. Use one, as in {{{{ row.text }}}}",
                fields=(field,),
            )
        self.required_columns = _required_columns(tree)
        self.columns_read = _columns_read(tree)  # None if it may read all
        self._template, self._field = template, field

    def render(self, row: Row) -> str:
        """
        Return the text of a row.

        :raises RequestValidationError: with the cause, if it cannot be rendered.
        """
        try:
            # `finalize` alone is not enough: a filter or `~` would read a member of an enum as its name.
            return self._template.render(row={name: _renderable(value) for name, value in row.items()})
        except Exception as error:  # filters and values may raise any exception, which is the row's own error
            raise RequestValidationError(
                f"{self._field}: the template cannot be rendered: {show_exception(error)}. The row's columns are "
                f"{', '.join(map(str, row))}",
                fields=(self._field,),
            ) from error


class _Bytes(bytes):
    """Bytes that a template must turn into text explicitly, by ``decode()``, ``tojson`` and so on."""

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(
            f"a column must be text, got {len(self)} bytes; decode it in the source or with "
            "{{ row.….decode() }}, or use {{ row.… | tojson }} for base64"
        )

    __str__ = __repr__ = __format__ = _refuse

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _Bytes(found) if isinstance(found, bytes) else found


def _renderable(value: Any) -> Any:
    """Return a value in a form that renders the same, whichever database driver it comes from."""
    kind = type(value)
    if kind is str or kind is int or kind is float or value is None:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _Bytes(value)
    if kind is list or kind is tuple:
        return kind(map(_renderable, value))
    return {name: _renderable(item) for name, item in value.items()} if kind is dict else unwrap_enum(value)


def _for_rows(env: jinja2.Environment) -> jinja2.Environment:
    import jinja2

    env = env.overlay(finalize=_text, undefined=jinja2.StrictUndefined)
    env.filters = {**env.filters, "tojson": _tojson}
    default_getattr = env.getattr

    def attribute(holder: Any, name: str) -> Any:
        return holder[name] if type(holder) is dict and name in holder else default_getattr(holder, name)

    env.getattr = attribute  # type: ignore[method-assign,assignment]  # an overlay has the class of its origin
    return env


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if inspect.isroutine(value):  # its text is an address, which differs from process to process
        raise TypeError(f"{value.__name__} is a function or a method, not a column; call it, or use a column")
    return str(_Bytes(value)) if isinstance(value, (bytes, bytearray)) else unwrap_enum(value)


def _tojson(value: Any, indent: int | None = None) -> str:
    """Return JSON as in the result. Jinja's filter fails on dates, and escapes for HTML."""
    from airflow_provider_responses.enrich.json_values import to_json

    return json.dumps(to_json(value, "row"), ensure_ascii=False, indent=indent)


def _required_columns(tree: Any) -> frozenset[str]:
    """Return the columns that a template uses without a default or a test for their absence."""
    from jinja2 import nodes

    guards = [
        *(node for node in tree.find_all(nodes.Filter) if node.name in {"default", "d"}),
        *(node for node in tree.find_all(nodes.Test) if node.name in {"defined", "undefined"}),
    ]
    optional = {name for guard in guards for name in _columns_used(guard)}
    optional |= {node.expr.value for node in tree.find_all(nodes.Compare) if isinstance(node.expr, nodes.Const)}
    if any(node.name == "row" and node.ctx != "load" for node in tree.find_all(nodes.Name)):
        return frozenset()  # the template assigns `row`
    return frozenset(_columns_used(tree) - optional)


def _columns_used(tree: Any) -> set[Any]:
    """Return the columns that a part of a template names."""
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


def _columns_read(tree: Any) -> frozenset[str] | None:
    """Return all columns that a template may read, None if it reads the row as a whole."""
    from jinja2 import meta, nodes

    if any(meta.find_referenced_templates(tree)):
        return None  # a template that it includes can read the row, too
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
    reads_whole_row = seen < sum(1 for node in tree.find_all(nodes.Name) if node.name == "row")
    return None if reads_whole_row else frozenset(found)


def _is_row(node: Any) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Name) and node.name == "row"


def _constant(node: Any) -> Any:
    from jinja2 import nodes

    return node.value if isinstance(node, nodes.Const) else None
