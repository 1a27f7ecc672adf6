"""What is a template: text that a DAG's author wrote. Text that arrives as data never is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.operators.mapping import checking
from airflow_provider_responses.task.arguments import comes_from_upstream, is_upstream
from airflow_provider_responses.task.texts import unwrap_enum

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class RenderingOperator(BaseOperator):
    """
    An operator that renders what its DAG's author wrote, and takes data as it is.

    Airflow renders the values that ``expand_kwargs`` brings from another task, and with
    ``render_template_as_native_obj`` it reads text as Python: ``"3.10"`` becomes 3.1.
    """

    # A list or dict in these is data, wherever it comes from; text may be a template for all of it.
    data_fields: ClassVar[frozenset[str]] = frozenset()
    # Text that is the whole of these may become an object: "{'temperature': {{ params.t }}}".
    object_fields: ClassVar[frozenset[str]] = frozenset({"request", "options"})

    _given: Mapping[str, Any] | None = None  # what a mapped task is made with
    _refused: ResponsesError | None = None  # why a mapped task must not run
    _data: dict[int, Any] | None = None  # what of that is data, by its id

    def __new__(cls, *_: Any, **kwargs: Any) -> Any:
        task = super().__new__(cls)
        if kwargs.get("_airflow_from_mapped"):
            # A copy: Airflow adds defaults to the arguments of a decorated function.
            vars(task)["_given"] = {**kwargs, "op_kwargs": dict(kwargs.get("op_kwargs") or {})}
        return task

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Begin a mapped task, which is checked when it is expanded."""
        return checking(super().partial(**kwargs))

    @classmethod
    def check_given(cls, given: Mapping[str, Any]) -> None:
        """
        Refuse what is wrong whatever else the task will be given.

        :param given: arguments of a mapped task, which may not be all of them, and others for Airflow.
        """
        raise NotImplementedError

    @classmethod
    def stored_of(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG003  the subclasses' need it
        """
        Return template fields that a mapped task has in the stored DAG, though they are no arguments.

        :param given: its arguments, but for those that are expanded.
        """
        return {}

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Refuse a task when its DAG is parsed; one that is mapped is made when it runs, and `execute` refuses it."""
        try:
            yield
        except ResponsesError as error:
            if self._given is None:
                raise error.add_place("Task", self.task_id) from None
            self._refused = error

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Render a template, however deep; return data as it is."""
        if self._is_data(content):
            return content
        if isinstance(content, str):
            return self._render_text(content, context, jinja_env or self.get_template_env(), seen_oids)
        if is_upstream(content):  # without `seen_oids`: Airflow leaves out what stands in an `expand_kwargs([{...}])`
            return super().render_template(content, context, jinja_env, set())
        if isinstance(content, (Mapping, list, tuple)) and any(
            content is getattr(self, name, None) for name in self.data_fields
        ):
            return _resolved(content, context)
        if hasattr(content, "template_fields"):  # these are rendered in place, and may be rendered again
            content = copy.copy(content)
        return super().render_template(content, context, jinja_env, seen_oids)

    def _is_data(self, value: Any) -> bool:
        """Whether a mapped task has got the value from another task."""
        if self._data is None:
            self._data = {id(found): found for found in _data_of(self)}
        return id(value) in self._data

    def _render_text(
        self, text: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int] | None
    ) -> Any:
        from jinja2.nativetypes import NativeEnvironment

        is_object = any(text is getattr(self, name, None) for name in self.object_fields)
        text = unwrap_enum(text)
        if jinja_env.finalize is None:  # else the DAG's author has chosen what becomes of expressions
            jinja_env = jinja_env.overlay(finalize=unwrap_enum)
        if is_object or not isinstance(jinja_env, NativeEnvironment):
            return super().render_template(text, context, jinja_env, seen_oids)
        is_file = text.endswith(tuple(self.template_ext))
        return _render_natively(jinja_env.get_template(text) if is_file else jinja_env.from_string(text), context)


def renderable(value: Any) -> Any:
    """Return options as a dict: templates are rendered in dicts but not in dataclasses."""
    return RequestOptions.to_dict(value) if isinstance(value, RequestOptions) else value


def _render_natively(template: jinja2.Template, context: Context) -> Any:
    """Return the object that a template is of one expression for, else its text, which is not read as Python."""
    import jinja2

    variables: Any = copy.copy(context)  # and not a dict: Airflow finds out what is asked for only then
    variables.update((name, value) for name, value in template.globals.items() if name not in variables)
    env = template.environment
    nodes: list[Any] = list(
        template.root_render_func(env.context_class(env, variables, template.name, template.blocks))
    )
    if len(nodes) == 1 and not isinstance(nodes[0], (str, jinja2.Undefined)):
        return nodes[0]
    return "".join(map(str, nodes))


def _resolved(value: Any, context: Context) -> Any:
    """Fill in what comes from other tasks, however deep, and render nothing."""
    if not comes_from_upstream(value):
        return value
    if isinstance(value, Mapping):
        return {name: _resolved(item, context) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(item, context) for item in value]
    return value.resolve(context)


def _data_of(task: Any) -> Iterator[Any]:
    """Return the values that a mapped task has got from other tasks."""
    if task._given is None:
        return
    dag = task.get_dag()
    mapped = dag.task_dict.get(task.task_id) if dag is not None else None
    wrote = mapped.partial_kwargs if mapped is not None else {}
    expanded = mapped._get_specified_expand_input().value if mapped is not None else ()
    for name, value in task._given.items():
        if name == "op_kwargs":  # of a decorated task, the arguments of its function are expanded
            own = wrote.get("op_kwargs") or {}
            yield from (item for key, item in value.items() if not _is_authors(key, item, own, expanded))
        elif not _is_authors(name, value, wrote, expanded):
            yield value
            if name in task.template_fields:
                yield getattr(task, name)  # it may have been copied


def _is_authors(name: str, value: Any, wrote: Mapping[str, Any], expanded: Any) -> bool:
    """
    Whether the DAG's author wrote a value.

    :param wrote: what stands in ``partial``.
    :param expanded: what stands in ``expand``, a dict, or in ``expand_kwargs``, a list.
    """
    if name in wrote and wrote[name] is value:
        return True
    if isinstance(expanded, Mapping):
        return name in expanded and not is_upstream(expanded[name])
    if is_upstream(expanded):
        return False
    return any(isinstance(item, Mapping) and name in item and item[name] is value for item in expanded)
