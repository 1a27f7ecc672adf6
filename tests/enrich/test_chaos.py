"""A service that fails all the time, and is down for a minute. The time is simulated: waits take none."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from airflow_provider_responses.client import AsyncResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.sandbox.state.random_faults import Faults
from tests.enrich.jobs import connect, enrich, manifest, result, table

SERVER = SimpleNamespace(base_url="http://127.0.0.1:1/api/v1")  # no server is there
ROWS = 500
CHAOS = {"429": 0.2, "500": 0.02, "502": 0.02, "503": 0.01, "malformed": 0.02}
LATENCY = 0.5
OUTAGE = (5.0, 65.0)
REFUSED = "refused"  # of connections


class Time:
    """A clock that advances when every task waits for it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._passing: asyncio.Task[None] | None = None

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (self.now + seconds, next(self._numbers), woken))
        if self._passing is None or self._passing.done():
            self._passing = asyncio.create_task(self._pass())
        await woken

    async def _pass(self) -> None:
        while self._waiting:
            for _ in range(20):  # other tasks run first
                await asyncio.sleep(0)
            due, _, woken = heapq.heappop(self._waiting)
            if not woken.done():
                self.now = max(self.now, due)
                woken.set_result(None)


class Service:
    """
    Responds, fails, or is down.

    :param outage: what it does from 5 to 65 s: a status, or ``REFUSED``.
    """

    def __init__(self, time: Time, outage: int | str | None, faults: Faults) -> None:
        self.time, self.outage, self.faults = time, outage, faults
        self.turns: Counter[str] = Counter()
        self.calls: list[tuple[float, str]] = []
        self.told: list[tuple[float, float, str]] = []  # from when to when nothing may be sent, and to which row
        self.outcomes: Counter[str] = Counter()

    def client(self, config: Any) -> AsyncResponsesClient:
        return AsyncResponsesClient(config, pool=AsyncPool(httpx.MockTransport(self.respond)))

    async def respond(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)["input"]
        self.calls.append((self.time.now, asked))
        turn = self.turns[asked]
        self.turns[asked] += 1
        await self.time.sleep(LATENCY)
        if self.outage is not None and OUTAGE[0] <= self.time.now < OUTAGE[1]:
            self.outcomes["outage"] += 1
            if self.outage == REFUSED:
                raise httpx.ConnectError("refused", request=request)
            return httpx.Response(int(self.outage), json={"error": {"message": "away"}})
        step = self.faults.pick(asked, turn)
        if step is None:
            self.outcomes["ok"] += 1
            return httpx.Response(200, json=response_to(asked))
        self.outcomes[str(step.status or "malformed")] += 1
        if step.malformed:
            return httpx.Response(200, content=json.dumps(response_to(asked))[:-20])
        headers = {}
        if step.status == 429:
            headers["retry-after"] = str(1 + len(self.told) % 4)
            self.told.append((self.time.now, self.time.now + float(headers["retry-after"]), asked))
        return httpx.Response(step.status, json={"error": {"message": "not now"}}, headers=headers)


