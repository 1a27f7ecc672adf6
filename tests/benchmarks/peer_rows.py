"""Rows through other libraries, each used as in its documentation: processes that ``test_enrich.py`` starts.

They run in an environment of their own, and this file imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import csv
import json
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel

MODEL = "openai/gpt-4o-mini"
Ask = Callable[[str], Awaitable[Any]]


class Label(BaseModel):
    mood: str
    score: int


def prompt(text: str) -> str:
    return f"Sentiment of this review, as one word: {text}"


@asynccontextmanager
async def openai(url: str, http_client: Any = None) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", timeout=600, http_client=http_client) as client:
        yield lambda text: client.responses.parse(model=MODEL, input=prompt(text), text_format=Label)


@asynccontextmanager
async def openai_on_aiohttp(url: str) -> AsyncIterator[Ask]:
    from openai import DefaultAioHttpClient

    async with openai(url, DefaultAioHttpClient()) as ask:
        yield ask


@asynccontextmanager
async def instructor(url: str) -> AsyncIterator[Ask]:
    from instructor import Mode, from_openai
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=url, api_key="none", timeout=600) as client:
        asking: Any = from_openai(client, mode=Mode.JSON)
        yield lambda text: asking.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": prompt(text)}], response_model=Label
        )


@asynccontextmanager
async def pydantic_ai(url: str) -> AsyncIterator[Ask]:
    from pydantic_ai import Agent, NativeOutput
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIResponsesModel("gpt-4o-mini", provider=OpenAIProvider(base_url=url, api_key="none"))
    agent = Agent(model, output_type=NativeOutput(Label))
    yield lambda text: agent.run(prompt(text))


PEERS = {
    "openai on aiohttp": openai_on_aiohttp,
    "openai": openai,
    "instructor": instructor,
    "pydantic-ai": pydantic_ai,
}


async def send(way: str, url: str, rows: Iterator[dict[str, str]], in_flight: int) -> int:
    async with PEERS[way](url) as ask:
        number = 0

        async def worker() -> None:
            nonlocal number
            for row in rows:
                await ask(row["text"])
                number += 1

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        return number


def used() -> float:
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime


def main(way: str, url: str, source: str, in_flight: str) -> None:
    began, before = time.monotonic(), used()
    with open(source, newline="") as file:
        rows = asyncio.run(send(way, url, csv.DictReader(file), int(in_flight)))
    seconds, cpu = time.monotonic() - began, used() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"rate": rows / seconds, "cpu": cpu / rows * 1000, "peak": peak, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
