"""
One request's life, whatever runs it: fields → stamped request, answer → XCom values or an error.

No I/O and no Airflow, so that the ways of running (worker, trigger) share it and cannot drift apart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
    ResponsesError,
)
from airflow_provider_responses.models.fields import METADATA_MAX_PAIRS
from airflow_provider_responses.models.response import Response, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

    from airflow_provider_responses.models.request import ResponsesRequest

STAMP_KEY: Final = "airflow"
XCOM_KEYS: Final = frozenset({"return_value", "status", "response_id", "generation_id", "model", "usage"})
CACHE_TTL: Final = 3600  # seconds that an answer is kept for a retry


def make_stamp(*, dag_id: str, task_id: str, run_id: str, map_index: int, cleared: int) -> str:
    """
    Give the 32 hex digits that tell one task instance's requests from all others'.

    A retry has the same stamp, and so gets the kept answer for nothing; a cleared task has a new one.

    :param cleared: grows with every clear and stays as it is on a retry.
    """
    parts = "\x00".join((dag_id, task_id, run_id, str(map_index), str(cleared)))
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class Run:
    """
    What a task asks for.

    :param fields: the request's fields, rendered.
    :param stream: whether the answer is streamed to whoever waits for it.
    :param cache: whether a retry may get the answer kept by OpenRouter.
    :param stamp: see :func:`make_stamp`; None for a request outside a task.
    """

    fields: Mapping[str, Any]
    output_type: type[BaseModel] | None = None
    result: Literal["text", "response"] = "text"
    on_incomplete: Literal["fail", "return"] = "fail"
    cache: bool = True
    stream: bool = True
    stamp: str | None = None

    def prepare(self, config: ClientConfig, options: RequestOptions) -> tuple[ResponsesRequest, RequestOptions]:
        """
        Give the request and the options exactly as they are sent; every try gives the same bytes.

        :raises RequestValidationError: naming the field.
        """
        # Here, and not above: DAG files import this module, and building the models takes its time.
        from airflow_provider_responses.client import protocol
        from airflow_provider_responses.models.request import ResponsesRequest

        config = config.for_call(options)
        fields = dict(self.fields)
        if self.output_type is not None:
            fields["text"] = self._typed_text(fields.get("text"))
        request = protocol.prepare(ResponsesRequest.parse(fields), config)
        if config.is_openrouter:
            if self.stamp:
                request = request.replace(metadata=self._stamped(request.metadata or {}, self.stamp))
            if self.cache and not _asks_for_no_trace(request):
                caching = {"X-OpenRouter-Cache": "true", "X-OpenRouter-Cache-TTL": str(CACHE_TTL)}
                options = options.with_headers(caching, but_not=config.extra_headers)
        return (request.replace(stream=True) if self.stream else request), options

    def accept(self, error: ResponsesError) -> Response:
        """Give the answer that came with an error, if the task takes such answers; raise the error otherwise."""
        if (
            self.on_incomplete == "return"
            and isinstance(error, (IncompleteResponseError, RefusalError))
            and error.response is not None
        ):
            return error.response
        raise error

    def value(self, response: Response) -> Any:
        """
        Give what goes to XCom as the return value, as plain JSON types.

        :raises OutputValidationError: with the answer, if it is not what ``output_type`` says.
        """
        from airflow_provider_responses.models.output import dump_output, parse_output

        parsed: Any = None
        if self.output_type is not None:
            try:
                parsed = dump_output(parse_output(self.output_type, response.output_text))
            except OutputValidationError as error:
                if self.on_incomplete != "return":
                    error.response = response
                    error.generation_id = response.generation_id
                    raise
        if self.result == "response":
            return response.raw
        if parsed is not None:
            return parsed
        return response.output_text or response.refusal or ""

    def _typed_text(self, text: Any) -> dict[str, Any]:
        from airflow_provider_responses.models.output import json_schema_format

        assert self.output_type is not None  # noqa: S101  for the type checker; the caller has looked
        given = text if isinstance(text, Mapping) else {}
        if "format" in given:
            raise RequestValidationError(
                "text.format: given twice, by `output_type` and by `request`; drop one", fields=("text.format",)
            )
        return {**given, "format": json_schema_format(self.output_type)}

    @staticmethod
    def _stamped(metadata: Mapping[str, str], stamp: str) -> dict[str, str]:
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
        return {**metadata, STAMP_KEY: stamp}


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
    return {**arguments, **request}


def _asks_for_no_trace(request: ResponsesRequest) -> bool:
    provider = request.provider or {}
    return bool(provider.get("zdr")) or provider.get("data_collection") == "deny"


@dataclass
class Account:
    """
    What a task has spent since it was last cleared.

    :param spent: generation id → US dollars, of answers that were paid; what earlier tries are known to have
        spent comes in here, and unknown prices are None.
    """

    spent: dict[str, float | None] = field(default_factory=dict)

    def unknown_source(self, response: Response) -> str | None:
        """Give the kept answer's generation, whose tokens and price must be looked up."""
        return response.cache_source_id if response.cached else None

    def usage(self, response: Response, *, generation: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Give the ``usage`` XCom of an answer, and enter its cost.

        :param generation: the record of :meth:`unknown_source`, if it could be had.
        """
        failed = [e.response for e in response.previous if isinstance(e, ResponsesError) and e.response]
        this_try = {_identity(r): r.usage.cost for r in (*failed, response) if not r.cached}
        self.spent = this_try | self.spent
        usage = self._kept(response, generation or {}) if response.cached else response.usage
        return {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost": _total(self.spent.values()),
            "cost_this_try": _total(this_try.values()),
            "cached": response.cached,
            "tries": response.tries,
            "ambiguous_tries": sum(isinstance(e, ResponsesError) and e.ambiguous for e in response.previous),
        }

    def _kept(self, response: Response, generation: Mapping[str, Any]) -> Usage:
        """Tokens and price of the answer that a hit repeats; its own counters are all 0."""
        known = Usage.from_raw({**generation, "cost": generation.get("total_cost")})
        source = response.cache_source_id or _identity(response)
        if self.spent.get(source) is None:
            self.spent[source] = known.cost
        tokens_in, tokens_out = (_tokens(generation, kind) for kind in ("prompt", "completion"))
        total = None if tokens_in is None or tokens_out is None else tokens_in + tokens_out
        return replace(
            known,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            total_tokens=total,
            cached_tokens=_integer(generation.get("native_tokens_cached")),
            reasoning_tokens=_integer(generation.get("native_tokens_reasoning")),
        )


def xcoms(response: Response, usage: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is pushed beside the return value."""
    return {
        "status": "refused" if response.refusal is not None else response.status,
        "response_id": response.id,
        "generation_id": response.generation_id,
        "model": response.model,
        "usage": dict(usage),
    }


def log_line(response: Response, usage: Mapping[str, Any]) -> str:
    """Give the one line about an answer; it holds neither prompt nor answer."""
    cost = "unknown" if usage["cost"] is None else f"${usage['cost']:.6f}"
    cache = "hit (nothing paid)" if response.cached else "miss"
    seconds = "?" if response.seconds is None else f"{response.seconds:.1f}"
    return (
        f"Answer {response.id} by {response.model}: {usage['input_tokens']} + {usage['output_tokens']} tokens, "
        f"cost {cost}, cache {cache}, tries {response.tries}, {seconds} s, generation {response.generation_id}"
    )


def _identity(response: Response) -> str:
    return response.generation_id or response.id or "unknown"


def _total(costs: Any) -> float | None:
    known = list(costs)
    return None if any(cost is None for cost in known) else float(sum(known))


def _tokens(generation: Mapping[str, Any], kind: str) -> int | None:
    native = _integer(generation.get(f"native_tokens_{kind}"))
    return native if native is not None else _integer(generation.get(f"tokens_{kind}"))


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
