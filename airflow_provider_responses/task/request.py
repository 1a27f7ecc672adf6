"""One request as a task: fields → the request as it is sent, response → the value for XCom. No I/O and no Airflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
    ResponsesError,
)
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.idempotency import with_idempotency_key
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.texts import plain, storable
from airflow_provider_responses.validation import type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.models.request import ResponsesRequest

CACHE_TTL: Final = 3600  # seconds that a response is cached for a retry, unless the task says otherwise
LONGEST_CACHE_TTL: Final = 86_400


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """
    What a task asks for.

    :param fields: the request's fields, rendered.
    :param output_retries: how often an answer that is not as typed is asked for again, within one try of the task.
    :param stream: whether the answer is streamed to whoever waits for it.
    :param cache: whether a retry may get the answer kept by OpenRouter.
    :param cache_ttl: seconds that OpenRouter keeps it.
    :param output_format: the ``text.format`` that stands for the ``output_type``, whose class may not be at hand.
    :param idempotency key: see :func:`make_stamp`; None for a request outside a task.
    """

    fields: Mapping[str, Any]
    output_type: type[BaseModel] | None = None
    output_format: Mapping[str, Any] | None = None
    output_retries: int = 1
    result: Literal["text", "response"] = "text"
    on_invalid_output: Literal["fail", "return"] = "fail"
    cache: bool = True
    cache_ttl: int = CACHE_TTL
    stream: bool = True
    idempotency_key: str | None = None

    def prepare(self, config: ClientConfig, options: RequestOptions) -> tuple[ResponsesRequest, RequestOptions]:
        """
        Give the request and the options exactly as they are sent; every try gives the same bytes.

        :raises RequestValidationError: naming the field.
        """
        # Here, and not above: DAG files import this module, and building the models takes its time.
        from airflow_provider_responses.client.preparation import prepare

        config = config.for_call(options)
        fields = dict(self.fields)
        if (output_format := self.format()) is not None:
            fields["text"] = self._typed_text(fields.get("text"), output_format)
        request = prepare(fields, config)
        if config.is_openrouter and self.idempotency_key:
            request = with_idempotency_key(request, self.idempotency_key)
        if config.is_openrouter and self.cache and not _asks_for_no_trace(request):
            caching = {"X-OpenRouter-Cache": "true", "X-OpenRouter-Cache-TTL": str(self.cache_ttl)}
            options = options.with_headers(caching, but_not=config.extra_headers)
        return (request.replace(stream=True) if self.stream else request), options

    def format(self) -> Mapping[str, Any] | None:
        """Give the ``text.format`` that asks for an ``output_type``."""
        if self.output_type is None or self.output_format is not None:
            return self.output_format
        from airflow_provider_responses.models.output import json_schema_format

        return json_schema_format(self.output_type)

    @property
    def lacks_output_type(self) -> bool:
        """Whether the answer is asked for as a type whose class is not at hand."""
        return self.output_type is None and self.output_format is not None

    def accepts(self, error: ResponsesError) -> bool:
        """Whether the task takes the answer that came with an error."""
        return (
            self.on_invalid_output == "return"
            and isinstance(error, (IncompleteResponseError, RefusalError))
            and error.response is not None
        )

    def read(self, response: Response) -> Outcome:
        """
        Return the outcome of a response that the task takes; its value is plain JSON types.

        :raises OutputValidationError: with the response, if it does not match ``output_type``.
        """
        from airflow_provider_responses.models.output import read_output

        parsed, invalid = None, None
        if self.output_type is not None:
            try:
                whole = response.status == "completed" and not response.maybe_truncated
                parsed = read_output(self.output_type, response.output_texts, repair=whole)
            except OutputValidationError as error:
                if self.on_invalid_output != "return":
                    error.response = response
                    error.generation_id = response.generation_id
                    raise
                invalid = error
        if self.result == "response":
            value: Any = response.raw
        else:
            value = parsed.value if parsed is not None else response.output_text or response.refusal or ""
        repaired = parsed is not None and parsed.repaired
        return Outcome(
            response=response,
            value=storable(value),
            accepted=invalid,
            invalid=invalid is not None,
            repaired=repaired,
        )

    @staticmethod
    def _typed_text(text: Any, output_format: Mapping[str, Any]) -> dict[str, Any]:
        given = text if isinstance(text, Mapping) else {}
        if "format" in given:
            raise RequestValidationError(
                "text.format: given twice, by `output_type` and by `request`; drop one", fields=("text.format",)
            )
        return {**given, "format": dict(output_format)}


def merge_fields(arguments: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Put the fields given as arguments (``input``, ``model``, ``instructions``) and those of ``request`` together.

    :raises RequestValidationError: for a field given in both, and for ``stream``, which is the task's to say.
    """
    if twice := [name for name in arguments if name in request]:
        raise RequestValidationError(
            f"{twice[0]}: given twice, as an argument and inside `request`; drop one", fields=(twice[0],)
        )
    if "stream" in request:
        raise RequestValidationError(
            "stream: goes beside `request` (stream=True or False), not inside it", fields=("stream",)
        )
    return dict(plain({**arguments, **request}))


def returned_fields(returned: Any) -> Mapping[str, Any]:
    """
    Return the request's fields that a user's function has returned: an input, or a whole request.

    :raises RequestValidationError: if it is neither.
    """
    if isinstance(returned, Mapping):
        return returned
    if isinstance(returned, str):
        return {"input": returned}
    if isinstance(returned, Sequence) and not isinstance(returned, (bytes, bytearray)):
        return {"input": list(returned)}
    raise RequestValidationError(
        f"the function must return the input (a str or a list of items) or a whole request (a dict), "
        f"got {type_name(returned)}",
        fields=("input",),
    )


def caches(options: RequestOptions) -> bool:
    """Whether OpenRouter keeps the answer of a call, so that the same request gets it for nothing."""
    return any(
        name.lower() == "x-openrouter-cache" and text.lower() == "true"
        for name, text in (options.headers or {}).items()
    )


def _asks_for_no_trace(request: ResponsesRequest) -> bool:
    provider = request.provider or {}
    return bool(provider.get("zdr")) or provider.get("data_collection") == "deny"
