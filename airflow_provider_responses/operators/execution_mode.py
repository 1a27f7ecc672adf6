"""
The execution mode of a task: where its request is sent and where the task ends, and the reason that the log states.

==========  ====================  =====================
Mode        Sends the request     Ends the task
==========  ====================  =====================
worker      the worker            the worker
deferred    the triggerer         a second worker
triggerer   the triggerer         the triggerer
==========  ====================  =====================

A task is deferred by a worker, or starts in the triggerer without one (``start_from_trigger``). This module decides
only: the operator defers, and the triggers send. ``base`` is the operator's own class, whose subclasses may override
methods that run on workers alone.
"""

from __future__ import annotations

import enum
import functools
import json
import logging
from dataclasses import dataclass
from typing import Any, Final

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, get_base_airflow_version_tuple

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.operators.triggerer_templates import find_difference, templates_in, texts_in
from airflow_provider_responses.task.arguments import comes_from_upstream
from airflow_provider_responses.task.escalation import check_escalations
from airflow_provider_responses.task.escalation_encoding import find_unimportable
from airflow_provider_responses.task.payload_secrets import find_secret
from airflow_provider_responses.task.payloads import DeferredArguments, StartArguments
from airflow_provider_responses.task.type_encoding import encode_type, type_text

# Seconds until a worker has resumed a task. Airflow 2.11 counts the whole deferral as time of the task.
RESUME_SECONDS: Final = 20.0

# Settings of a DAG for its templates; the triggerer has Airflow's defaults.
_TEMPLATE_SETTINGS: Final = (
    "render_template_as_native_obj",
    "user_defined_macros",
    "user_defined_filters",
    "jinja_environment_kwargs",
)

_RENDERERS: Final = ("render_template_fields", "render_template", "get_template_env")

_LOST_WITHOUT_WORKER: Final = {
    "outlets": "it has outlets",
    "on_success_callback": "it has a success callback",
    "multiple_outputs": "it has multiple outputs",
    "returns_dag_result": "its value is the result of the DAG",
    "map_index_template": "it has a map_index_template",
}


class ExecutionMode(enum.Enum):
    """Where a request is sent and its task ends; see the module."""

    WORKER = "worker"
    DEFERRED = "deferred"
    TRIGGERER = "triggerer"


@dataclass(frozen=True)
class Decision:
    """
    The execution mode of an attempt that a worker prepares.

    :param reason: why the triggerer does no more of it.
    :param log_level: the level at which it is logged.
    """

    mode: ExecutionMode
    reason: str | None = None
    log_level: int = logging.INFO

    def log_line(self, min_deferral: float) -> str:
        """Return the log line about the mode."""
        if self.mode is ExecutionMode.WORKER:
            return f"Not deferred: {self.reason}"
        if self.mode is ExecutionMode.TRIGGERER:
            return "Deferring; the trigger ends the task"
        return f"Deferring; a worker ends the task, in {min_deferral:g} s at the earliest: {self.reason}"


def decide(
    arguments: DeferredArguments, *, max_bytes: int, end_reason: str | None, seconds_left: float | None = None
) -> Decision:
    """
    Return the execution mode of a deferrable task's attempt.

    :param arguments: those that its trigger would have.
    :param max_bytes: the size limit of its arguments as JSON.
    :param end_reason: see :func:`reason_to_end_on_worker`.
    :param seconds_left: of ``execution_timeout``, where Airflow counts the deferral as time of the task.
    """
    request = arguments.task_request
    if secret := find_secret(arguments.options, request.fields, request.escalations):
        return Decision(ExecutionMode.WORKER, secret, logging.WARNING)
    if seconds_left is not None and seconds_left < 2 * RESUME_SECONDS:
        few = f"{seconds_left:.0f} s are left of execution_timeout, too few to resume on a worker"
        return Decision(ExecutionMode.WORKER, few)
    if large := _reason_of_size(arguments.to_kwargs(), max_bytes):
        return Decision(ExecutionMode.WORKER, large, logging.WARNING)
    return Decision(ExecutionMode.TRIGGERER if end_reason is None else ExecutionMode.DEFERRED, end_reason)


def reason_to_end_on_worker(task: Any, base: type) -> str | None:
    """Return why a worker must end a task; None if nothing is lost where the trigger ends it."""
    if not AIRFLOW_V_3_3_PLUS:
        return "Airflow is older than 3.3"
    if task.tools is not None:
        return "its tools run on a worker"
    if task.output_type is not None and encode_type(task.output_type) is None:
        return f"{type_text(task.output_type)} is defined in a DAG file, which the triggerer cannot import"
    if task.escalate is not None:
        if function := find_unimportable(check_escalations(task.escalate)):
            return f"{function} of `escalate` is defined in a DAG file, which the triggerer cannot import"
        if task.max_cost is not None or task.budget is not None:
            return "its max_cost or budget is checked on a worker, before a larger model gets the request"
    return _lost_without_worker(task, base)


