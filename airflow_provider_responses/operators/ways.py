"""Which way a task takes: whether its trigger may end it, and whether it may start in the triggerer at all."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, get_base_airflow_version_tuple

from airflow_provider_responses.exceptions import ConfigurationError, ResponsesError
from airflow_provider_responses.operators.configuration import max_trigger_bytes
from airflow_provider_responses.task.arguments import TEMPLATE_FIELDS, comes_from_upstream, is_template
from airflow_provider_responses.task.payloads import secret_in, to_pairs

if TYPE_CHECKING:
    import jinja2

    from airflow_provider_responses.operators.responses import ResponsesOperator
    from airflow_provider_responses.task.request import TaskRequest

# What the triggerer's context holds without asking the supervisor for what it will not answer there.
_RENDERED_IN_TRIGGERER: Final = frozenset(
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

# What these three hold is not all the same there: a DAG and a task have been stored, and a run comes without its user.
_SAME_IN_TRIGGERER: Final = {
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

# What a DAG says of its templates; the triggerer has Airflow's defaults.
_SETTINGS_OF_TEMPLATES: Final = (
    "render_template_as_native_obj",
    "user_defined_macros",
    "user_defined_filters",
    "jinja_environment_kwargs",
)

_RENDERERS: Final = ("render_template_fields", "render_template", "get_template_env")

_LOST_WITHOUT_WORKER: Final = {
    "outlets": "it has outlets",
    "on_success_callback": "it has a success callback",
    "operator_extra_links": "it has links of its own",
    "multiple_outputs": "it has multiple outputs",
    "returns_dag_result": "its value is the result of the DAG",
    "map_index_template": "it has a map_index_template",
}


def needs_worker(task: ResponsesOperator) -> str | None:
    """Say why a task must end on a worker; None lets the trigger end it, since nothing is lost by that."""
    if not AIRFLOW_V_3_3_PLUS:
        return "Airflow is older than 3.3"
    if task.output_type is not None and import_path(task.output_type) is None:
        return f"{task.output_type.__name__} is defined in a DAG file, which the triggerer cannot import"
    return _lost_without_worker(task)


def needs_worker_to_start(task: ResponsesOperator) -> str | None:
    """Say why a task cannot start in the triggerer; to be asked before its templates are rendered."""
    if get_base_airflow_version_tuple() < (3, 3, 1):
        return "Airflow is older than 3.3.1"
    if task.never_starts_in_triggerer:
        return task.never_starts_in_triggerer
    dag = task.get_dag()
    if dag is None:
        return "it is in no DAG"
    if reason := _lost_without_worker(task):
        return reason
    if _overrides(task, "execute") or _overrides(task, "pre_execute") or getattr(task, "_pre_execute_hook", None):
        return "it has an execute or a pre_execute hook of its own"
    if task.on_execute_callback:
        return "it has a callback for its start"
    if task.pool != "default_pool":
        return f"it is in the pool {task.pool!r}, which a start in the triggerer would not ask"
    if task.max_active_tis_per_dag or task.max_active_tis_per_dagrun:
        return "it limits how many of it run at once, which a start in the triggerer would not ask"
    return _why_not_rendered_there(task, dag)


def never_started_there(ti: Any) -> str:
    """Say why an attempt runs on a worker although its task can start in the triggerer."""
    if ti.map_index not in {None, -1}:
        return "it is mapped"
    if ti.try_number > 1:
        return f"in attempt {ti.try_number}, only a worker can tell a retry from a cleared task"
    return "`dag.test()` starts no triggerer"


def import_path(cls: type) -> str | None:
    """Give ``module:name`` of a class, None if it is defined where another process cannot import it from."""
    # Airflow gives DAG files module names that begin so.
    if cls.__module__.startswith("unusual_prefix_") or cls.__module__ == "__main__" or "<" in cls.__qualname__:
        return None
    found: Any = sys.modules.get(cls.__module__)
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return f"{cls.__module__}:{cls.__qualname__}" if found is cls else None


def settings(run: TaskRequest) -> dict[str, Any]:
    """Give how a trigger reads the answer of a run."""
    names = ("result", "on_invalid_output", "cache", "cache_ttl", "stream", "output_retries")
    given = {name: getattr(run, name) for name in names}
    if run.output_type is not None:
        # As text: a schema keeps its order.
        given["output_format"] = json.dumps(run.text_format())
        given["output_type"] = import_path(run.output_type)
    return given


def start_fields(task: ResponsesOperator) -> dict[str, Any]:
    """
    Give what a task asks for as its trigger takes it, templates as they are.

    :raises RequestValidationError: if a value is not plain JSON.
    """
    fields = {name: to_pairs(getattr(task, name), name) for name in TEMPLATE_FIELDS}
    if task.output_type is not None:
        from airflow_provider_responses.models.output import json_schema_format

        # As text: a schema is no template, and keeps its order.
        fields["output_format"] = json.dumps(json_schema_format(task.output_type))
        fields["output_type"] = import_path(task.output_type)
    timeout = task.execution_timeout
    fields["execution_timeout"] = None if timeout is None else timeout.total_seconds()
    fields["do_xcom_push"] = task.do_xcom_push
    fields["retries"] = task.retries
    return fields


def _lost_without_worker(task: ResponsesOperator) -> str | None:
    for attribute, reason in _LOST_WITHOUT_WORKER.items():
        if getattr(task, attribute):
            return reason
    if _overrides(task, "post_execute") or getattr(task, "_post_execute_hook", None):
        return "it has a post_execute hook"
    if _overrides(task, "execute_complete"):
        return f"{type(task).__name__} has an execute_complete of its own"
    if task.get_dag() is not None and next(iter(task.iter_mapped_dependants()), None) is not None:
        return "a mapped task expands over its value"
    if _has_listeners():
        return "a listener is installed"
    return None


def _why_not_rendered_there(task: ResponsesOperator, dag: Any) -> str | None:
    if reason := _renders_otherwise(task, dag) or _needs_check_of_params(task):
        return reason
    for name in task.template_fields:
        # Airflow asks while a subclass still takes its arguments.
        if comes_from_upstream(getattr(task, name, None)):
            return f"`{name}` comes from another task"
    try:
        if reason := secret_in(task.options, task.request):
            return reason
        fields = start_fields(task)
    except ResponsesError as error:
        return f"the triggerer cannot be given {error}"
    try:
        limit = max_trigger_bytes()
    except ConfigurationError as error:
        return str(error)
    if (size := len(json.dumps(fields))) > limit:
        return f"the request has {size} bytes, and [responses] max_trigger_bytes is {limit}"
    env = task.get_template_env()  # as the triggerer's, since nothing of its DAG's is otherwise
    return next((reason for text in _templates(fields) if (reason := _not_the_same_there(text, env, task))), None)


def _renders_otherwise(task: ResponsesOperator, dag: Any) -> str | None:
    """Say what makes templates something else on a worker than with Airflow's defaults."""
    import jinja2

    for method in _RENDERERS:
        if _overrides(task, method):
            return f"{type(task).__name__} has a {method} of its own"
    if task.template_ext:
        return f"{type(task).__name__} reads templates from files"
    for name in _SETTINGS_OF_TEMPLATES:
        if getattr(dag, name):
            return f"its DAG has {name}"
    if dag.template_undefined is not jinja2.StrictUndefined:
        return "its DAG has a template_undefined of its own"
    if getattr(task, "render_template_as_native_obj", None):
        return "it has render_template_as_native_obj"
    return None


