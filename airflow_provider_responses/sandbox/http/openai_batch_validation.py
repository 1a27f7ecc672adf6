"""The checks of a batch's file, which OpenAI makes after it has accepted the batch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from airflow_provider_responses.sandbox.http.batch_outcomes import request_error
from airflow_provider_responses.sandbox.http.batch_requests import BatchRequest
from airflow_provider_responses.sandbox.http.http_errors import HttpError
from airflow_provider_responses.sandbox.http.request_validation import validated_request
from airflow_provider_responses.sandbox.http.routing import choose_model

LineError = dict[str, Any]
Checked = tuple[list[LineError], list[BatchRequest]]


def read_lines(content: bytes) -> list[Any]:
    """Return the value of each line of a file; ``None`` for one that is not JSON."""
    return [_parse_line(line) for line in content.split(b"\n") if line.strip()]


def find_errors(
    lines: Sequence[Any], endpoint: str, *, max_requests: int
) -> tuple[list[LineError], list[BatchRequest]]:
    """Return the errors of a file's lines, or else the requests; one that is not valid has an error of its own."""
    if not lines:
        return [_error("empty_file", "The file has no requests", None)], []
    if len(lines) > max_requests:
        message = f"The file has {len(lines)} requests: at most {max_requests} are allowed"
        return [_error("too_many_tasks", message, None)], []
    check = _LineCheck(endpoint)
    errors = [error for number, line in enumerate(lines, 1) if (error := check(line, number))]
    return (errors, []) if errors else ([], [_request(line) for line in lines])


class _LineCheck:
    """Returns the error of a line, in view of the lines before."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._custom_ids: set[str] = set()
        self._model: str | None = None

    def __call__(self, line: Any, number: int) -> LineError | None:
        if not isinstance(line, dict):
            return _error("invalid_json_line", "This line is not parseable as valid JSON.", number)
        custom_id, body = line.get("custom_id"), line.get("body")
        if not isinstance(custom_id, str) or not custom_id:
            return _error("missing_required_parameter", "custom_id must be a text", number, "custom_id")
        if custom_id in self._custom_ids:
            message = f"The custom_id {custom_id!r} is duplicated in the file"
            return _error("duplicate_custom_id", message, number, "custom_id")
        self._custom_ids.add(custom_id)
        if line.get("method") != "POST":
            return _error("invalid_method", f"method must be POST, got {line.get('method')!r}", number, "method")
        if line.get("url") != self._endpoint:
            message = f"url must be {self._endpoint!r}, the endpoint of the batch, got {line.get('url')!r}"
            return _error("url_mismatch", message, number, "url")
        if not isinstance(body, dict):
            return _error("missing_required_parameter", "body must be an object", number, "body")
        return self._model_error(body.get("model"), number)

    def _model_error(self, model: Any, number: int) -> LineError | None:
        if not isinstance(model, str) or not model:
            return _error("missing_required_parameter", "body.model must be the name of a model", number, "body.model")
        if choose_model([model], open_names=True) is None:
            return _error("model_not_found", f"The model {model!r} does not exist", number, "body.model")
        self._model = self._model or model
        if model != self._model:
            message = f"body.model must be {self._model!r} as in the lines before, got {model!r}"
            return _error("model_mismatch", message, number, "body.model")
        return None


def _request(line: dict[str, Any]) -> BatchRequest:
    custom_id, body = line["custom_id"], line["body"]
    complete, refusal = _checked_body(body)
    error = None if refusal is None else request_error(400, refusal, "invalid_request")
    return BatchRequest(custom_id=custom_id, model=body["model"], body=complete, error=error)


def _checked_body(body: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Return a request's complete body, or why it is refused."""
    if body.get("stream") is True:
        return {}, "stream must not be true in a batch"
    try:
        return validated_request(body, is_openrouter=False, is_stored=lambda _: False), None
    except HttpError as error:
        return {}, error.body["error"]["message"]


def _parse_line(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _error(code: str, message: str, line: int | None, param: str | None = None) -> LineError:
    return {"code": code, "message": message, "line": line, "param": param}
