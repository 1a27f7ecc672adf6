"""A service of several models that respond by rules, and that counts its bills by model; and jobs against it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import httpx

from airflow_provider_responses.client import AsyncResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.client.config import ClientConfig
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.task.escalation import Escalation
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import jobs

SMALL: Final = jobs.MODEL
LARGE: Final = "openai/gpt-4o"
LARGEST: Final = "anthropic/claude-sonnet-4.5"
JUDGE: Final = "google/gemini-2.5-flash"
PRICES: Final = {SMALL: 0.001, LARGE: 0.02, LARGEST: 0.3, JUDGE: 0.004}
SERVER: Final = SimpleNamespace(base_url="http://127.0.0.1:9/api/v1")

NO_JSON: Final = {"text": "no JSON"}
REFUSAL: Final = {"refusal": "I will not"}
INCOMPLETE: Final = {"text": '{"mood": "hal', "status": "incomplete"}
BUSY: Final = {"http": 429}
REJECTED: Final = {"http": 400}

Rule = Callable[[int], Mapping[str, Any] | None]


def mood(model: str, row: int) -> dict[str, str]:
    """Return the text of a valid response of a model."""
    return {"text": json.dumps({"mood": f"{model} {row}"})}


def score(number: float, reason: str = "so it is") -> dict[str, str]:
    """Return the text of a judge's response."""
    return {"text": json.dumps({"reason": reason, "score": number})}


@dataclass
class Models:
    """
    The service.

    :param rules: by model: returns the reply to a row, None for a valid one.
    """

    rules: dict[str, Rule] = field(default_factory=dict)
    sends: list[tuple[str, int]] = field(default_factory=list)  # model and row
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paid: Counter[str] = field(default_factory=Counter)  # responses by model
    before: Callable[[str, int], Any] = lambda _model, _row: None  # is called with each send, and may be awaited

    @property
    def bill(self) -> float:
        """US dollars."""
        return sum(PRICES[model] * count for model, count in self.paid.items())

    def sent_to(self, model: str) -> list[int]:
        """Return the rows that were sent to a model, in order."""
        return [row for name, row in self.sends if name == model]

    def client(self, config: ClientConfig) -> AsyncResponsesClient:
        """Return a client of the service."""
        return AsyncResponsesClient(config, pool=AsyncPool(httpx.MockTransport(self.respond)))

    async def respond(self, request: httpx.Request) -> httpx.Response:
        """Return the response to a request."""
        body = json.loads(request.content)
        model, row = body["model"], int(re.findall(r"hello (\d+)", json.dumps(body["input"]))[-1])
        self.sends.append((model, row))
        self.bodies.append(body)
        if asyncio.iscoroutine(waiting := self.before(model, row)):
            await waiting
        reply = dict(self.rules.get(model, lambda _: None)(row) or mood(model, row))
        if "http" in reply:
            headers = {"retry-after": str(reply["retry_after"])} if "retry_after" in reply else {}
            error = {"error": {"message": "as scripted", "code": reply["http"]}}
            return httpx.Response(reply["http"], json=error, headers=headers)
        self.paid[model] += 1
        content = {"type": "output_text", "text": reply.get("text"), "annotations": []}
        if "refusal" in reply:
            content = {"type": "refusal", "refusal": reply["refusal"]}
        output = [{"type": "message", "role": "assistant", "content": [content]}]
        usage = {"cost": PRICES[model], "total_tokens": 10, "input_tokens": 6, "output_tokens": 4}
        name, status = f"g-{len(self.sends)}", reply.get("status", "completed")
        more = {"incomplete_details": {"reason": "max_output_tokens"}} if status == "incomplete" else {}
        return httpx.Response(
            200, json={"id": name, "status": status, "model": model, "output": output, "usage": usage, **more}
        )

    def environment(self, **given: Any) -> Environment:
        """Return an environment with this service, on a clock that is fast."""
        return Environment(
            **{
                "client": self.client,
                "clock": lambda: time.monotonic() * 100,
                "sleep": lambda seconds: asyncio.sleep(seconds / 100),
                "tick": 0.01,
                "lease_seconds": 1e6,
                **given,
            }
        )

    def enrich(
        self, folder: Any, rows: int | list[Any], environment: Mapping[str, Any] | None = None, **given: Any
    ) -> dict[str, Any]:
        """Run an attempt, and return its manifest."""
        table = jobs.table(rows) if isinstance(rows, int) else rows
        request = TaskRequest(fields={}, output_type=jobs.Label, stream=False, cache=False)
        arguments = {"request": request, **given}
        return jobs.enrich(SERVER, folder, table, self.environment(**(environment or {})), **arguments)


def to_large(**given: Any) -> tuple[Escalation, ...]:
    """Return an escalation to the large model."""
    return (Escalation(model=LARGE, **given),)
