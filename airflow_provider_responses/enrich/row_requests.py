"""
The requests of rows: checked, fingerprinted and prepared for sending.

Most requests differ only in their input, a text. The rest of them is a :class:`Shape`: it is checked and serialized
once, and the input of each row is inserted. The bytes are the same as if each request were serialized by itself.
"""

from __future__ import annotations

import functools
import json
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from hashlib import blake2b
from json.decoder import scanstring  # type: ignore[attr-defined]  # in C, and what json.loads reads texts with
from json.encoder import encode_basestring  # in C, and what json.dumps writes texts with
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow_provider_responses.enrich.json_values import dump, to_json
from airflow_provider_responses.enrich.next_step import FIRST
from airflow_provider_responses.enrich.output_store import output_name
from airflow_provider_responses.enrich.row_images import FOLDER, image_writer, with_image_paths
from airflow_provider_responses.enrich.row_steps import RowSteps
from airflow_provider_responses.enrich.step_requests import StepRequests
from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.client.call import Call
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.enrich.index import PendingRequest
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.task.outcome import Outcome
    from airflow_provider_responses.task.request import TaskRequest

INPUT: Final = "input"
RECENT: Final = 8  # shapes that a row is compared with
MAX_SHAPES: Final = 100
_SCALARS: Final = frozenset({str, int, bool, type(None)})


class IndexedRequest(NamedTuple):
    """The request of a row, as it is indexed."""

    fingerprint: bytes
    size: int  # bytes
    fields: str  # JSON object


class Surroundings(NamedTuple):
    """The JSON before and after the input of a request."""

    before: Any
    after: Any


