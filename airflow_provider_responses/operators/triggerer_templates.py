"""Templates that the triggerer would render otherwise than a worker, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.task.arguments import is_template

if TYPE_CHECKING:
    import jinja2

# Names of the triggerer's context that need no message to the supervisor which it does not reply to there.
RENDERED_IN_TRIGGERER: Final = frozenset(
    {
        "conn",
        "dag",
        "dag_run",
        "data_interval_end",
        "data_interval_start",
        "ds",
        "ds_nodash",
        "logical_date",
        "macros",
        "params",
        "run_id",
        "task",
        "ts",
        "ts_nodash",
        "ts_nodash_with_tz",
        "var",
    }
)

# The attributes of three of them that are the same there. The DAG and the task there are those of the stored DAG, and
# the DAG run lacks its user.
SAME_IN_TRIGGERER: Final = {
    "dag": frozenset({"dag_id"}),
    "dag_run": frozenset(
        {
            "conf",
            "dag_id",
            "data_interval_end",
            "data_interval_start",
            "logical_date",
            "partition_date",
            "partition_key",
            "run_after",
            "run_id",
            "start_date",
        }
    ),
    "task": frozenset({"task_id"}),
}


def templates_in(value: Any) -> Iterator[str]:
    """Return the templates in the arguments of a trigger, however deep."""
    return filter(is_template, texts_in(value))


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in the arguments of a trigger, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from texts_in(item)
    elif isinstance(value, str):
        yield value


def find_difference(template: str, env: jinja2.Environment, params: Mapping[str, Any]) -> str | None:
    """Return the part of a template that the triggerer cannot render, or renders otherwise than a worker."""
    import jinja2
    from jinja2 import meta

    try:
        tree = env.parse(template)
        names = meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        return f"a template cannot be read: {error}"
    if any(True for _ in meta.find_referenced_templates(tree)):
        return "a template includes a file, which the triggerer does not have"
    if unknown := sorted(names - RENDERED_IN_TRIGGERER):
        return f"a template uses {unknown[0]!r}, which the triggerer cannot fill in"
    if "params" in names and (nested := _nested_param(params)):
        return f"a template uses 'params', and the triggerer has another {nested!r}: it holds a dict"
    if name := _name_with_other_attributes(tree):
        allowed = ", ".join(sorted(SAME_IN_TRIGGERER[name]))
        return f"a template uses more of {name!r} than is the same in the triggerer: {allowed}"
    return None


def _nested_param(params: Any) -> str | None:
    """Return the name of a param that holds a dict, whose order changes when its DAG is stored."""
    plain = (str, int, float, type(None))
    for name, param in params.items():
        values = param.value if isinstance(param.value, list) else [param.value]
        if not all(isinstance(value, plain) for value in values):
            return str(name)
    return None


def _name_with_other_attributes(tree: Any) -> str | None:
    from jinja2 import nodes

    same = {
        id(node.node)
        for node in tree.find_all((nodes.Getattr, nodes.Getitem))
        if isinstance(node.node, nodes.Name) and _attribute(node) in SAME_IN_TRIGGERER.get(node.node.name, ())
    }
    used = (node for node in tree.find_all(nodes.Name) if node.name in SAME_IN_TRIGGERER and id(node) not in same)
    return next((str(node.name) for node in used), None)


def _attribute(node: Any) -> Any:
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) else None
