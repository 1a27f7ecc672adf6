"""The handling of one ``POST /responses``, from its arrival to its response."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response

from airflow_provider_responses.sandbox.http.delivery import Delivery
from airflow_provider_responses.sandbox.http.event_stream import EventStreamResponse
from airflow_provider_responses.sandbox.http.http_errors import http_error, model_not_found_error, scripted_error
from airflow_provider_responses.sandbox.http.request_validation import validated_request
from airflow_provider_responses.sandbox.http.response_body import ServedRequest, response_body
from airflow_provider_responses.sandbox.http.routing import choose_model, requested_models, served_name
from airflow_provider_responses.sandbox.http.wire import (
    ClosedConnection,
    SplitResponse,
    json_response,
    wait_for_disconnect,
)
from airflow_provider_responses.sandbox.model.generation import generate
from airflow_provider_responses.sandbox.model.tokens import count_input_tokens
from airflow_provider_responses.sandbox.state.ledger import LedgerEntry, hash_key
from airflow_provider_responses.sandbox.state.prices import Bill
from airflow_provider_responses.sandbox.state.response_cache import CachedGeneration, CacheKey
from airflow_provider_responses.sandbox.state.script import PACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from airflow_provider_responses.sandbox.state.sandbox_state import PauseEnd, SandboxState
    from airflow_provider_responses.sandbox.state.script import Step

CACHE_TTL: Final = 300
CACHE_TTL_MAX: Final = 86_400
ENDPOINT: Final = "/responses"
PROMPT_MODEL: Final = "the-prompts-model"  # of a stored prompt, which names its model itself
UNUSABLE_SCHEMA: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError, re.error)


def authorize(headers: Mapping[str, str]) -> str:
    """
    Return the hash of the call's API key.

    :raises HttpError: 401 if there is no key, or one that contains "wrong" or "invalid".
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key:
        raise http_error(401, "No API key: send the header Authorization: Bearer <key>")
    if "wrong" in key.lower() or "invalid" in key.lower():
        raise http_error(401, "Unknown API key")
    return hash_key(key)


