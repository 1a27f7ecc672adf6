"""One ``POST /responses``, from its arrival to its answer."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from airflow_provider_responses.sandbox import errors
from airflow_provider_responses.sandbox.answers import draft
from airflow_provider_responses.sandbox.checks import checked
from airflow_provider_responses.sandbox.delivery import Answer
from airflow_provider_responses.sandbox.errors import RefusedError, error_answer
from airflow_provider_responses.sandbox.prices import Bill, count_input_tokens
from airflow_provider_responses.sandbox.results import Served, result
from airflow_provider_responses.sandbox.routing import choose_model, requested_models, served_name
from airflow_provider_responses.sandbox.script import PACE
from airflow_provider_responses.sandbox.state import CacheKey, LedgerEntry, State, hash_key
from airflow_provider_responses.sandbox.stream import StreamResponse
from airflow_provider_responses.sandbox.wire import (
    ClosedConnection,
    InPieces,
    json_response,
    until_gone,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from airflow_provider_responses.sandbox.script import Step

CACHE_TTL: Final = 300
CACHE_TTL_MAX: Final = 86_400
ENDPOINT: Final = "/responses"
OF_THE_PROMPT: Final = "the-prompts-model"  # a stored prompt may name its model
UNSUITABLE_SCHEMA: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError, re.error)


def authorize(headers: Mapping[str, str]) -> str:
    """
    Give the hash of the call's key.

    :raises RefusedError: 401, when there is none or it is a wrong one.
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise RefusedError(error_answer(401, "No API key: send the header Authorization: Bearer <key>"))
    if "wrong" in key.lower() or "invalid" in key.lower():
        raise RefusedError(error_answer(401, "The API key is not known here"))
    return hash_key(key)


