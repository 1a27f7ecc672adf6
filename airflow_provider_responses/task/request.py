"""One request as a task: fields become the bytes to send, a response becomes a value for XCom. No I/O, no Airflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
    ResponsesError,
)
from airflow_provider_responses.task.conversation import with_conversation
from airflow_provider_responses.task.escalation import Escalation, check_tiers_differ, fields_of_tier
from airflow_provider_responses.task.idempotency import with_idempotency_key
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.texts import storable, unwrap_enums
from airflow_provider_responses.validation import type_name

if TYPE_CHECKING:
    from airflow_provider_responses.models.file_content import Content
    from airflow_provider_responses.models.output_reader import OutputReader
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response

CACHE_TTL: Final = 3600  # seconds
MAX_CACHE_TTL: Final = 86_400


@dataclass(frozen=True, kw_only=True)
class TaskRequest:
    """
    The request of a task, and how its response is read.

    :param fields: the request's fields, rendered.
    :param output_type: the type or the JSON Schema that the response must match.
    :param output_format: the ``text.format`` that asks for ``output_type``, whose class this process may not have.
    :param output_retries: how often the request is sent again, within one attempt, if its response does not match
        ``output_type``.
    :param output_feedback: whether the reason is added to a request that is sent again.
    :param result: ``text``, ``response`` for the whole response, or ``conversation`` for it with its input.
    :param on_invalid_output: ``fail``, or ``return`` to accept a response that is truncated, refused or invalid.
    :param cache: whether OpenRouter caches the response, so that a retry gets it at no cost.
    :param cache_ttl: seconds that OpenRouter caches it.
    :param stream: whether the response is streamed.
    :param idempotency_key: see ``task.idempotency``; None for a request outside of a task.
    :param contents: of files, by the text that stands for each in ``fields``.
    :param input_with_paths: the input with the paths of files in place of these texts, for a conversation.
    :param runs_tools: whether the task runs the function calls of the response, which then is not its last one.
    :param escalations: the larger models, for responses that are not accepted.
    :param tier: of the model that gets the request first; see ``task.escalation``.
    :param worker_decides: whether this process leaves it to a worker which responses are not accepted.
    """

    fields: Mapping[str, Any]
    output_type: Any = None
    output_format: Mapping[str, Any] | None = None
    output_retries: int = 1
    output_feedback: bool = True
    result: Literal["text", "response", "conversation"] = "text"
    on_invalid_output: Literal["fail", "return"] = "fail"
    cache: bool = True
    cache_ttl: int = CACHE_TTL
    stream: bool = True
    idempotency_key: str | None = None
    contents: Mapping[str, Content] = field(default_factory=dict, repr=False)
    input_with_paths: Sequence[Any] | None = field(default=None, repr=False)
    runs_tools: bool = False
    escalations: tuple[Escalation, ...] = ()
    tier: int = 0
    worker_decides: bool = False

    def prepare(self, config: ClientConfig, options: RequestOptions) -> tuple[ResponsesRequest, RequestOptions]:
        """
        Return the request of ``tier`` and the options as they are sent. Every attempt sends the same bytes.

        :raises RequestValidationError: naming the field.
        """
        if not self.tier:
            return self._prepare(self.fields, config, options)
        try:
            return self._prepare(fields_of_tier(self.escalations, self.tier, self.fields), config, options)
        except RequestValidationError as error:
            raise error.about(f"escalate[{self.tier - 1}]") from None

    def prepare_larger(
        self, config: ClientConfig, options: RequestOptions
    ) -> dict[int, tuple[ResponsesRequest, RequestOptions]]:
        """
        Return the requests and the options of the tiers after ``tier``, as they would be sent, by tier.

        :raises RequestValidationError: naming the escalation and the field.
        """
        if self.tier >= len(self.escalations):
            return {}
        check_tiers_differ(self.escalations, {**self.fields, "model": self.fields.get("model") or config.default_model})
        return {
            tier: self._prepare_checked(tier, config, options)
            for tier in range(self.tier + 1, len(self.escalations) + 1)
        }

    def _prepare_checked(
        self, tier: int, config: ClientConfig, options: RequestOptions
    ) -> tuple[ResponsesRequest, RequestOptions]:
        """Return the request and the options of a later tier, whose fields have a JSON form."""
        request, options = replace(self, tier=tier).prepare(config, options)
        try:
            # All tiers have the same input, which may be large, and which the first send serializes.
            request.model_copy(update={"input": ""}).to_bytes()
        except RequestValidationError as error:
            raise error.about(f"escalate[{tier - 1}]") from None
        return request, options

    def _prepare(
        self, given: Mapping[str, Any], config: ClientConfig, options: RequestOptions
    ) -> tuple[ResponsesRequest, RequestOptions]:
        # Imported here: DAG files import this module, and building the models takes time.
        from airflow_provider_responses.client.preparation import prepare

        config = config.for_call(options)
        fields = dict(given)
        if (output_format := self.text_format()) is not None:
            fields["text"] = _with_format(fields.get("text"), output_format)
        request = prepare(fields, config).with_contents(self.contents)
        if config.is_openrouter and self.idempotency_key:
            request = with_idempotency_key(request, self.idempotency_key)
        if config.is_openrouter and self.cache and not _forbids_storing(request):
            caching = {"X-OpenRouter-Cache": "true", "X-OpenRouter-Cache-TTL": str(self.cache_ttl)}
            options = options.with_headers(caching, but_not=config.extra_headers)
        return (request.replace(stream=True) if self.stream else request), options

    def text_format(self) -> Mapping[str, Any] | None:
        """Return the ``text.format`` that asks for ``output_type``, None if there is no ``output_type``."""
        if self.output_type is None or self.output_format is not None:
            return self.output_format
        from airflow_provider_responses.models.output import json_schema_format

        return json_schema_format(self.output_type)

    @cached_property
    def _reader(self) -> OutputReader:
        """The reader of ``output_type``; cached for the rows of a table."""
        from airflow_provider_responses.models.output_reader import reader_of

        return reader_of(self.output_type)

    @property
    def lacks_output_type(self) -> bool:
        """Whether the response must match an ``output_type`` whose class this process does not have."""
        return self.output_type is None and self.output_format is not None

    @property
    def is_read_on_worker(self) -> bool:
        """Whether this process leaves it to a worker to read the response."""
        return self.worker_decides or self.lacks_output_type

    def accepts(self, error: ResponsesError) -> bool:
        """Whether the task accepts the truncated or refused response of an error."""
        return (
            self.on_invalid_output == "return"
            and isinstance(error, (IncompleteResponseError, RefusalError))
            and error.response is not None
        )

    def requests_calls(self, response: Response) -> bool:
        """Whether the task must run function calls of a response before there is a last one."""
        return self.runs_tools and response.status != "incomplete" and bool(response.function_calls)

    def checked_value(self, outcome: Outcome) -> Any:
        """Return what functions of ``escalate`` check: the typed output as plain JSON types, else the text."""
        if self.result == "text" or outcome.response is None:
            return outcome.value
        return replace(self, result="text").read(outcome.response).value

    def read(self, response: Response) -> Outcome:
        """
        Return the outcome of a response; its value is plain JSON types.

        :raises OutputValidationError: if the response does not match ``output_type``, and is not accepted.
        """
        from airflow_provider_responses.models.output import read_output

        if self.requests_calls(response):
            return Outcome(response=response)
        parsed, invalid = None, None
        if self.output_type is not None:
            try:
                is_complete = response.status == "completed" and not response.maybe_truncated
                parsed = read_output(self._reader, response.output_texts, repair=is_complete)
            except OutputValidationError as error:
                if self.on_invalid_output != "return":
                    error.response = response
                    error.generation_id = response.generation_id
                    raise
                invalid = error
        if self.result == "conversation":
            fields = self.fields if self.input_with_paths is None else {**self.fields, "input": self.input_with_paths}
            value: Any = with_conversation(response.raw, fields)
        elif self.result == "response":
            value = response.raw
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


def merge_fields(arguments: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the fields given as arguments (``input``, ``model``, ``instructions``) and those of ``request`` in one dict.

    :raises RequestValidationError: for a field given in both, and for ``stream``, which is an argument of the operator.
    """
    if twice := [name for name in arguments if name in request]:
        raise RequestValidationError(
            f"{twice[0]} is given twice, as an argument and in `request`: remove one", fields=(twice[0],)
        )
    if "stream" in request:
        raise RequestValidationError(
            "stream must be an argument of the operator (stream=True or False), not a field of `request`",
            fields=("stream",),
        )
    return dict(unwrap_enums({**arguments, **request}))


def returned_fields(returned: Any) -> Mapping[str, Any]:
    """
    Return the fields of the request that a user's function has returned, as an input or as a whole request.

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


def uses_cache(options: RequestOptions) -> bool:
    """Whether OpenRouter caches the response of a call, so that the same request gets it at no cost."""
    return any(
        name.lower() == "x-openrouter-cache" and text.lower() == "true"
        for name, text in (options.headers or {}).items()
    )


def _forbids_storing(request: ResponsesRequest) -> bool:
    provider = request.provider or {}
    return bool(provider.get("zdr")) or provider.get("data_collection") == "deny"


def _with_format(text: Any, output_format: Mapping[str, Any]) -> dict[str, Any]:
    given = text if isinstance(text, Mapping) else {}
    if "format" in given:
        raise RequestValidationError(
            "text.format is given twice, by `output_type` and in `request`: remove one", fields=("text.format",)
        )
    return {**given, "format": dict(output_format)}