@dataclass
class CallHandler:
    """Handles one call; ``step`` changes the response."""

    state: SandboxState
    entry: LedgerEntry
    epoch: int
    request: Request
    step: Step

    @property
    def is_openrouter(self) -> bool:
        """Whether OpenRouter's own features are imitated."""
        return self.state.dialect == "openrouter"

    @property
    def wants_metadata(self) -> bool:
        """Whether the request's headers enable routing metadata."""
        return self.is_openrouter and self.request.headers.get("x-openrouter-metadata", "").lower() == "enabled"

    async def respond(self) -> Response:
        """
        Return the response to the call.

        :raises HttpError: if the call ends with an HTTP error.
        """
        response = await self._respond()
        return SplitResponse(response, self.step.split) if self.step.split else response

    async def _respond(self) -> Response:
        if early := await self._act_before_model():
            return early
        body = self._validated_request()
        models = requested_models(body) or [PROMPT_MODEL]
        chosen = choose_model(models, open_names=not self.is_openrouter)
        if chosen is None:
            raise model_not_found_error(models, with_metadata=self.wants_metadata)
        model, model_step = chosen
        if model_step is not None and not self.step.changes_ending:
            # The script still sets the pace; the model sets how the call ends.
            self.step = model_step.model_copy(update={name: getattr(self.step, name) for name in PACE})
            if early := await self._act_before_model():
                return early
        return await self._generate(body, served_name(model), models[0])

    # Before the model

    async def _act_before_model(self) -> Response | None:
        """Hang, close the connection or raise an error if the step requires it."""
        step = self.step
        if step.hang:
            gone = asyncio.ensure_future(wait_for_disconnect(self.request.receive))
            end = await self.state.pause(None, epoch=self.epoch, gone=gone)
            gone.cancel()
            self.state.close_entry(self.entry, "dropped" if end == "gone" else "broken", delivered=False)
            return ClosedConnection()
        if step.drop is True:
            self.state.close_entry(self.entry, "broken", delivered=False)
            return ClosedConnection()
        if step.error_status is None:
            return None
        if await self.delay() == "reset":
            return ClosedConnection()
        models = requested_models(self.entry.body) if isinstance(self.entry.body, dict) else []
        names = [name for name in models if isinstance(name, str)]
        raise scripted_error(step, names, with_metadata=self.wants_metadata)

    @property
    def latency(self) -> float:
        """Seconds before the response."""
        return self.state.latency if self.step.delay is None else self.step.delay

    async def delay(self) -> PauseEnd:
        """Wait for the latency, also after the client has left."""
        return await self.state.pause(self.latency, epoch=self.epoch) if self.latency else "over"

    def _validated_request(self) -> dict[str, Any]:
        body = validated_request(self.entry.body, is_openrouter=self.is_openrouter, is_stored=self._is_stored)
        self.entry.stream = body.get("stream") is True
        self.entry.metadata = body.get("metadata")
        return body

    def _is_stored(self, response_id: str) -> bool:
        """Whether this sandbox generated a response for this key, and without ``store: false``."""
        entry = self.state.ledger.find(f"gen-{response_id.removeprefix('resp_')}")
        return (
            entry is not None
            and entry.key == self.entry.key
            and entry.outcome == "generated"
            and entry.body.get("store") is not False
        )

    # The response

    async def _generate(self, body: dict[str, Any], model: str, requested: str) -> Response:
        key, ttl = self._cache_settings(body)
        if key is not None:
            if self.request.headers.get("x-openrouter-cache-clear", "").lower() == "true":
                self.state.cache.remove(key)
            if cached := self.state.cache.get(key):
                return self._cached_response(body, *cached)
            self.entry.cache = "MISS"
        self.entry.model = model
        try:
            generation = generate(body, self.step.directions)
        except UNUSABLE_SCHEMA as error:
            message = f"no output can be generated for this request: {type(error).__name__}: {error}"
            raise http_error(400, message) from None
        delivery = Delivery(
            call=self,
            served=self._served(body, model),
            generation=generation,
            input_tokens=count_input_tokens(body),
            cache_key=key,
            cache_ttl=ttl,
            requested=requested,
        )
        return delivery.event_stream() if self.entry.stream else await delivery.json()

    def _cached_response(self, body: dict[str, Any], cached: CachedGeneration, age: int) -> Response:
        served = self._served(body, cached.model)
        self.state.close_entry(
            self.entry,
            "cached",
            status=200,
            model=cached.model,
            cache="HIT",
            cache_source_id=cached.generation_id,
            delivered=True,
        )
        headers = self.headers() | {
            "X-OpenRouter-Cache-Status": "HIT",
            "X-OpenRouter-Cache-Age": str(age),
            "X-OpenRouter-Cache-TTL": str(cached.ttl),
            "X-OpenRouter-Cache-Source-Id": cached.generation_id,
        }
        final = response_body(served, cached.generation, Bill())
        if self.entry.stream:
            return EventStreamResponse(served, cached.generation, final, headers=headers)
        return json_response(final, headers=headers)

    def headers(self) -> dict[str, str]:
        """Return the headers of every response."""
        return {"X-Generation-Id": self.entry.generation_id} if self.is_openrouter else {}

    def _served(self, body: dict[str, Any], model: str) -> ServedRequest:
        return ServedRequest(
            body=body,
            model=model,
            generation_id=self.entry.generation_id,
            created_at=int(time.time()),
            priced=self.is_openrouter,
            stored=not self.is_openrouter,
        )

    def _cache_settings(self, body: dict[str, Any]) -> tuple[CacheKey | None, int]:
        """Return the key and the time to live (in seconds) of the cached response; no key without caching."""
        headers = self.request.headers
        if not self.is_openrouter or headers.get("x-openrouter-cache", "").lower() != "true":
            return None, 0
        ttl = headers.get("x-openrouter-cache-ttl", str(CACHE_TTL))
        if not ttl.isdecimal() or not 1 <= int(ttl) <= CACHE_TTL_MAX:
            raise http_error(400, f"X-OpenRouter-Cache-TTL must be 1 to {CACHE_TTL_MAX} seconds, got {ttl!r}")
        models = ",".join(requested_models(body))
        return (self.entry.key or "", models, ENDPOINT, self.entry.stream, self.entry.body_sha256), int(ttl)
