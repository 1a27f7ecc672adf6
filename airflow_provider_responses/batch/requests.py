"""The requests of rows as a batch takes them: their bodies, their models, and why some cannot be in a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_provider_responses.client.base_client import batch_protocol_of
from airflow_provider_responses.client.batch_body import HEAD_ROOM, ONE_FORMAT
from airflow_provider_responses.client.batch_rules import check_for_batch, has_web_search
from airflow_provider_responses.enrich.request_queue import model_of
from airflow_provider_responses.enrich.row_requests import INPUT, IndexedRequest
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models.batch import PreparedBatchRequest
from airflow_provider_responses.task.feedback import with_feedback

if TYPE_CHECKING:
    from airflow_provider_responses.batch.journal import Intent
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.row_requests import RowRequests

MAX_REMEMBERED: Final = 1000  # requests without their input, whose check is remembered
_SAMPLE_ID: Final = "0" * 45  # as long as each `custom_id` of an enrichment


class Group(NamedTuple):
    """The properties that all requests of one batch share."""

    model: str
    format: str = ""  # JSON, for models whose batches have one format


class BatchableRequests:
    """
    See the module.

    :param job: whose rows they are.
    :param requests: of the rows.
    """

    def __init__(self, job: Job, requests: RowRequests) -> None:
        self._job, self._requests = job, requests
        self._config = job.config.for_call(job.options)
        self._body_class = batch_protocol_of(self._config).body
        # Texts that are added to requests by fingerprint, since their last responses were invalid.
        self.feedback: Mapping[str, Sequence[str]] = {}
        self._problems: dict[str, str | None] = {}  # by the JSON of a request without its input

    def index(self, row_fields: Mapping[str, Any]) -> IndexedRequest:
        """
        Return the request of a row as it is indexed.

        :raises RequestValidationError: if it cannot be sent in a batch.
        """
        indexed = self._requests.index(row_fields)
        if (problem := self.problem_of(indexed.fields, indexed.size)) is not None:
            raise RequestValidationError(f"{problem}. mode='auto' sends such rows live")
        return indexed

    def problem_of(self, fields: str, size: int) -> str | None:
        """
        Return why a request cannot be in a batch, None if it can.

        :param fields: its JSON.
        :param size: bytes of its body.
        """
        most = self._job.limits.max_batch_bytes - HEAD_ROOM
        if size > most:
            return f"the request has {size} bytes, and a batch has room for {most} (limits.max_batch_bytes)"
        if self._requests.has_files(fields):
            return "input must hold public http or https URLs in a batch, got files that the worker reads and sends"
        if not self._config.is_openrouter:
            return None
        others: dict[str, Any] = json.loads(fields)
        text = others.get(INPUT)
        if not isinstance(text, str):
            return self._check(fields)
        others[INPUT] = "text"
        shape = json.dumps(others)
        if shape not in self._problems:
            if len(self._problems) >= MAX_REMEMBERED:
                self._problems.clear()
            self._problems[shape] = self._check(shape)
        return self._problems[shape]

    def _check(self, fields: str) -> str | None:
        if has_web_search(self.model_of(fields)):
            return "model must not end in ':online' in a batch, which has no web search"
        try:
            check_for_batch(self._requests.prepare(json.loads(fields))[0])
        except RequestValidationError as error:
            return str(error)
        return None

    def model_of(self, fields: str) -> str:
        """Return the model of a request from its JSON: its own, or the connection's."""
        return model_of(fields) or self._config.default_model or ""

    def group_of(self, fields: str) -> Group:
        """Return the batches that a request can be in."""
        model = self.model_of(fields)
        if not (self._config.is_openrouter and model.startswith(ONE_FORMAT)):
            return Group(model)
        text = json.loads(self._requests.body(fields)).get("text")
        return Group(model, json.dumps((text or {}).get("format"), sort_keys=True))

    def size_of(self, body: bytes) -> int:
        """Return the number of bytes that a request adds to a batch."""
        return self._body_class.size_of(PreparedBatchRequest(_SAMPLE_ID, body, ""))

    def body(self, fields: str, fingerprint: str) -> bytes:
        """Return the body of a request, with its model."""
        if feedback := self.feedback.get(fingerprint):
            return with_feedback(self._requests.prepare(json.loads(fields))[0], feedback).to_bytes()
        return self._requests.body(fields)

    def to_item(self, intent: Intent, fingerprint: str, fields: str) -> PreparedBatchRequest:
        """Return a request as an item of a batch."""
        return PreparedBatchRequest(intent.custom_id(fingerprint), self.body(fields, fingerprint), intent.model)