def _needs_check_of_params(task: ResponsesOperator) -> str | None:
    """Say which param a worker would check; one without a value ends Airflow's triggerer."""
    params: Any = task.params
    for name, param in params.items():
        # What a run gives for a DAG's params was checked when it was made.
        if param.schema and param.source == "task":
            return f"its param {name!r} has a schema of its own"
        try:
            text = json.dumps([param.value, param.schema], sort_keys=True)
        except TypeError:  # nothing is given, and that is not None
            text = ""
        if not text or not _is_allowed(text):
            return "a param has no default, or one that its schema does not allow"
    return None


@functools.lru_cache(maxsize=1024)
def _is_allowed(text: str) -> bool:
    """Whether a param's schema allows its default: a look takes long, and each task of a DAG has the DAG's params."""
    from airflow.providers.common.compat.sdk import Param

    value, schema = json.loads(text)
    try:
        Param(value, schema=schema).resolve()
    except Exception:  # noqa: BLE001  a schema that is none raises anything, and Airflow says so of the DAG
        return False
    return True


def _templates(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _templates(item)
    elif isinstance(value, str) and is_template(value):
        yield value


def _not_the_same_there(template: str, env: jinja2.Environment, task: ResponsesOperator) -> str | None:
    """Say what in a template the triggerer cannot fill in, or would fill in with something else than a worker."""
    import jinja2
    from jinja2 import meta

    try:
        tree = env.parse(template)
        names = meta.find_undeclared_variables(tree)
    except jinja2.TemplateSyntaxError as error:
        return f"a template cannot be read: {error}"
    if any(True for _ in meta.find_referenced_templates(tree)):
        return "a template takes in a file, which the triggerer does not have"
    if unknown := sorted(names - _RENDERED_IN_TRIGGERER):
        return f"a template uses {unknown[0]!r}, which the triggerer cannot fill in"
    if "params" in names and (nested := _nested_param(task)):
        return f"a template uses 'params', and the triggerer has another {nested!r}: it holds a dict"
    if different := _different_there(tree):
        allowed = ", ".join(sorted(_SAME_IN_TRIGGERER[different]))
        return f"a template uses more of {different!r} than is the same in the triggerer: {allowed}"
    return None


def _nested_param(task: ResponsesOperator) -> str | None:
    """Give the name of a param that is not the same after its DAG has been stored: dicts in it have another order."""
    params: Any = task.params
    plain = (str, int, float, type(None))
    for name, param in params.items():
        values = param.value if isinstance(param.value, list) else [param.value]
        if not all(isinstance(value, plain) for value in values):
            return str(name)
    return None


def _different_there(tree: Any) -> str | None:
    from jinja2 import nodes

    same = {
        id(node.node)
        for node in tree.find_all((nodes.Getattr, nodes.Getitem))
        if isinstance(node.node, nodes.Name) and _attribute(node) in _SAME_IN_TRIGGERER.get(node.node.name, ())
    }
    used = (node for node in tree.find_all(nodes.Name) if node.name in _SAME_IN_TRIGGERER and id(node) not in same)
    return next((str(node.name) for node in used), None)


def _attribute(node: Any) -> Any:
    from jinja2 import nodes

    if isinstance(node, nodes.Getattr):
        return node.attr
    return node.arg.value if isinstance(node.arg, nodes.Const) else None


def _overrides(task: ResponsesOperator, method: str) -> bool:
    # Here, and not above: the operator imports this module.
    from airflow_provider_responses.operators.responses import ResponsesOperator

    return getattr(type(task), method, None) is not getattr(ResponsesOperator, method, None)


def _has_listeners() -> bool:
    from airflow.sdk.listener import get_listener_manager

    return bool(get_listener_manager().has_listeners)