def reason_to_start_on_worker(task: Any, base: type, *, max_bytes: int) -> str | None:
    """
    Return why a task cannot start in the triggerer, None if it can. Its templates must not be rendered yet.

    :param max_bytes: the size limit of its trigger's arguments as JSON.
    """
    if get_base_airflow_version_tuple() < (3, 3, 1):
        return "Airflow is older than 3.3.1"
    if reason := _reason_of_operator(task):
        return reason
    dag = task.get_dag()
    if dag is None:
        return "it is in no DAG"
    if reason := _lost_without_worker(task, base):
        return reason
    if _overrides(task, base, "execute") or _overrides(task, base, "pre_execute"):
        return "it has an execute or a pre_execute hook of its own"
    if getattr(task, "_pre_execute_hook", None):
        return "it has an execute or a pre_execute hook of its own"
    if task.on_execute_callback:
        return "it has a callback for its start"
    if task.pool != "default_pool":
        return f"it is in the pool {task.pool!r}, which a start in the triggerer ignores"
    if task.max_active_tis_per_dag or task.max_active_tis_per_dagrun:
        return "it limits how many of it run at once, which a start in the triggerer ignores"
    return _reason_of_arguments(task, base, dag, max_bytes)


def reason_to_start_attempt_on_worker(ti: Any) -> str:
    """Return why a worker has this attempt of a task that can start in the triggerer."""
    if ti.map_index not in {None, -1}:
        return "it is mapped"
    if ti.try_number > 1:
        return f"in attempt {ti.try_number}, only a worker can tell a retry from a cleared task"
    return "`dag.test()` starts no triggerer"


def _lost_without_worker(task: Any, base: type) -> str | None:
    for attribute, reason in _LOST_WITHOUT_WORKER.items():
        if getattr(task, attribute):
            return reason
    if tuple(task.operator_extra_links) != tuple(base.operator_extra_links):  # type: ignore[attr-defined]
        return "it has links of its own"
    if _overrides(task, base, "post_execute") or getattr(task, "_post_execute_hook", None):
        return "it has a post_execute hook"
    if _overrides(task, base, "execute_complete"):
        return f"{type(task).__name__} has an execute_complete of its own"
    if task.get_dag() is not None and next(iter(task.iter_mapped_dependants()), None) is not None:
        return "a mapped task expands over its value"
    if _has_listeners():
        return "a listener is installed"
    return None


def _reason_of_operator(task: Any) -> str | None:
    if task.start_on_worker_reason:
        return str(task.start_on_worker_reason)
    if task.history is not None or task.result == "conversation":
        return "it is part of a conversation, whose session begins on a worker"
    if task.tools is not None:
        return "its tools run on a worker"
    if task.max_cost is not None or task.budget is not None:
        return "its max_cost or budget is checked on a worker, before each send"
    return None


def _reason_of_arguments(task: Any, base: type, dag: Any, max_bytes: int) -> str | None:
    if reason := _reason_of_rendering(task, base, dag) or _reason_of_params(task):
        return reason
    for name in task.template_fields:
        # None: Airflow reads `start_from_trigger` also while the constructor of a subclass is still running.
        if comes_from_upstream(getattr(task, name, None)):
            return f"`{name}` comes from another task"
    try:
        if secret := find_secret(task.options, task.request, check_escalations(task.escalate)):
            return secret
        kwargs = StartArguments.of(task).to_kwargs()
    except ResponsesError as error:
        return f"the triggerer cannot be given {error}"
    if reason := _reason_of_size(kwargs, max_bytes):
        return reason
    if ending := next((it for text in texts_in(kwargs) for it in task.template_ext if text.endswith(it)), None):
        return f"a text of it ends in {ending}, which the triggerer would take for the name of a file"
    env = task.get_template_env()  # the same as in the triggerer: `_reason_of_rendering` has found no difference
    return next((reason for text in templates_in(kwargs) if (reason := find_difference(text, env, task.params))), None)


def _reason_of_size(kwargs: dict[str, Any], max_bytes: int) -> str | None:
    size = len(json.dumps(kwargs))
    return (
        f"the request has {size} bytes, and [responses] max_trigger_bytes is {max_bytes}" if size > max_bytes else None
    )


def _reason_of_rendering(task: Any, base: type, dag: Any) -> str | None:
    """Return what makes a worker render otherwise than Airflow does by default."""
    import jinja2

    for method in _RENDERERS:
        if _overrides(task, base, method):
            return f"{type(task).__name__} has a {method} of its own"
    for name in _TEMPLATE_SETTINGS:
        if getattr(dag, name):
            return f"its DAG has {name}"
    if dag.template_undefined is not jinja2.StrictUndefined:
        return "its DAG has a template_undefined of its own"
    if getattr(task, "render_template_as_native_obj", None):
        return "it has render_template_as_native_obj"
    return None


def _reason_of_params(task: Any) -> str | None:
    """Return which param a worker would check; one without a value ends Airflow's triggerer."""
    for name, param in task.params.items():
        # Values that a DAG run sets for params of its DAG were checked when it was created.
        if param.schema and param.source == "task":
            return f"its param {name!r} has a schema of its own"
        try:
            text = json.dumps([param.value, param.schema], sort_keys=True)
        except TypeError:  # there is no value, which is not the same as None
            text = ""
        if not text or not _is_valid_param(text):
            return "a param has no default, or one that its schema does not allow"
    return None


@functools.lru_cache(maxsize=1024)
def _is_valid_param(text: str) -> bool:
    """Whether a param's schema allows its default. The check is slow, and all tasks of a DAG have the DAG's params."""
    from airflow.providers.common.compat.sdk import Param

    value, schema = json.loads(text)
    try:
        Param(value, schema=schema).resolve()
    except Exception:  # noqa: BLE001  an invalid schema may raise anything, and Airflow reports it for the DAG
        return False
    return True


def _overrides(task: Any, base: type, method: str) -> bool:
    return getattr(type(task), method, None) is not getattr(base, method, None)


def _has_listeners() -> bool:
    from airflow.sdk.listener import get_listener_manager

    return bool(get_listener_manager().has_listeners)