def response_to(asked: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": json.dumps({"mood": asked}), "annotations": []}]
    return {
        "id": f"resp_{asked}",
        "object": "response",
        "status": "completed",
        "model": "openai/gpt-4o-mini",
        "output": [{"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": content}],
        "usage": {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10, "cost": 0.001},
    }


def surroundings(time: Time, service: Service) -> Environment:
    return Environment(clock=time, sleep=time.sleep, draw=lambda: 0.5, client=service.client)


@pytest.mark.parametrize("outage", [None, REFUSED, 500, 503])
def test_all_rows_get_a_response(outage, tmp_path):
    time = Time()
    service = Service(time, outage, Faults(seed=1, rates=CHAOS))
    told = enrich(SERVER, tmp_path, table(ROWS), surroundings(time, service))

    rows = result(tmp_path)
    assert [(row["_row"], row["mood"], row["_status"]) for row in rows] == [
        (number, f"Mood of hello {number}", "ok") for number in range(ROWS)
    ]
    assert told["counts"] == {"ok": ROWS}
    assert told["requests_sent"] == len(service.calls) == service.outcomes.total()
    assert {"429", "500", "502", "503", "malformed", "ok"} <= service.outcomes.keys()
    assert service.outcomes["429"] > 80

    # Not before `Retry-After`; others are sent meanwhile.
    for begins, ends, row in service.told:
        assert not [call for call in service.calls if begins < call[0] < ends - 1e-6 and call[1] == row]
    if outage is None:
        assert time.now < 30
    if outage is not None:
        assert time.now > OUTAGE[1]
        # During the outage only requests in flight at its start, and a few probes, one at a time.
        assert 5 < service.outcomes["outage"] < 2 * 64 + 20
        late = [at for at, _ in service.calls if OUTAGE[0] + 10 < at < OUTAGE[1] - LATENCY]
        assert len(late) <= (12 if outage == REFUSED else 8)
        assert max(at for at, _ in service.calls) > OUTAGE[1]


@pytest.mark.parametrize("outage", [REFUSED, 500, 503])
def test_a_service_that_stays_down_ends_the_attempt_and_the_next_continues(outage, tmp_path):
    time = Time()
    service = Service(time, outage, Faults())
    limits = Limits(concurrency=32, max_outage=30.0)
    with pytest.raises(ResponsesError, match=r"no response for 30 s \(limits.max_outage\)") as caught:
        enrich(SERVER, tmp_path, table(1500), surroundings(time, service), limits=limits)
    assert caught.value.retryable
    assert OUTAGE[0] + 30 <= time.now < OUTAGE[1]
    counts = manifest(tmp_path)["counts"]
    assert counts.keys() == {"ok", "missing"}, "no row has failed"

    done, before = counts["ok"], len(service.calls)
    time.now = OUTAGE[1]
    told = enrich(SERVER, tmp_path, table(1500), surroundings(time, service), limits=limits)
    assert told["counts"] == {"ok": 1500}
    assert len(service.calls) - before == 1500 - done


def test_an_outage_uses_no_retries(tmp_path):
    time = Time()
    service = Service(time, 500, Faults())
    config = replace(connect(SERVER.base_url), max_retries=2)
    limits = Limits(concurrency=2)
    told = enrich(SERVER, tmp_path, table(100), surroundings(time, service), config=config, limits=limits)
    assert told["counts"] == {"ok": 100}
    assert max(row["_sends"] for row in result(tmp_path)) > 1 + config.max_retries


def test_a_wait_longer_than_max_outage_is_left_to_airflow(tmp_path):
    time = Time()

    class Later(Service):
        async def respond(self, request: httpx.Request) -> httpx.Response:
            self.calls.append((time.now, ""))
            return httpx.Response(429, json={"error": {"message": "later"}}, headers={"retry-after": "3600"})

    service = Later(time, None, Faults())
    with pytest.raises(ResponsesError) as caught:
        enrich(SERVER, tmp_path, table(100), surroundings(time, service))
    assert (caught.value.retry_after, caught.value.retryable) == (3600, True)
    assert len(service.calls) <= 64
    assert time.now == 0.0


def test_a_resend_after_an_invalid_output_waits_for_the_rate_limit(tmp_path):
    """The first output is invalid, and the account's limit is used up meanwhile."""
    time = Time()

    class Untyped(Service):
        async def respond(self, request: httpx.Request) -> httpx.Response:
            given = json.loads(request.content)["input"]
            asked = given if isinstance(given, str) else given[0]["content"]  # the reason follows it
            self.calls.append((time.now, asked))
            self.turns[asked] += 1
            if self.turns[asked] > 1:
                return httpx.Response(200, json=response_to(asked))
            if asked == "Mood of hello 1":
                self.told.append((time.now, time.now + 5.0, asked))
                headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "5"}
                return httpx.Response(429, json={"error": {"message": "later"}}, headers=headers)
            await time.sleep(1.0)
            untyped = response_to(asked) | {"id": "resp_first"}
            untyped["output"][0]["content"][0]["text"] = "no JSON"
            return httpx.Response(200, json=untyped)

    service = Untyped(time, None, Faults())
    told = enrich(SERVER, tmp_path, table(2), surroundings(time, service))
    assert told["counts"] == {"ok": 2}
    assert told["requests_sent"] == len(service.calls) == 4
    assert told["cost"] == pytest.approx(0.003)
    assert [at for at, _ in service.calls[2:]] == [pytest.approx(5.0, abs=0.5)] * 2
    assert min(at for at, _ in service.calls[2:]) >= 5.0
