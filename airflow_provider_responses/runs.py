"""
One request's life, whatever runs it: fields → stamped request, answer → XCom values or an error.

No I/O and no Airflow, so that the ways of running (worker, trigger) share it and cannot drift apart.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
    ResponsesError,
)
from airflow_provider_responses.models.fields import METADATA_MAX_PAIRS
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.texts import plain, storable

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.models.request import ResponsesRequest

log = logging.getLogger(__name__)

STAMP_KEY: Final = "airflow"
NO_REGION: Final = UUID(int=0)  # Airflow's region of a task that is neither mapped nor in a loop
CACHE_TTL: Final = 3600  # seconds that an answer is kept for a retry, unless the task says otherwise
LONGEST_CACHE_TTL: Final = 86_400
LONGEST_WAIT: Final = 86_400.0  # seconds: a service that asks for more does not stop a task for longer
TIMEOUT_MARGIN: Final = 1.0  # seconds that a call ends before its task would, at most a twentieth of the time


def make_stamp(
    *, dag_id: str, task_id: str, run_id: str, map_index: int, cleared: object, region: str | None = None
) -> str:
    """
    Return the idempotency key: 32 hex digits that tell one task instance's requests from all others'.

    A retry has the same key, and so gets the cached response at no cost; a cleared task has a new one.

    :param cleared: changes with every clear and stays as it is on a retry.
    :param region: see :func:`region_of`.
    """
    parts = [dag_id, task_id, run_id, str(map_index), str(cleared), *([] if region is None else [region])]
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]


def stamp_of(ti: Any, *, cleared: object) -> str:
    """Return the idempotency key of a task instance; see :func:`make_stamp`."""
    return make_stamp(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        cleared=cleared,
        region=region_of(ti),
    )


def region_of(ti: Any) -> str | None:
    """
    Return the place of a task instance in a task loop, None for a task outside.

    All iterations of a loop have the same map index. From Airflow 3.4 on, what runs in a loop (or is mapped) is in a
    region, whose id is made once per run, and is the iteration's (or the map's) index in it.
    """
    region_id = getattr(ti, "region_id", None)
    if region_id is None or region_id == NO_REGION:
        return None
    return f"{region_id}/{getattr(ti, 'region_index', None)}"


def clears_of(ti: Any, retries: int | None) -> str:
    """
    Give what a clear changes and a retry does not, as a worker knows it.

    A clear sets `max_tries` to the tries that were made plus the task's `retries`, and a retry leaves it as it is. So
    one of the two has changed after a clear, also if `retries` was changed in the DAG's file. Such a change without a
    clear cannot be told from one with it: a retry after it is paid again.
    """
    return f"{ti.max_tries}/{retries}"


def never_cleared(retries: int) -> str:
    """Return what :func:`clears_of` gives for a first attempt, whose `max_tries` are its `retries`."""
    return f"{retries}/{retries}"


def before(execution_timeout: float) -> float:
    """Give the seconds that a call may take, so that it ends before Airflow ends its task and can say what it spent."""
    return max(execution_timeout - min(TIMEOUT_MARGIN, execution_timeout / 20), 0.001)


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    What a task asks for.

    :param fields: the request's fields, rendered.
    :param output_retries: how often an answer that is not as typed is asked for again, within one try of the task.
    :param stream: whether the answer is streamed to whoever waits for it.
    :param cache: whether a retry may get the answer kept by OpenRouter.
    :param cache_ttl: seconds that OpenRouter keeps it.
    :param output_format: the ``text.format`` that stands for the ``output_type``, whose class may not be at hand.
    :param stamp: see :func:`make_stamp`; None for a request outside a task.
    """

    fields: Mapping[str, Any]
    output_type: type[BaseModel] | None = None
    output_format: Mapping[str, Any] | None = None
    output_retries: int = 1
    result: Literal["text", "response"] = "text"
    on_incomplete: Literal["fail", "return"] = "fail"
    cache: bool = True
    cache_ttl: int = CACHE_TTL
    stream: bool = True
    stamp: str | None = None

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
        if config.is_openrouter and self.stamp:
            request = self._stamped(request, self.stamp)
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
    def is_unreadable(self) -> bool:
        """Whether the answer is asked for as a type whose class is not at hand."""
        return self.output_type is None and self.output_format is not None

    def accepts(self, error: ResponsesError) -> bool:
        """Whether the task takes the answer that came with an error."""
        return (
            self.on_incomplete == "return"
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
                if self.on_incomplete != "return":
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

    @staticmethod
    def _stamped(request: ResponsesRequest, stamp: str) -> ResponsesRequest:
        metadata = request.metadata or {}
        if "metadata" in request.extra_body:
            raise RequestValidationError(
                f"extra_body.metadata: must be a dict of texts, since the task's stamp {STAMP_KEY!r} is added to it",
                fields=("extra_body.metadata",),
            )
        if STAMP_KEY in metadata:
            raise RequestValidationError(
                f"metadata.{STAMP_KEY}: this key is taken by the task's stamp; use another",
                fields=(f"metadata.{STAMP_KEY}",),
            )
        if len(metadata) >= METADATA_MAX_PAIRS:
            raise RequestValidationError(
                f"metadata: has {len(metadata)} pairs, and the task's stamp {STAMP_KEY!r} makes "
                f"{len(metadata) + 1}; at most {METADATA_MAX_PAIRS} are allowed: drop {list(metadata)[-1]!r}",
                fields=("metadata",),
            )
        return request.model_copy(update={"metadata": {**metadata, STAMP_KEY: stamp}})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """
    What one try of a task came to.

    :param response: the last answer, if any came; it knows those before it (``previous``).
    :param error: why the try failed.
    :param value: what goes to XCom as the return value, as plain JSON types.
    :param unread: that the answer still has to be read as an ``output_type`` whose class was not at hand.
    :param accepted: what is wrong with the response, though the task takes it (``on_incomplete="return"``).
    :param invalid: whether the response does not match ``output_type``.
    :param repaired: whether its JSON had to be repaired.
    :param generations: records of kept answers by id, None where they could not be had.
    """

    response: Response | None = None
    error: ResponsesError | None = None
    accepted: ResponsesError | None = None
    value: Any = None
    unread: bool = False
    invalid: bool = False
    repaired: bool = False
    generations: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)


