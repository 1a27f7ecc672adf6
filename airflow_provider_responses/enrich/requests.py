"""
The requests of rows: how they are checked, told apart and sent.

Most rows differ in their input alone, a text. What they share is a :class:`Shape`: it is checked and serialized once,
and each row's input is put in. The bytes are those of the whole request.
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

from airflow_provider_responses.enrich.output_store import name_of
from airflow_provider_responses.enrich.values import dump, to_json

if TYPE_CHECKING:
    from airflow_provider_responses.client import AsyncResponsesClient
    from airflow_provider_responses.client.call import Call
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.enrich.job import Job
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.task.request import TaskRequest

INPUT: Final = "input"
RECENT: Final = 8  # shapes that a row is compared with
MOST_SHAPES: Final = 100
_SCALARS: Final = frozenset({str, int, bool, type(None)})


class Entry(NamedTuple):
    """A row's request, as it is indexed."""

    fingerprint: bytes
    size: int  # bytes
    fields: str  # JSON object


class Around(NamedTuple):
    """What stands before and after the input, in JSON."""

    before: Any
    after: Any


class Shape:
    """
    What requests have in common that differ in their input alone.

    :param fields: of one of them, all of plain JSON types.
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._names = list(fields)
        self._others = [(name, value) for name, value in fields.items() if name != INPUT]
        self.marker = ""  # an input that occurs nowhere else
        self.fields: Around | None = None  # of the fields, as text; None until a second row has the shape
        self.body: Around | None = None  # of the request, as bytes

    def fits(self, asked: Mapping[str, Any]) -> bool:
        """Return whether a row's fields have this shape: equal, in the same order, and of the same types."""
        return list(asked) == self._names and all(_is_same(asked[name], value) for name, value in self._others)

    def fill(self, text: str) -> Entry | None:
        """Return the request with an input, None if the input is no text that UTF-8 can hold."""
        if self.fields is None or self.body is None:
            return None
        encoded = encode_basestring(text)
        try:
            body: bytes = b"".join((self.body.before, encoded.encode(), self.body.after))
        except UnicodeEncodeError:
            return None
        fields = f"{self.fields.before}{encoded}{self.fields.after}"
        return Entry(blake2b(body, digest_size=16).digest(), len(body), fields)

    def input_of(self, fields: str) -> str | None:
        """Return the input in the JSON of fields, as JSON, None if they have another shape."""
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


class Requests:
    """
    See the module.

    :param job: whose rows they are.
    :param folder: of the output, whose requests have idempotency keys of their own.
    """

    def __init__(self, job: Job, folder: OutputStore) -> None:
        self._job, self._folder = job, folder
        self._recent: deque[Shape] = deque(maxlen=RECENT)
        self._shapes: list[Shape] = []  # that several rows have
        self._calls: dict[Shape, tuple[Call, RequestOptions, Around]] = {}

    @functools.cached_property
    def run(self) -> TaskRequest:
        """How every response is read. The idempotency key is the output's, and the same for all attempts."""
        salt = f"{name_of(self._folder.path)}\0{self._folder.generation}"
        idempotency_key = blake2b(salt.encode(), digest_size=16).hexdigest()
        return replace(self._job.run, output_format=self._job.run.text_format(), idempotency_key=idempotency_key)

    @functools.cached_property
    def timeout(self) -> float:
        """Seconds of a call."""
        return self._job.config.for_call(self._job.options).timeout

    def entry(self, asked: Mapping[str, Any]) -> Entry:
        """
        Return a row's request as it is indexed.

        :raises RequestValidationError: if it cannot be sent, naming the field.
        """
        text = asked.get(INPUT)
        shape = None
        if type(text) is str and text.strip():
            shape = next((it for it in self._recent if it.fits(asked)), None)
            if shape is not None and (entry := shape.fill(text)) is not None:
                return entry
        fields = to_json(dict(asked), "request")
        body = self.prepared(fields)[0].to_bytes()
        if type(text) is str:
            self._learn(shape, asked, fields)
        return Entry(blake2b(body, digest_size=16).digest(), len(body), dump(fields))

    def prepared(self, fields: Mapping[str, Any]) -> tuple[ResponsesRequest, RequestOptions]:
        """
        Return a request, checked, and the options that it is sent with.

        :raises RequestValidationError: naming the field.
        """
        return replace(self.run, fields=fields).prepare(self._job.config, self._job.options)

    def sent_once(self, fields: Mapping[str, Any]) -> tuple[ResponsesRequest, RequestOptions]:
        """Return a request and its options for one send: the retries of a row are the sender's, which sees all rows."""
        request, options = self.prepared(fields)
        return request, replace(options, max_retries=0, timeout=self.timeout)

    def call(self, client: AsyncResponsesClient, fields: str) -> tuple[Call, RequestOptions]:
        """Return the call of a request, from the JSON of its fields, and its options."""
        for shape in self._shapes:
            if (encoded := shape.input_of(fields)) is not None:
                call, options, (before, after) = self._calls.get(shape) or self._shared_call(client, shape)
                return call.with_body(b"".join((before, encoded.encode(), after))), options
        request, options = self.sent_once(json.loads(fields))
        return client.prepare(request, options), options

    def _shared_call(self, client: AsyncResponsesClient, shape: Shape) -> tuple[Call, RequestOptions, Around]:
        assert shape.fields is not None  # noqa: S101  for the type checker
        request, options = self.sent_once(json.loads(f'{shape.fields.before}"{shape.marker}"{shape.fields.after}'))
        call = client.prepare(request, options)
        before, after = (call.body or b"").split(_quoted(shape.marker))
        self._calls[shape] = call, options, Around(before, after)
        return self._calls[shape]

    def _learn(self, shape: Shape | None, asked: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
        """Note the shape of a row; if it has been seen before, make it ready for the next rows."""
        if shape is None:
            if all(_is_same(value, fields[name]) for name, value in asked.items()):
                self._recent.appendleft(Shape(fields))
            return
        if shape.fields is not None or len(self._shapes) >= MOST_SHAPES:
            return
        shape.marker = secrets.token_hex(16)
        marked = {**fields, INPUT: shape.marker}
        in_fields = dump(marked).split(f'"{shape.marker}"')
        in_body = self.prepared(marked)[0].to_bytes().split(_quoted(shape.marker))
        if len(in_fields) == len(in_body) == 2:
            shape.fields, shape.body = Around(*in_fields), Around(*in_body)
            self._shapes.append(shape)


def _quoted(text: str) -> bytes:
    return f'"{text}"'.encode()


def _is_same(value: Any, other: Any) -> bool:
    """Return whether two values are the same JSON: equal ones need not be, such as 1, 1.0 and True."""
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
