"""
Runs batches of apache-airflow-providers-common-ai (``LLMBatchOperator``, ``@task.llm_batch``) on OpenRouter.

That provider finds the adapter by its entry point, for models such as ``openrouter:openai/gpt-4o-mini``. Nothing else
imports this module, which needs that provider.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.providers.common.ai.batch.base import (
    BatchAdapter,
    BatchState,
    ExtractedOutput,
    RawResultItem,
    SubmitResult,
)
from airflow.providers.common.ai.exceptions import (
    LLMBatchInputError,
    LLMBatchJobError,
    LLMBatchLimitExceededError,
    LLMBatchModelMismatchError,
    LLMBatchOrphanLookupError,
)

from airflow_provider_responses.client import ClientConfig, ResponsesClient
from airflow_provider_responses.client.batch_body import BatchBody, BatchHead
from airflow_provider_responses.client.config import DEFAULT_BASE_URL
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError, ResponsesError
from airflow_provider_responses.hooks.responses import in_connection_fields
from airflow_provider_responses.models.batch import RESPONSES_ENDPOINT, Batch, BatchResult
from airflow_provider_responses.models.batch_sizes import MAX_BATCH_BYTES, MAX_BATCH_REQUESTS
from airflow_provider_responses.models.output_schema import sent_schema
from airflow_provider_responses.models.output_text import bare_json, is_json, repaired_json

if TYPE_CHECKING:
    from airflow.providers.common.ai.batch.base import BatchRequest
    from airflow.providers.common.ai.batch.output_schema import OutputSpec

log = logging.getLogger(__name__)

DEFAULT_MAX_TOKENS: Final = 1024  # the operator's own
FINGERPRINT_DIGITS: Final = 16  # of the input, in each custom_id
NO_INDEX: Final = -1  # of a result whose custom_id has none: the operator counts it as out of range
CLOCK_SKEW: Final = timedelta(minutes=5)  # between the clocks of worker and server
SUBMIT_TIME: Final = timedelta(hours=1)  # within which a submit ends: the client's own limit is 10 minutes
STATUSES: Final = frozenset({"completed", "failed", "expired", "cancelled"})
UNUSED: Final = frozenset({"expired", "cancelled"})  # error types of requests that were never sent to a model


# Its methods have the arguments of the base class.
class OpenRouterBatchAdapter(BatchAdapter):  # type: ignore[misc]  # the other provider may not be installed
    """
    Adapter between common.ai's batch operator and OpenRouter's batches.

    :param api_key: the connection's password.
    :param base_url: the connection's host; by default OpenRouter.
    :param client: a client to use instead of one for ``api_key`` and ``base_url``.
    :raises ConfigurationError: naming the connection's field.
    """

    name = "openrouter"
    conn_types = frozenset({"responses", "pydanticai"})
    max_requests = MAX_BATCH_REQUESTS
    max_payload_bytes = MAX_BATCH_BYTES
    allows_per_request_model = False

    def __init__(
        self, *, api_key: str | None = None, base_url: str | None = None, client: ResponsesClient | None = None
    ) -> None:
        self._client: ResponsesClient = client or ResponsesClient(_config(api_key, base_url))
        self._model: str | None = None  # these two are known once the requests are validated
        self._count: int | None = None

    def validate_requests(
        self,
        requests: list[BatchRequest],
        *,
        model: str,
        output_spec: OutputSpec,
        idempotency_key: str,
        **settings: Any,
    ) -> None:
        self._check_limit(len(requests))
        self._model = model = self._one_model(requests, model)
        self._count = len(requests)
        prefix = _prefix(idempotency_key, "0" * FINGERPRINT_DIGITS)
        self.check_custom_id_length(prefix.removesuffix("-"), len(requests))
        index: int | None = None
        try:
            body = BatchBody(BatchHead(**_head(model, settings)), self._client.config)
            body.begin()
            for index, request in enumerate(self._requests(requests, prefix, output_spec, **settings)):  # noqa: B007  # read by the error
                body.add(request)
        except RequestValidationError as error:
            message = str(error)
            if index is not None:
                message = message.replace(f"Request {f'{prefix}{index}'!r} of the batch", f"requests[{index}]")
            if error.fields == ("requests",):
                raise LLMBatchLimitExceededError(f"{message}. {_EXPAND}") from error
            raise LLMBatchInputError(message) from error

    def submit(
        self,
        requests: list[BatchRequest],
        *,
        model: str,
        idempotency_key: str,
        input_fingerprint: str,
        output_spec: OutputSpec,
        **settings: Any,
    ) -> SubmitResult:
        prefix = _prefix(idempotency_key, input_fingerprint)
        batch = self._client.create_batch(
            partial(self._requests, requests, prefix, output_spec, **settings),
            **_head(self._one_model(requests, model), settings),
        )
        return SubmitResult(batch_id=batch.id, provider_input_ref=None)

    def get_batch(self, batch_id: str) -> BatchState:
        batch = self._client.get_batch(batch_id)
        counts = batch.counts
        status = batch.status if batch.status in STATUSES else "in_progress"
        if status == "failed" and counts.completed:
            # The operator would drop the results of a failed batch, which are paid.
            log.warning(
                "batch %s failed after %s of %s requests: %s. Its results are written; the other requests are missing",
                *(batch_id, counts.completed, counts.total, batch.error_message),
            )
            status = "completed"
        return BatchState(status=status, counts=_counts(batch), error_message=batch.error_message)

    def cancel_batch(self, batch_id: str) -> None:
        """
        Refuse: OpenRouter has no cancel.

        :raises LLMBatchJobError: always.
        """
        raise LLMBatchJobError(f"OpenRouter has no cancel for batches: {batch_id} runs on and is billed")

    def iter_results(self, batch_id: str) -> Iterator[RawResultItem]:
        results = self._client.iter_batch_results(batch_id)
        first = next(results, None)  # a call that fails raises here, as the base class requires
        return _items([] if first is None else [first], results)

    def build_output_directive(self, spec: OutputSpec) -> dict[str, Any]:
        """Return ``text.format``: strict where strict modes can express the type, otherwise common.ai's own schema."""
        if not spec.is_structured:
            return {}
        try:
            schema = _strict_schema(spec)
            made = {"type": "json_schema", "name": spec.schema_name, "schema": schema, "strict": True}
        except RequestValidationError as error:
            log.info("output_type is requested without strict mode: %s", error)
            made = {"type": "json_schema", "name": spec.schema_name, "schema": spec.json_schema, "strict": False}
        return {"text": {"format": made}}

    def extract_output(self, raw: RawResultItem, spec: OutputSpec) -> ExtractedOutput:
        if not raw.raw:
            return ExtractedOutput(kind="absent")
        if not spec.is_structured:
            return ExtractedOutput(kind="text", text=raw.raw)
        text = bare_json(raw.raw)
        return ExtractedOutput(kind="json_text", text=text if is_json(text) else repaired_json(raw.raw) or raw.raw)

    def find_orphaned_batch(self, idempotency_key: str, input_fingerprint: str, not_before: str) -> str | None:
        """
        Return the id of the batch whose requests have the key and the fingerprint, None if there is none.

        OpenRouter shows the requests of a batch only after it has finished.

        :raises LLMBatchOrphanLookupError: if a batch that runs has the time, model and number of requests.
        """
        prefix = _prefix(idempotency_key, input_fingerprint)
        unknown = []
        for batch in self._client.list_batches(**_submitted_since(not_before)):
            if batch.endpoint not in (None, RESPONSES_ENDPOINT) or not self._has_count(batch):
                continue
            if not batch.is_finished:
                unknown += [batch.id] if self._has_model(batch) else []
            elif _has_results(batch) and self._first_custom_id(batch).startswith(prefix):
                return batch.id
        if unknown:
            raise LLMBatchOrphanLookupError(
                f"the batch may be {' or '.join(unknown)}: OpenRouter shows the requests of a batch only after it has "
                "finished. Retry the task then"
            )
        return None

    def _requests(
        self,
        requests: Iterable[BatchRequest],
        prefix: str,
        output_spec: OutputSpec,
        *,
        system_prompt: str = "",
        max_tokens: int = DEFAULT_MAX_TOKENS,
        request_params: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> Iterator[dict[str, Any]]:
        """Yield the requests as OpenRouter's batches have them."""
        output_format = self.build_output_directive(output_spec)
        for index, request in enumerate(requests):
            body = {**(request_params or {}), **(request.get("params") or {})}
            body.pop("model", None)  # as with the other adapters, fields that the operator sets take precedence
            body["input"] = request["prompt"]
            body["max_output_tokens"] = request.get("max_tokens") or max_tokens
            if instructions := request.get("system_prompt") or system_prompt:
                body["instructions"] = instructions
            if output_format:
                text = body.get("text")
                body["text"] = {**(text if isinstance(text, Mapping) else {}), **output_format["text"]}
            yield {"custom_id": f"{prefix}{index}", "body": body}

    def _check_limit(self, count: int) -> None:
        if count > self.max_requests:
            raise LLMBatchLimitExceededError(
                f"requests must be at most {self.max_requests} in a batch of OpenRouter, got {count}. {_EXPAND}"
            )

    def _one_model(self, requests: Iterable[BatchRequest], default: str) -> str:
        """Return the model of all requests."""
        models = {
            self.resolve_request_model(request.get("model"), default_bare_model=default, request_index=index): index
            for index, request in enumerate(requests)
        }
        if len(models) > 1:
            raise LLMBatchModelMismatchError(
                f"model must be the same in all requests of a batch of OpenRouter, got {', '.join(sorted(models))}: "
                "use one task for each model"
            )
        return next(iter(models), default)

    def _has_count(self, batch: Batch) -> bool:
        total = batch.counts.total
        return self._count is None or total == self._count or (not total and not batch.is_finished)

    def _has_model(self, batch: Batch) -> bool:
        """Return whether a batch may be for the model; a server may list it with the date of its version."""
        return self._model is None or batch.model is None or batch.model.startswith(self._model.partition(":")[0])

    def _first_custom_id(self, batch: Batch) -> str:
        result = next(self._client.iter_batch_results(batch), None)
        return "" if result is None else result.custom_id


_EXPAND: Final = "Split the requests over mapped tasks with .expand()"


def _config(api_key: str | None, base_url: str | None) -> ClientConfig:
    try:
        return ClientConfig(api_key=api_key or "", base_url=base_url or DEFAULT_BASE_URL, dialect="openrouter")
    except ConfigurationError as error:
        raise ConfigurationError(f"connection: {in_connection_fields(str(error))}") from None


def _head(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a batch before its requests."""
    return {
        "endpoint": RESPONSES_ENDPOINT,
        "model": model,
        "completion_window": settings.get("completion_window") or "24h",
    }


def _prefix(idempotency_key: str, fingerprint: str) -> str:
    """Return the beginning of each ``custom_id``: it names the task and its input, since batches have no metadata."""
    return f"{idempotency_key}-{fingerprint[:FINGERPRINT_DIGITS]}-"


def _submitted_since(not_before: str) -> dict[str, Any]:
    """Return the filters for batches that a submit after ``not_before`` may have created."""
    if not not_before:
        return {}
    began = datetime.fromisoformat(not_before)
    return {"created_after": began - CLOCK_SKEW, "created_before": began + SUBMIT_TIME}


def _has_results(batch: Batch) -> bool:
    """Return whether any request of a finished batch ran. If none did, nothing is paid, and it names no requests."""
    return bool(batch.counts.completed or batch.counts.failed)


def _counts(batch: Batch) -> dict[str, int] | None:
    total, completed, failed = (number or 0 for number in batch.counts)
    if batch.counts.total is None:
        return None
    unused = max(total - completed - failed, 0)
    return {
        "succeeded": completed,
        "errored": failed,
        "expired": unused if batch.status == "expired" else 0,
        "cancelled": unused if batch.status == "cancelled" else 0,
    }


def _strict_schema(spec: OutputSpec) -> dict[str, Any]:
    """
    Return the strict schema of a type.

    :raises RequestValidationError: if it has none, or is no object.
    """
    schema = sent_schema(_object_model(spec), spec.schema_name)
    if schema.get("type") != "object":
        raise RequestValidationError(f"output_type {spec.schema_name} is not an object", fields=("output_type",))
    return schema


def _object_model(spec: OutputSpec) -> Any:
    """Return a pydantic model for the type, whose schema has an object as its root."""
    from pydantic import BaseModel, RootModel, create_model

    if spec.wrapped:
        return create_model("Response", response=(spec.output_type, ...))
    is_model = isinstance(spec.output_type, type) and issubclass(spec.output_type, BaseModel)
    return spec.output_type if is_model else RootModel[spec.output_type]


def _items(*parts: Iterable[BatchResult]) -> Iterator[RawResultItem]:
    for results in parts:
        for result in results:
            yield _item(result)


def _item(result: BatchResult) -> RawResultItem:
    """Return a result as common.ai reads it. A truncated response, or a refusal, is an error."""
    response, error = result.response, result.error
    custom_id, index = _operator_id(result.custom_id)
    usage = None
    if response is not None:
        used = response.usage
        usage = {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens, "cost": used.cost}
    return RawResultItem(
        custom_id=custom_id,
        index=index,
        provider_status="success" if error is None else _failure(error),
        model=response.model if response is not None else None,
        usage=usage,
        finish_reason=(response.incomplete_reason or response.status) if response is not None else None,
        error=None if error is None else _error_row(error, result),
        raw=response.output_text if response is not None and error is None else None,
    )


def _operator_id(custom_id: str) -> tuple[str, int]:
    """Return the ``custom_id`` that the operator's manifest describes, and the index of the request."""
    parts = custom_id.rsplit("-", 2)
    if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()):
        return custom_id, NO_INDEX
    return f"{parts[0]}-{parts[2]}", int(parts[2])


def _failure(error: ResponsesError) -> str:
    kind = (error.error_type or "").removeprefix("batch_")
    return kind if kind in UNUSED else "errored"


def _error_row(error: ResponsesError, result: BatchResult) -> dict[str, Any]:
    """Return the ``error`` of a result's row, with the text that a truncated or refused response has."""
    code = error.code or error.status_code or result.status_code
    text = result.response.output_text if result.response is not None else ""
    return {
        "type": error.error_type or type(error).__name__,
        "message": str(error),
        "provider_code": None if code is None else str(code),
        "stage": "provider",
        **({"output_text": text} if text else {}),
    }