class Asking:
    """
    The sends of one try: an answer that is not as typed is asked for again. Whoever runs it does the sending.

    :param run: what is asked.
    :param options: as ``Run.prepare`` gave them.
    :param note: is called with an invalid response's error before the request is sent again; by default it is logged.
    """

    def __init__(
        self, run: Run, options: RequestOptions, *, note: Callable[[OutputValidationError], None] | None = None
    ) -> None:
        self.run = run
        self._note = note or self._log
        self._options = options
        self._retries = run.output_retries
        self._earlier: tuple[Exception, ...] = ()
        self._last: Response | None = None

    @property
    def paid(self) -> float | None:
        """US dollars of the last answer, None if it is unknown or was kept."""
        return None if self._last is None or self._last.cached else self._last.usage.cost

    def options(self, left: float) -> RequestOptions:
        """
        Give the options of the next send.

        :param left: seconds that it may take.
        """
        options = replace(self._options, timeout=left)
        if self._earlier and caches(options):  # else the answer that would not do comes again
            return options.with_headers({"X-OpenRouter-Cache-Clear": "true"})
        return options

    def answered(self, response: Response) -> Outcome | None:
        """Take an answer; None asks for another send."""
        if self._earlier:
            response = replace(response, previous=(*self._earlier, *response.previous))
        self._last = response
        if self.run.is_unreadable:
            return Outcome(response=response, unread=True)
        try:
            return self.run.read(response)
        except OutputValidationError as error:
            if not self._retries:
                error.response = response
                error.after(response.previous)
                return Outcome(response=response, error=error, invalid=True)
            self._retries -= 1
            error.wait = 0.0
            error.response = replace(response, previous=())
            self._earlier = (*response.previous, error)
            self._note(error)
            return None

    def _log(self, error: OutputValidationError) -> None:
        cost = None if error.response is None else error.response.usage.cost
        log.warning(
            "Asking again, within this try (%d more after this): %s. It had cost %s",
            self._retries,
            error,
            dollars(cost),
        )

    def failed(self, error: ResponsesError) -> Outcome:
        """Take a failure."""
        if error.response is not None:
            error.response = replace(error.response, previous=(*self._earlier, *error.response.previous))
        error.after((*self._earlier, *error.previous))
        if error.response is not None and self.run.accepts(error):
            if self.run.is_unreadable:
                return Outcome(response=error.response, unread=True)
            return replace(self.run.read(error.response), accepted=error)
        # An earlier answer was paid for, though the last send brought none.
        last = None if self._last is None else replace(self._last, previous=error.previous)
        return Outcome(response=error.response or last, error=error)


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


def caches(options: RequestOptions) -> bool:
    """Whether OpenRouter keeps the answer of a call, so that the same request gets it for nothing."""
    return any(
        name.lower() == "x-openrouter-cache" and text.lower() == "true"
        for name, text in (options.headers or {}).items()
    )


def _asks_for_no_trace(request: ResponsesRequest) -> bool:
    provider = request.provider or {}
    return bool(provider.get("zdr")) or provider.get("data_collection") == "deny"


def log_line(response: Response, usage: Mapping[str, Any]) -> str:
    """Return the one line about a response; it holds neither prompt nor text."""
    cache = "hit (nothing paid)" if response.cached else "miss"
    seconds = "?" if response.seconds is None else f"{response.seconds:.1f}"
    return (
        f"Response {response.id} by {response.model}: {usage['input_tokens']} + {usage['output_tokens']} tokens, "
        f"cost {dollars(usage['cost'])}, cache {cache}, sends {len(usage['sends'])}, {seconds} s, "
        f"generation {response.generation_id}"
    )


def dollars(amount: float | None) -> str:
    """Give an amount of money for a log line."""
    return "unknown" if amount is None else f"${amount:.6f}"
