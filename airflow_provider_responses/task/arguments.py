"""
The arguments of a task: checked when its DAG is parsed, checked again when it runs, and turned into its request.

No I/O and no Airflow: operators use it, and so does the trigger that starts a task without a worker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, unknown_field
from airflow_provider_responses.task.request import CACHE_TTL, MAX_CACHE_TTL, TaskRequest, merge_fields
from airflow_provider_responses.task.xcom import check_output_keys
from airflow_provider_responses.validation import check_choice, check_number, check_type, never

MAX_OUTPUT_RETRIES: Final = 10
RESULTS: Final = ("text", "response", "conversation")


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of an operator that describe one request; see ``BaseResponsesOperator``."""

    input: Any = None
    model: Any = None
    instructions: Any = None
    request: Any = None
    output_type: Any = None
    output_retries: Any = 1
    output_feedback: Any = True
    result: Any = "text"
    on_invalid_output: Any = "fail"
    cache: Any = True
    cache_ttl: Any = CACHE_TTL
    stream: Any = None
    options: Any = None
    conn_id: Any = "responses_default"

    def check(self, *, rendered: bool = False, results: Sequence[str] = RESULTS) -> None:
        """
        Refuse wrong arguments.

        :param rendered: whether templates are rendered; otherwise values that hold a template, or the output of an
            upstream task, are not checked.
        :param results: the allowed values of ``result``.
        :raises RequestValidationError: naming the argument, the value and the allowed values.
        """
        lazy = never if rendered else is_lazy
        # Native rendering makes a number of text that looks like one.
        texts = (str, bool, int, float) if rendered else (str,)
        check = partial(check_type, type_only=True, optional=True, lazy=lazy)
        check("input", self.input, (*texts, Sequence), expected="str or list")
        check("model", self.model, texts, expected="str")
        check("instructions", self.instructions, texts, expected="str")
        check("request", self.request, Mapping)
        check("conn_id", self.conn_id, str)
        check_choice("result", self.result, results, lazy=lazy)
        check_choice("on_invalid_output", self.on_invalid_output, ("fail", "return"), lazy=lazy)
        check_choice("output_feedback", read_boolean(self.output_feedback), (True, False), lazy=lazy)
        check_choice("cache", read_boolean(self.cache), (True, False), lazy=lazy)
        check_choice("stream", read_boolean(self.stream), (True, False, None), lazy=lazy)
        self._check_cache_ttl(lazy=lazy)
        self._check_output_retries(lazy=lazy)
        _check_output_type(self.output_type)
        if isinstance(self.request, Mapping):
            _check_names(self.request)
            self.fields()
        if isinstance(self.options, Mapping):
            RequestOptions.parse({name: value for name, value in self.options.items() if not lazy(value)})
        else:
            check("options", self.options, Mapping)

    def _check_cache_ttl(self, *, lazy: Callable[[Any], bool] = never) -> Any:
        return check_number(
            "cache_ttl", self.cache_ttl, at_least=1, at_most=MAX_CACHE_TTL, whole=True, convert=True, lazy=lazy
        )

    def _check_output_retries(self, *, lazy: Callable[[Any], bool] = never) -> Any:
        most = MAX_OUTPUT_RETRIES
        return check_number(
            "output_retries", self.output_retries, at_least=0, at_most=most, whole=True, convert=True, lazy=lazy
        )

    def fields(self) -> dict[str, Any]:
        """Return the request's fields."""
        arguments = {"input": self.input, "model": self.model, "instructions": self.instructions}
        given = {name: _as_written(value) for name, value in arguments.items() if value is not None}
        request = dict(self.request or {})
        for name in {"metadata", "user", "session_id"} & request.keys():
            request[name] = _as_text(request[name])
        return merge_fields(given, request)

    def to_task_request(self, *, idempotency_key: str | None, stream: bool) -> TaskRequest:
        """
        Return the task's request.

        :param stream: whether the response is streamed if the argument ``stream`` is None.
        """
        chosen = read_boolean(self.stream)
        return TaskRequest(
            fields=self.fields(),
            output_type=self.output_type,
            output_retries=self._check_output_retries(),
            output_feedback=read_boolean(self.output_feedback) is not False,
            result=self.result,
            on_invalid_output=self.on_invalid_output,
            cache=read_boolean(self.cache) is not False,
            cache_ttl=self._check_cache_ttl(),
            stream=stream if chosen is None else chosen,
            idempotency_key=idempotency_key,
        )


TEMPLATE_FIELDS: Final = tuple(f.name for f in fields(Arguments) if f.name != "output_type")


def is_lazy(value: Any) -> bool:
    """Whether the value is known only when the task runs: a template, or an upstream task's output."""
    return is_template(value) or comes_from_upstream(value)


def is_template(value: Any) -> bool:
    """Whether the value holds Jinja."""
    return _any_part(value, lambda part: isinstance(part, str) and ("{{" in part or "{%" in part))


def comes_from_upstream(value: Any) -> bool:
    """Whether the value is, or holds, another task's output."""
    return _any_part(value, is_upstream)


def is_upstream(part: Any) -> bool:
    """Whether the value is another task's output. Paths have ``resolve``, too, and those of object stores no class."""
    return hasattr(part, "resolve") and not isinstance(part, (type, os.PathLike)) and not hasattr(part, "protocol")


def _any_part(value: Any, holds: Callable[[Any], bool]) -> bool:
    if isinstance(value, Mapping):
        return any(_any_part(item, holds) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_any_part(item, holds) for item in value)
    return holds(value)


def _as_text(value: Any) -> Any:
    """Return numbers as text: native rendering turns text that looks like a number into one."""
    if isinstance(value, Mapping):
        return {name: _as_text(item) for name, item in value.items()}
    return str(value) if isinstance(value, (int, float)) else value


def _as_written(value: Any) -> Any:
    """Return numbers as text, and sequences as lists: native rendering and upstream tasks change their types."""
    if isinstance(value, (bool, int, float)):
        return str(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def read_boolean(value: Any) -> Any:
    """Return the boolean, or None, that a template has rendered as text; other values unchanged."""
    texts = {"true": True, "false": False, "none": None, "": None}
    return texts.get(value.lower(), value) if isinstance(value, str) else value


def check_multiple_outputs(arguments: Arguments, *, rendered: bool = False) -> None:
    """
    Refuse arguments with which the return value would not have one XCom for each field of ``output_type``.

    :raises RequestValidationError: naming the argument.
    """
    if arguments.output_type is None:
        raise RequestValidationError(
            "multiple_outputs needs an output_type, whose fields become XComs: set one, or remove multiple_outputs",
            fields=("multiple_outputs", "output_type"),
        )
    for name, needed in (("result", "text"), ("on_invalid_output", "fail")):
        given = getattr(arguments, name)
        if given != needed and (rendered or not is_lazy(given)):
            raise RequestValidationError(
                f"multiple_outputs needs {name}={needed!r}, got {given!r}, with which the value may have other fields "
                "than output_type, or none: change one of the two",
                fields=("multiple_outputs", name),
            )
    check_output_keys(arguments.output_type)


def _check_output_type(value: Any) -> None:
    if value is None:
        return
    from airflow_provider_responses.models.output_reader import reader_of

    reader_of(value)  # cached by type


def _check_names(request: Mapping[str, Any]) -> None:
    # Whether the connection's server has the field is checked when the task runs.
    for name in request:
        if name not in REQUEST_FIELDS and name != "extra_body":
            wrong = unknown_field(str(name), REQUEST_FIELDS)
            raise RequestValidationError(f"request.{name} {wrong}. {NEWER}", fields=(str(name),))
