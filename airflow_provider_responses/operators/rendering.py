"""Which values are rendered: text that the DAG's author wrote is a template, text from data never is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.operators import prompt_files
from airflow_provider_responses.operators.mapping import check_on_expand
from airflow_provider_responses.task.arguments import comes_from_upstream, is_upstream
from airflow_provider_responses.task.texts import unwrap_enum

if TYPE_CHECKING:
    import jinja2
    from airflow.providers.common.compat.sdk import Context


class RenderingOperator(BaseOperator):
    """
    An operator that renders text of the DAG's author, and leaves data unchanged.

    Airflow alone also renders values that ``expand_kwargs`` takes from another task; and with
    ``render_template_as_native_obj`` it reads text as Python: ``"3.10"`` becomes 3.1.
    """

    # Fields whose lists and dicts are data and are not rendered. A text as their whole value is a template.
    data_fields: ClassVar[frozenset[str]] = frozenset()
    # Fields whose template may render an object: "{'temperature': {{ params.t }}}".
    object_fields: ClassVar[frozenset[str]] = frozenset({"request", "options"})
    # Fields that may name a prompt file. Other texts that end in `template_ext` are texts, other than in Airflow.
    file_fields: ClassVar[frozenset[str]] = frozenset({"input", "instructions"})
    template_ext: Sequence[str] = prompt_files.EXTENSIONS

    _mapped_arguments: Mapping[str, Any] | None = None  # the constructor's, of a mapped task
    _arguments_error: ResponsesError | None = None  # of a mapped task; raised when it is executed
    _mapped_data: dict[int, Any] | None = None  # values of a mapped task that come from other tasks, by their id()

    def __new__(cls, *_: Any, **kwargs: Any) -> Any:
        task = super().__new__(cls)
        if kwargs.get("_airflow_from_mapped"):
            # A copy: Airflow adds defaults to the arguments of a decorated function.
            vars(task)["_mapped_arguments"] = {**kwargs, "op_kwargs": dict(kwargs.get("op_kwargs") or {})}
        return task

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Return a mapped task before its expansion, by which it is checked."""
        return check_on_expand(super().partial(**kwargs))

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        """
        Refuse wrong arguments of a mapped task when its DAG is parsed.

        :param arguments: those that the DAG's author wrote: not necessarily all, and some may be Airflow's own.
        :raises ResponsesError: naming the argument.
        """
        raise NotImplementedError

    @classmethod
    def computed_template_fields(cls, arguments: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG003  for subclasses
        """
        Return the template fields of a mapped task in the stored DAG that are no arguments.

        :param arguments: its arguments, without the expanded ones.
        """
        return {}

    @contextmanager
    def _checking_arguments(self) -> Iterator[None]:
        """Raise errors in arguments when the DAG is parsed; keep those of a mapped task, which is made when it runs."""
        try:
            yield
        except ResponsesError as error:
            if self._mapped_arguments is None:
                raise error.add_place("Task", self.task_id) from None
            self._arguments_error = error

    def resolve_template_files(self) -> None:
        """
        Replace the names of prompt files by their texts. Airflow calls it when the DAG is parsed.

        :raises RequestValidationError: if a file does not exist, or cannot be read.
        """
        for name in self.file_fields:
            self.read_prompt_file(name)

    def read_prompt_file(self, field: str) -> None:
        """
        Replace the name of a prompt file by its text. A name that comes from another task is a text.

        :param field: the argument that may name one.
        :raises RequestValidationError: if the file does not exist, or cannot be read.
        """
        value = getattr(self, field, None)
        if not prompt_files.is_file_name(value, self.template_ext) or self._is_data(value):
            return
        try:
            setattr(self, field, prompt_files.read_prompt_file(value, field, self.get_template_env()))
        except ResponsesError as error:
            raise error.add_place("Task", self.task_id) from None

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """Return a value with its templates rendered, however deep, and its data unchanged."""
        if self._is_data(content):
            return content
        if isinstance(content, str):
            return self._render_text(content, context, jinja_env or self.get_template_env(), seen_oids)
        if is_upstream(content):  # without `seen_oids`, which would skip the dicts of an `expand_kwargs([{...}])`
            return super().render_template(content, context, jinja_env, set())
        if isinstance(content, (Mapping, list, tuple)) and any(
            content is getattr(self, name, None) for name in self.data_fields
        ):
            return _resolve(content, context)
        if hasattr(content, "template_fields"):  # Airflow renders it in place, and other tasks may share it
            content = copy.copy(content)
        return super().render_template(content, context, jinja_env, seen_oids)

    def _is_data(self, value: Any) -> bool:
        """Whether the value of a mapped task comes from another task."""
        if self._mapped_data is None:
            self._mapped_data = {id(found): found for found in _find_data(self)}
        return id(value) in self._mapped_data

    def _render_text(
        self, text: str, context: Context, jinja_env: jinja2.Environment, seen_oids: set[int] | None
    ) -> Any:
        is_object = any(text is getattr(self, name, None) for name in self.object_fields)
        for name in self.file_fields:
            if text is getattr(self, name, None):  # of a mapped task, which is made when it runs
                self.read_prompt_file(name)
                text = getattr(self, name)
        text = unwrap_enum(text)
        if jinja_env.finalize is None:  # else the DAG's author has set one
            jinja_env = jinja_env.overlay(finalize=unwrap_enum)
        if is_object:
            return super().render_template(text, context, jinja_env, seen_oids)
        # Not by Airflow's method, which takes a text that ends in `template_ext` for a file's name.
        return _render(jinja_env.from_string(text), context)


def options_to_dict(value: Any) -> Any:
    """Return ``RequestOptions`` as a dict, in which Airflow renders templates; other values unchanged."""
    return RequestOptions.to_dict(value) if isinstance(value, RequestOptions) else value


def _render(template: jinja2.Template, context: Context) -> Any:
    """
    Return the text of a template, which is not read as Python.

    Of one that is a single expression, in a native environment, the object.
    """
    import jinja2

    variables: Any = copy.copy(context)  # not a dict, which would compute all of the context's lazy values
    variables.update((name, value) for name, value in template.globals.items() if name not in variables)
    env = template.environment
    nodes: list[Any] = list(
        template.root_render_func(env.context_class(env, variables, template.name, template.blocks))
    )
    if len(nodes) == 1 and not isinstance(nodes[0], (str, jinja2.Undefined)):
        return nodes[0]
    return "".join(map(str, nodes))


def _resolve(value: Any, context: Context) -> Any:
    """Return a value with the outputs of other tasks in it, however deep. Nothing is rendered."""
    if not comes_from_upstream(value):
        return value
    if isinstance(value, Mapping):
        return {name: _resolve(item, context) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolve(item, context) for item in value]
    return value.resolve(context)


def _find_data(task: Any) -> Iterator[Any]:
    """Yield the values of a mapped task that come from other tasks."""
    if task._mapped_arguments is None:
        return
    dag = task.get_dag()
    mapped = dag.task_dict.get(task.task_id) if dag is not None else None
    partial = mapped.partial_kwargs if mapped is not None else {}
    expanded = mapped._get_specified_expand_input().value if mapped is not None else ()
    for name, value in task._mapped_arguments.items():
        if name == "op_kwargs":  # of a decorated task, the arguments of its function are expanded
            own = partial.get("op_kwargs") or {}
            yield from (item for key, item in value.items() if not _is_authors(key, item, own, expanded))
        elif not _is_authors(name, value, partial, expanded):
            yield value
            if name in task.template_fields:
                yield getattr(task, name)  # it may be a copy


def _is_authors(name: str, value: Any, partial: Mapping[str, Any], expanded: Any) -> bool:
    """
    Whether the DAG's author wrote a value.

    :param partial: the arguments of ``partial``.
    :param expanded: the arguments of ``expand``, a dict, or of ``expand_kwargs``, a list.
    """
    if name in partial and partial[name] is value:
        return True
    if isinstance(expanded, Mapping):
        return name in expanded and not is_upstream(expanded[name])
    if is_upstream(expanded):
        return False
    return any(isinstance(item, Mapping) and name in item and item[name] is value for item in expanded)
