"""Models that are silent are reported, and their requests are neither cancelled nor sent again."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from airflow_provider_responses.client import AsyncResponsesClient
from airflow_provider_responses.client.async_pool import AsyncPool
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.sender import Sender
from airflow_provider_responses.enrich.silence import SHORTEST, Silence, SilenceTracker
from airflow_provider_responses.exceptions import RequestCancelledError
from tests.enrich.jobs import enrich, table
from tests.enrich.service import FOREVER, Send, Service, dropped, run, status_error

SLOW, FAST = "slow/model", "fast/model"


def silences_of(service: Service, rows: int, *moments: float, **given: object) -> list[Silence | None]:
    """Return the silence at some moments, after which sending is cancelled."""
    found: list[Silence | None] = []

    async def look(sender: Sender) -> None:
        loop = asyncio.get_running_loop()
        for moment in moments:
            await asyncio.sleep(moment - loop.time())
            found.append(sender.silence.current(loop.time()))
        sender.cancel(RequestCancelledError("the test ends"))

    run(service, rows, meanwhile=look, **given)
    return found


def test_silence_before_the_first_response_is_reported_from_30_seconds_on():
    service = Service(lambda _: FOREVER)
    assert silences_of(service, 100, 29.0, 30.0, 45.0, concurrency=8) == [None, Silence(30.0, ()), Silence(45.0, ())]
    assert len(service.sends) == 8, "silent requests are neither sent again nor replaced"


def test_a_model_whose_requests_all_hang_beside_a_healthy_one_is_named():
    """Rows alternate between the models; those of the silent one stay open."""
    service = Service(lambda send: FOREVER if send.number % 2 else None)
    found = silences_of(service, 400, 10.0, 45.0, models=(FAST, SLOW), concurrency=32, initial_window=8)
    assert found == [None, Silence(45.0, (SLOW,))]
    assert max(service.sends_of.values()) == 1, "nothing is sent again"
    assert service.responded.total() > 0


def test_a_response_ends_the_silence():
    latency = iter([50.0] * 4 + [1000.0] * 100)
    service = Service(latency=lambda: next(latency))
    assert silences_of(service, 100, 49.0, 51.0, 130.0, 160.0, concurrency=4) == [
        Silence(49.0, ()),
        None,
        None,  # shorter than twice the longest response
        Silence(110.0, ()),
    ]


def test_an_error_of_the_server_is_a_response_and_a_lost_connection_is_none():
    def refuse(send: Send) -> object:
        return status_error(500) if send.now < 1 else FOREVER

    def drop(send: Send) -> object:
        return dropped() if send.nth == 1 else FOREVER

    for say, since in ((refuse, 20.0), (drop, 0.0)):
        [silence] = silences_of(Service(say, latency=20.0), 1, 70.0, concurrency=1)
        assert silence is not None
        assert silence.seconds == pytest.approx(70.0 - since, abs=0.5)  # it is sent again after a short wait


def test_a_model_without_open_requests_is_not_silent():
    tracker = SilenceTracker()
    tracker.sent("a", 0.0)
    tracker.ended("a", 1.0, 1.0)
    assert tracker.current(1000.0) is None
    tracker.sent("a", 1000.0)
    assert tracker.current(1000.0 + SHORTEST - 1) is None
    assert tracker.current(1000.0 + SHORTEST) == Silence(SHORTEST, ())


def test_the_progress_line_reports_silence(responses_sandbox, tmp_path, caplog):
    """On a clock that advances with each progress line."""
    begun: Counter[str] = Counter()
    seen = asyncio.Event()

    async def respond(request: httpx.Request) -> httpx.Response:
        begun["sends"] += 1
        await seen.wait()
        content = [{"type": "output_text", "text": '{"mood": "good"}', "annotations": []}]
        output = [{"type": "message", "role": "assistant", "content": content}]
        return httpx.Response(200, json={"status": "completed", "output": output, "usage": {"cost": 0.1}})

    now = [0.0]

    def report(_: object) -> None:
        now[0] += 15.0
        if now[0] > 45.0:
            seen.set()

    def client(config: object) -> AsyncResponsesClient:
        return AsyncResponsesClient(config, pool=AsyncPool(httpx.MockTransport(respond)))

    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    environment = Environment(tick=0.002, progress_seconds=0.0, report=report, client=client, clock=clock)
    with caplog.at_level(logging.INFO):
        told = enrich(responses_sandbox, tmp_path, table(3), environment, limits=Limits(concurrency=2))
    assert told["counts"] == {"ok": 3}
    lines = [record.message for record in caplog.records if "/3 requests, " in record.message]
    assert "0/3 requests, 0.0/s, no response for 45 s, time left unknown, $0.00, 0 failed, 0 resent" in lines[3]
    assert not any("no response" in line for line in (*lines[:2], *lines[4:]))
    assert begun["sends"] == 3
