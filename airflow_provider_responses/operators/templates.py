"""One template, rendered for row after row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_responses.enrich.sources import Row


class RowView(dict[str, Any]):
    """A row whose columns win over a dict's methods: ``row.items`` is a column, if there is one."""

    def __getattribute__(self, name: str) -> Any:
        return dict.__getitem__(self, name) if dict.__contains__(self, name) else super().__getattribute__(name)


class RowTemplate:
    """
    See the module. What is null in a row renders as nothing.

    :param text: the template; it may name ``row`` and what is in the task's context.
    :param env: Airflow's environment.
    :param context: the task's.
    :raises RequestValidationError: for a template that cannot be read or names what is unknown.
    """

    def __init__(self, text: str, env: jinja2.Environment, context: Mapping[str, Any]) -> None:
        import jinja2
        from jinja2 import meta, nodes

        env = env.overlay(finalize=lambda value: "" if value is None else value, undefined=jinja2.StrictUndefined)
        try:
            tree = env.parse(text)
        except jinja2.TemplateSyntaxError as error:
            raise RequestValidationError(f"input: the template cannot be read: {error}", fields=("input",)) from None
        names = meta.find_undeclared_variables(tree) - {"row"} - env.globals.keys()
        if unknown := sorted(name for name in names if name not in context):
            raise RequestValidationError(
                f"input: the template names {unknown[0]!r}, which is neither `row` nor in the task's context; the "
                f"columns are row.{unknown[0]} and the like",
                fields=("input",),
            )
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
        self.columns = frozenset(attributes | items)
        self._template = env.from_string(text, globals={name: context[name] for name in names})

    def render(self, row: Row) -> str:
        """
        Render for a row.

        :raises RequestValidationError: saying why it cannot be.
        """
        try:
            return self._template.render(row=RowView(row))
        except Exception as error:  # what filters and values raise is theirs; the row marks itself
            raise RequestValidationError(
                f"input: the template cannot be rendered ({type(error).__name__}: {error}); the row's columns are "
                f"{', '.join(map(str, row))}",
                fields=("input",),
            ) from error