@dataclass
class Call:
    """One call; ``step`` says how it is answered."""

    state: State
    entry: LedgerEntry
    epoch: int
    request: Request
    step: Step

    @property
    def is_openrouter(self) -> bool:
        """Whether OpenRouter's own features are offered."""
        return self.state.dialect == "openrouter"

    @property
    def wants_metadata(self) -> bool:
        """Whether routing metadata was asked for."""
        return self.is_openrouter and self.request.headers.get("x-openrouter-metadata", "").lower() == "enabled"

    async def answer(self) -> Response:
        """
        Answer the call.

        :raises RefusedError: when it ends with an HTTP error.
        """
        answer = await self._answer()
        return InPieces(answer, self.step.split) if self.step.split else answer

    async def _answer(self) -> Response:
        if early := await self._before_model():
            return early
        body = self._validated()
        models = requested_models(body) or [OF_THE_PROMPT]
        chosen = choose_model(models, open_names=not self.is_openrouter)
        if chosen is None:
            raise RefusedError(errors.model_not_found(models, metadata=self.wants_metadata))
        model, model_step = chosen
        if model_step is not None and not self.step.misbehaves:
            # A scripted pace stays; only how the call ends is the model's.
            self.step = model_step.model_copy(update={name: getattr(self.step, name) for name in PACE})
            if early := await self._before_model():
                return early
        return await self._generate(body, served_name(model), models[0])

    # Before the model

    async def _before_model(self) -> Response | None:
        """Do what a step does to a call that no model has seen."""
        step = self.step
        if step.hang:
            gone = asyncio.ensure_future(until_gone(self.request.receive))
            ended = await self.state.pause(None, epoch=self.epoch, gone=gone)
            gone.cancel()
            self.state.settle(self.entry, "dropped" if ended == "gone" else "broken", delivered=False)
            return ClosedConnection()
        if step.drop is True:
            self.state.settle(self.entry, "broken", delivered=False)
            return ClosedConnection()
        if step.error_status is None:
            return None
        if await self.delay() == "reset":
            return ClosedConnection()
        models = requested_models(self.entry.body) if isinstance(self.entry.body, dict) else []
        named = [name for name in models if isinstance(name, str)]
        raise RefusedError(errors.scripted_error(step, named, metadata=self.wants_metadata))

    @property
    def latency(self) -> float:
        """Seconds before the answer."""
        return self.state.latency if self.step.delay is None else self.step.delay

    async def delay(self) -> str:
        """Wait as long as the answer takes, also for a client that has left."""
        return await self.state.pause(self.latency, epoch=self.epoch) if self.latency else "over"

    def _validated(self) -> dict[str, Any]:
        body = checked(self.entry.body, is_openrouter=self.is_openrouter, is_stored=self._is_stored)
        self.entry.stream = body.get("stream") is True
        self.entry.metadata = body.get("metadata")
        return body

    def _is_stored(self, response_id: str) -> bool:
        """Whether a response was made here for this key, by a request that did not say ``store: false``."""
        entry = self.state.find(f"gen-{response_id.removeprefix('resp_')}")
        return (
            entry is not None
            and entry.key == self.entry.key
            and entry.outcome == "answered"
            and entry.body.get("store") is not False
        )

    # The answer

    async def _generate(self, body: dict[str, Any], model: str, requested: str) -> Response:
        key, ttl = self._cache_wish(body)
        if key is not None:
            clear = self.request.headers.get("x-openrouter-cache-clear", "").lower() == "true"
            if kept := self.state.kept(key, clear=clear):
                return self._cached(body, *kept)
            self.entry.cache = "MISS"
        self.entry.model = model
        try:
            said = draft(body, self.step)
        except UNSUITABLE_SCHEMA as error:
            message = f"no answer can be made for this request: {type(error).__name__}: {error}"
            raise RefusedError(error_answer(400, message)) from None
        answer = Answer(
            call=self,
            served=self._served(body, model),
            draft=said,
            input_tokens=count_input_tokens(body),
            cache_key=key,
            cache_ttl=ttl,
            requested=requested,
        )
        return answer.streamed() if self.entry.stream else await answer.whole()

    def _cached(self, body: dict[str, Any], kept: Any, age: int) -> Response:
        said, model = kept.content
        served = self._served(body, model)
        self.state.settle(
            self.entry,
            "cached",
            status=200,
            model=model,
            cache="HIT",
            cache_source_id=kept.generation_id,
            delivered=True,
        )
        headers = self.headers() | {
            "X-OpenRouter-Cache-Status": "HIT",
            "X-OpenRouter-Cache-Age": str(age),
            "X-OpenRouter-Cache-TTL": str(kept.ttl),
            "X-OpenRouter-Cache-Source-Id": kept.generation_id,
        }
        final = result(served, said, Bill())
        if self.entry.stream:
            return StreamResponse(served, said, final, headers=headers)
        return json_response(final, headers=headers)

    def headers(self) -> dict[str, str]:
        """Give the headers that every answer bears."""
        return {"X-Generation-Id": self.entry.generation_id} if self.is_openrouter else {}

    def _served(self, body: dict[str, Any], model: str) -> Served:
        return Served(
            body=body,
            model=model,
            generation_id=self.entry.generation_id,
            created_at=int(time.time()),
            priced=self.is_openrouter,
            stored=not self.is_openrouter,
        )

    def _cache_wish(self, body: dict[str, Any]) -> tuple[CacheKey | None, int]:
        headers = self.request.headers
        if not self.is_openrouter or headers.get("x-openrouter-cache", "").lower() != "true":
            return None, 0
        ttl = headers.get("x-openrouter-cache-ttl", str(CACHE_TTL))
        if not ttl.isdecimal() or not 1 <= int(ttl) <= CACHE_TTL_MAX:
            raise RefusedError(error_answer(400, f"X-OpenRouter-Cache-TTL: must be 1 to {CACHE_TTL_MAX} seconds"))
        models = ",".join(requested_models(body))
        return (self.entry.key or "", models, ENDPOINT, self.entry.stream, self.entry.body_sha256), int(ttl)
