"""Builds the file of a batch for OpenAI's API: a form whose file has one request in each line. No I/O."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from airflow_provider_responses.client.batch_body import BodyOfBatch, HeadOfBatch
from airflow_provider_responses.client.batch_rules import check_for_any_batch
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.models import canonical
from airflow_provider_responses.models.batch import RESPONSES_ENDPOINT, BatchRequest
from airflow_provider_responses.models.batch_sizes import OPENAI_MAX_BATCH_REQUESTS
from airflow_provider_responses.models.request import ResponsesRequest

FILE_NAME: Final = "batch.jsonl"
# Fields that only OpenRouter's batches have.
NOT_HERE: Final[Mapping[str, str]] = {
    "provider": "for a server other than OpenRouter, which has no choice of providers in batches",
    "callback_url": "for a server other than OpenRouter, which calls no URL: poll get_batch()",
}


@dataclass(frozen=True, kw_only=True)
class OpenAIBatchHead(HeadOfBatch):
    """
    The fields of OpenAI's batch beside its file.

    :param boundary: separates the parts of the form; it occurs in no request.
    """

    boundary: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, reason in NOT_HERE.items():
            if getattr(self, name) is not None:
                raise RequestValidationError(f"{name} must not be set {reason}", fields=(name,))

    def to_bytes(self, file_id: str) -> bytes:
        """
        Return the body of the submit.

        :param file_id: the id of the uploaded file.
        """
        fields = {
            "input_file_id": file_id,
            "endpoint": self.endpoint,
            "completion_window": self.completion_window,
            "metadata": self.metadata,
        }
        return canonical.to_bytes({name: value for name, value in fields.items() if value is not None})


class OpenAIBatchBody(BodyOfBatch):
    """The form of the upload. Only the bytes of its file count."""

    MAX_REQUESTS = OPENAI_MAX_BATCH_REQUESTS
    HEAD_ROOM = 0
    SEPARATOR = b""

    def __init__(self, head: OpenAIBatchHead, *args: Any, **limits: Any) -> None:
        super().__init__(head, *args, **limits)
        self._delimiter = b"--%b" % head.boundary.encode()

    def begin(self) -> bytes:
        """Return the form up to the first byte of the file."""
        purpose = b'%b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n' % self._delimiter
        disposition = b'Content-Disposition: form-data; name="file"; filename="%b"' % FILE_NAME.encode()
        return b"%b%b\r\n%b\r\nContent-Type: application/jsonl\r\n\r\n" % (purpose, self._delimiter, disposition)

    @staticmethod
    def _item(custom_id: str, body: bytes, endpoint: str) -> bytes:
        head = canonical.to_bytes({"custom_id": custom_id, "method": "POST", "url": endpoint})
        return b'%b,"body":%b}\n' % (head[:-1], body)

    def _tail(self) -> bytes:
        return b"\r\n%b--\r\n" % self._delimiter

    def _checked_body(self, item: BatchRequest) -> dict[str, Any]:
        if self._head.endpoint != RESPONSES_ENDPOINT:  # its schema is not known here
            body = self._unchecked_body(item)
        else:
            request = ResponsesRequest.parse(item.request, dialect="open")
            check_for_any_batch(request)
            body = self._prepared_body(request)
        body = {"model": self._head.model, **body}
        self._check_model(body["model"])
        return body
