"""The part that both operators share: the arguments of a request, their checks, and how a task fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.content.parts import MAX_FILE_BYTES
from airflow_provider_responses.operators.files import authors_paths, check_file_arguments
from airflow_provider_responses.operators.rendering import RenderingOperator, options_to_dict
from airflow_provider_responses.task.arguments import Arguments
from airflow_provider_responses.task.request import CACHE_TTL

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.exceptions import ResponsesError

__all__ = ["BaseResponsesOperator"]

NO_RETRY: Final = "No retry: it would fail in the same way"


class BaseResponsesOperator(RenderingOperator):
    """
    An operator that sends requests.

    :param model: the model's name; by default the connection's.
    :param instructions: the system prompt.
    :param request: any other field of ``ResponsesRequest``.
    :param output_type: the type that the response must match: a pydantic model, ``list[Model]``, a union, an enum, a
        ``Literal``, another type that pydantic validates, or a JSON Schema as a dict.
    :param output_retries: how often a request is sent again, within one attempt, whose response does not match
        ``output_type``; 0 to 10.
    :param output_feedback: whether the reason is added to a request that is sent again.
    :param result: ``text``, ``response`` for the whole response, or ``conversation`` for the response with its input,
        which ``history`` of another task needs; it is set on a task whose output is a ``history``.
    :param on_invalid_output: ``fail``, or ``return`` to accept a response that is truncated, refused or does not match
        ``output_type``.
    :param cache: whether OpenRouter caches responses, so that a retry gets them at no cost.
    :param cache_ttl: seconds that it caches them; 1 to 86400.
    :param options: the ``RequestOptions`` of every send, or a dict of them.
    :param conn_id: a connection of type ``responses``.
    :param files_root: the folder, as a path, under which all files of requests lie whose paths come from data.
    :param max_file_bytes: bytes that the files of one request may have together.
    """

    # Arguments of a request that the operator does not have, or that mean something else in it.
    excluded_arguments: ClassVar[frozenset[str]] = frozenset()
    results: ClassVar[Sequence[str]] = ("text", "response")  # the allowed values of `result`
    retry_note: ClassVar[str] = "Airflow's retries apply"

    # Many arguments: DAG authors set each by its name, as in all of Airflow's operators.
    def __init__(
        self,
        *,
        model: str | None = None,
        instructions: str | None = None,
        request: Mapping[str, Any] | None = None,
        output_type: Any = None,
        output_retries: int = 1,
        output_feedback: bool = True,
        result: str = "text",
        on_invalid_output: str = "fail",
        cache: bool = True,
        cache_ttl: int = CACHE_TTL,
        options: RequestOptions | Mapping[str, Any] | None = None,
        conn_id: str = "responses_default",
        files_root: Any = None,
        max_file_bytes: int = MAX_FILE_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if AIRFLOW_V_3_3_PLUS and self.retry_policy is None:
            from airflow_provider_responses.retry_policy import ResponsesRetryPolicy

            self.retry_policy = ResponsesRetryPolicy()
        self.model = model
        self.instructions = instructions
        self.request = request
        self.output_type = output_type
        self.output_retries = output_retries
        self.output_feedback = output_feedback
        self.result = result
        self.on_invalid_output = on_invalid_output
        self.cache = cache
        self.cache_ttl = cache_ttl
        self.options: Any = options_to_dict(options)
        self.conn_id = conn_id
        self.files_root = files_root
        self.max_file_bytes = max_file_bytes
        self._authors_paths: frozenset[str] = frozenset()

    @classmethod
    def check_mapped(cls, arguments: Mapping[str, Any]) -> None:
        cls._arguments_from(arguments).check(results=cls.results)
        check_file_arguments(arguments.get("files_root"), arguments.get("max_file_bytes", MAX_FILE_BYTES))

    @classmethod
    def _arguments_from(cls, arguments: Mapping[str, Any]) -> Arguments:
        """Return those of a mapped task's arguments that describe the request."""
        names = (f.name for f in fields(Arguments) if f.name in arguments and f.name not in cls.excluded_arguments)
        return Arguments(**{name: options_to_dict(arguments[name]) for name in names})

    def _arguments(self) -> Arguments:
        names = (f.name for f in fields(Arguments) if f.name not in self.excluded_arguments)
        return Arguments(**{name: getattr(self, name) for name in names})

    def _check(self, *, rendered: bool = False) -> None:
        """
        Refuse wrong arguments.

        :param rendered: whether templates are rendered; otherwise values with a template, or from an upstream task, are
            not checked.
        """
        if self._arguments_error is not None:
            raise self._arguments_error
        self._arguments().check(rendered=rendered, results=self.results)
        check_file_arguments(self.files_root, self.max_file_bytes)
        if not rendered:
            self._authors_paths = authors_paths(self)

    def _fail(self, error: ResponsesError) -> NoReturn:
        """End the attempt: Airflow retries it if the error is retryable, else the task fails at once."""
        # One line before the traceback, which Airflow's UI does not wrap.
        cause = error.headline if error.headline.endswith(("?", "!")) else f"{error.headline}."
        self.log.error("%s %s", cause, self.retry_note if error.retryable else NO_RETRY)
        error.add_place("Task", self.task_id)
        if error.retryable:
            error.add_note(self.retry_note)
            raise error
        raise AirflowFailException(str(error)) from error