class Shape:
    """
    The common part of requests that differ only in their input.

    :param fields: of one such request, all of plain JSON types.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._names = list(fields)
        self._others = [(name, value) for name, value in fields.items() if name != INPUT]
        self.marker = ""  # an input that occurs nowhere else in the request
        self.fields: Surroundings | None = None  # text; None until a second row has the shape
        self.body: Surroundings | None = None  # bytes

    def matches(self, fields: Mapping[str, Any]) -> bool:
        """Return whether the fields of a request, except its input, are the same, in the same order."""
        return list(fields) == self._names and all(_is_same(fields[name], value) for name, value in self._others)

    def fill(self, text: str) -> IndexedRequest | None:
        """Return the request with an input, None if UTF-8 cannot encode the input."""
        if self.fields is None or self.body is None:
            return None
        encoded = encode_basestring(text)
        try:
            body: bytes = b"".join((self.body.before, encoded.encode(), self.body.after))
        except UnicodeEncodeError:
            return None
        fields = f"{self.fields.before}{encoded}{self.fields.after}"
        return IndexedRequest(blake2b(body, digest_size=16).digest(), len(body), fields)

    def input_of(self, fields: str) -> str | None:
        """Return the JSON of the input from the JSON of all fields, None if they have another shape."""
        if self.fields is None:
            return None
        before, after = self.fields
        if not (fields.startswith(before) and fields.endswith(after)):
            return None
        encoded = fields[len(before) : len(fields) - len(after)]
        try:
            is_text = encoded[:1] == '"' and scanstring(encoded, 1)[1] == len(encoded)
        except ValueError:
            return None
        return encoded if is_text else None


class RowRequests:
    """
    See the module.

    :param job: whose rows they are.
    :param store: of the output; requests for another output have other idempotency keys.
    """

    def __init__(self, job: Job, store: OutputStore) -> None:
        self._job, self._store = job, store
        self._recent: deque[Shape] = deque(maxlen=RECENT)
        self._shapes: list[Shape] = []  # that several rows have
        self._calls: dict[Shape, tuple[Call, RequestOptions, Surroundings]] = {}
        self.steps = RowSteps(job)
        self.later = StepRequests(self, self.steps)
        self.models: set[str] = set()  # of the task's requests, as far as they are named

    @functools.cached_property
    def task_request(self) -> TaskRequest:
        """The job's request, with an idempotency key that all attempts for the output share."""
        salt = f"{output_name(self._store.path)}\0{self._store.generation}"
        idempotency_key = blake2b(salt.encode(), digest_size=16).hexdigest()
        request = self._job.request
        return replace(request, output_format=request.text_format(), idempotency_key=idempotency_key)

    @functools.cached_property
    def timeout(self) -> float:
        """Seconds that a call may take."""
        return self._job.config.for_call(self._job.options).timeout

    @property
    def model(self) -> str | None:
        """The model of the task's requests, None if they have several."""
        models = {it or self._job.config.for_call(self._job.options).default_model for it in self.models}
        return models.pop() if len(models) == 1 else None

    def index(self, row_fields: Mapping[str, Any]) -> IndexedRequest:
        """
        Return the request of a row as it is indexed.

        :param row_fields: of the request.
        :raises RequestValidationError: if it cannot be sent, naming the field.
        """
        text = row_fields.get(INPUT)
        shape = None
        if type(text) is str and text.strip():
            shape = next((it for it in self._recent if it.matches(row_fields)), None)
            if shape is not None and (indexed := shape.fill(text)) is not None:
                return indexed
        if self._job.files is not None and type(text) is not str:
            row_fields = self._job.files.index(row_fields)
        fields = to_json(dict(row_fields), "request")
        body = self.prepare(fields)[0].to_bytes()
        self.later.check(fields)
        if len(self.models) < MAX_SHAPES:
            self.models.add(str(fields.get("model") or ""))
        if type(text) is str:
            self._remember_shape(shape, row_fields, fields)
        return IndexedRequest(blake2b(body, digest_size=16).digest(), len(body), dump(fields))

    def prepare(
        self, fields: Mapping[str, Any], task_request: TaskRequest | None = None
    ) -> tuple[ResponsesRequest, RequestOptions]:
        """
        Return a checked request and its options. Of files it has the digests.

        :param task_request: of another step than the first.
        :raises RequestValidationError: naming the field.
        """
        if self._job.files is not None:
            fields = self._job.files.described(fields)
        request = replace(task_request or self.task_request, fields=fields)
        return request.prepare(self._job.config, self._job.options)

    def prepare_send(
        self, fields: Mapping[str, Any], task_request: TaskRequest | None = None
    ) -> tuple[ResponsesRequest, RequestOptions]:
        """Return a request and its options for one send. The client does not retry it: the sender does."""
        request, options = self.prepare(fields, task_request)
        return request, self._for_one_send(options)

    def prepare_step(self, request: PendingRequest) -> tuple[ResponsesRequest, RequestOptions]:
        """Return the request of a step, and its options for one send."""
        if request.step == FIRST:
            return self.prepare_send(json.loads(request.fields))
        return self.prepare_send(self.later.fields(request), self.later.task_request(request.step))

    def call_step(self, client: AsyncResponsesClient, request: PendingRequest) -> tuple[Call, RequestOptions]:
        """Return the call and the options of the request of a step."""
        if request.earlier is None:
            return self.call(client, request.fields)
        prepared, options = self.prepare_step(request)
        call = client.prepare(prepared, options)
        self._check_size(request, call.body if isinstance(call.body, bytes) else prepared.to_bytes())
        return call, options

    def _for_one_send(self, options: RequestOptions) -> RequestOptions:
        return replace(options, max_retries=0, max_ambiguous_retries=0, timeout=self.timeout)

    def body(self, fields: str) -> bytes:
        """Return the body of a request from the JSON of its fields."""
        for shape in self._shapes:
            if shape.body is not None and (encoded := shape.input_of(fields)) is not None:
                return b"".join((shape.body.before, encoded.encode(), shape.body.after))
        return self.prepare(json.loads(fields))[0].to_bytes()

    def call(self, client: AsyncResponsesClient, fields: str) -> tuple[Call, RequestOptions]:
        """Return the call and the options of a request, from the JSON of its fields."""
        for shape in self._shapes:
            if (encoded := shape.input_of(fields)) is not None:
                call, options, (before, after) = self._calls.get(shape) or self._shared_call(client, shape)
                return call.with_body(b"".join((before, encoded.encode(), after))), options
        request, options = self.prepare_send(json.loads(fields))
        return client.prepare(request, options), options

    def with_image_paths(self, outcome: Outcome) -> Outcome:
        """Return an outcome with paths in place of the images of its response. This writes them, and blocks."""
        return with_image_paths(outcome, self._job.request.result, image_writer(self._store.storage, FOLDER))

    def has_files(self, fields: str) -> bool:
        """Return whether a request, as the JSON of its fields, has files that are read when it is sent."""
        return self._job.files is not None and self._job.files.is_indexed(fields)

    def call_with_files(self, client: AsyncResponsesClient, request: PendingRequest) -> tuple[Call, RequestOptions]:
        """Like :meth:`call_step`, with the contents of the request's files. This reads them, and blocks."""
        assert self._job.files is not None  # noqa: S101  for the type checker
        fields = self.later.fields(request)
        if request.step != FIRST:  # the first is checked when it is indexed, without the contents of its files, too
            self._check_size(request, self.prepare(fields, self.later.task_request(request.step))[0].to_bytes())
        filled = self._job.files.load(fields)
        task_request = self.later.task_request(request.step)
        with_files = replace(task_request, fields=filled.fields, contents=filled.contents)
        prepared, options = with_files.prepare(self._job.config, self._job.options)
        options = self._for_one_send(options)
        return client.prepare(prepared, options), options

    def _check_size(self, request: PendingRequest, body: bytes) -> None:
        """Refuse a request of a later step that is too large; see ``limits.max_request_bytes``."""
        if len(body) > (most := self._job.limits.max_request_bytes):
            raise RequestValidationError(
                f"the request to {self.steps.model_of(request)} has {len(body)} bytes, and limits.max_request_bytes is "
                f"{most}, so it is not sent"
            )

    def _shared_call(self, client: AsyncResponsesClient, shape: Shape) -> tuple[Call, RequestOptions, Surroundings]:
        assert shape.fields is not None  # noqa: S101  for the type checker
        request, options = self.prepare_send(json.loads(f'{shape.fields.before}"{shape.marker}"{shape.fields.after}'))
        call = client.prepare(request, options)
        assert isinstance(call.body, bytes)  # noqa: S101  a shape has no files
        before, after = call.body.split(_quoted(shape.marker))
        self._calls[shape] = call, options, Surroundings(before, after)
        return self._calls[shape]

    def _remember_shape(self, shape: Shape | None, row_fields: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Remember the shape of a request; if another one had it, too, prepare it for the next ones."""
        if shape is None:
            if all(_is_same(value, fields[name]) for name, value in row_fields.items()):
                self._recent.appendleft(Shape(fields))
            return
        if shape.fields is not None or len(self._shapes) >= MAX_SHAPES:
            return
        shape.marker = secrets.token_hex(16)
        marked = {**fields, INPUT: shape.marker}
        in_fields = dump(marked).split(f'"{shape.marker}"')
        in_body = self.prepare(marked)[0].to_bytes().split(_quoted(shape.marker))
        if len(in_fields) == len(in_body) == 2:
            shape.fields, shape.body = Surroundings(*in_fields), Surroundings(*in_body)
            self._shapes.append(shape)


def _quoted(text: str) -> bytes:
    return f'"{text}"'.encode()


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two values are the same JSON. Equal ones need not be, such as 1, 1.0 and True."""
    kind = type(value)
    if kind is not type(other):
        return False
    if kind in _SCALARS:
        return bool(value == other)
    if kind is dict:
        return list(value) == list(other) and all(_is_same(item, other[name]) for name, item in value.items())
    if kind is list:
        return len(value) == len(other) and all(map(_is_same, value, other))
    return kind is float and repr(value) == repr(other)
