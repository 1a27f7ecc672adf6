"""Streams with any combination of the sources of one response: each of them gives the same response."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.sse import StreamReader

from .test_garbage import endless, repeat_until_time_is_over

WORDS = ("alpha ", "beta\n", '"c"', " ", "{", "}", "x", "the end.", "\n\n", "\U0001f642")
SOURCES = ("text", "part", "item", "end")


def make_text(seed: random.Random) -> str:
    return "".join(seed.choice(WORDS) for _ in range(seed.randint(1, 6))) + str(seed.randint(100, 999))


def cut(text: str, seed: random.Random) -> list[str]:
    pieces = []
    while text:
        size = seed.randint(1, 5)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def damage(pieces: list[str], seed: random.Random) -> None:
    place = seed.randrange(len(pieces))
    if seed.random() < 0.5:
        del pieces[place]
    else:
        pieces.insert(place, pieces[place])


def make_events(seed: random.Random) -> tuple[list[tuple[str, ...]], list[dict[str, Any]]]:
    """Return the texts of the items of a response, and a stream with them."""
    named, placed = seed.choice([(True, True), (True, False), (False, True)])
    has_end = seed.random() < 0.5
    known, sent, final = [], [], []
    for index in range(seed.randint(1, 4)):
        is_call = seed.random() < 0.3
        name = f"item_{index}"
        at = ({"item_id": name} if named else {}) | ({"output_index": index} if placed else {})
        about = {"output_index": index} if placed else {}
        texts = (
            (json.dumps({"q": make_text(seed)}),)
            if is_call
            else tuple(f"{place}{make_text(seed)}" for place in range(seed.randint(1, 3)))
        )
        complete = call(name, texts[0]) if is_call else message(name, texts)
        hollow = call(name, "") if is_call else message(name, ())
        kinds = {kind for kind in SOURCES[:3] if seed.random() < 0.5 and not (is_call and kind == "part")}
        ends = len(kinds) + has_end
        sent.append({"type": "response.output_item.added", "item": hollow, **about})
        for place, text in enumerate(texts):
            where = at if is_call else {**at, "content_index": place}
            delta, done = (
                ("function_call_arguments", {"arguments": text}) if is_call else ("output_text", {"text": text})
            )
            if not ends or seed.random() < 0.7:
                pieces = cut(text, seed)
                if ends >= 2 and seed.random() < 0.7:
                    damage(pieces, seed)
                sent += [{"type": f"response.{delta}.delta", "delta": piece, **where} for piece in pieces]
            if "text" in kinds:
                sent.append({"type": f"response.{delta}.done", **done, **where})
            if "part" in kinds:
                part = {"type": "output_text", "text": text, "annotations": []}
                sent.append({"type": "response.content_part.done", "part": part, **where})
        if "item" in kinds or seed.random() < 0.5:
            item = complete if "item" in kinds else hollow
            sent.append({"type": "response.output_item.done", "item": item, **about})
        known.append(texts)
        final.append(complete)
    end = {"id": "resp_1", "status": "completed", "output": final if has_end else []}
    return known, [*sent, {"type": "response.completed", "response": end}]


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "id": name, "call_id": f"call_{name}", "name": "f", "arguments": arguments}


def message(name: str, texts: tuple[str, ...]) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "id": name, "role": "assistant", "content": content}


def texts_in(item: dict[str, Any]) -> tuple[str, ...]:
    return (item["arguments"],) if "arguments" in item else tuple(part["text"] for part in item["content"])


def test_every_combination_of_sources_gives_the_same_response() -> None:
    """A delta that is lost or repeated changes nothing if two sources hold the full text."""

    @endless
    @given(st.randoms(use_true_random=True))
    def check(seed: random.Random) -> None:
        known, events = make_events(seed)
        reader = StreamReader({}, request=RequestSummary(label="POST"))
        for event in events:
            reader.read(json.dumps(event))
        reader.end()
        response = reader.finish()
        assert [texts_in(item) for item in response.output] == known
        assert not response.inconsistent

    repeat_until_time_is_over(check)
