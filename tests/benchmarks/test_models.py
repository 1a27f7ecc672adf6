"""The cost of checking a request, and of importing its model. ``make bench`` prints the figures."""

from __future__ import annotations

import gc
import json
import statistics
from typing import Any

import pytest

from airflow_provider_responses.models import ResponsesRequest
from tests.benchmarks.yardstick import cpu, figures

CHECK_LIMIT = 3.0  # times json.dumps and json.loads of a typical request: about 1.7
IMPORT_LIMIT = 3.0  # times the modules of the standard library: about 1.3

SCHEMA = {
    "type": "object",
    "properties": {
        name: {"type": "string", "description": f"What {name} is, in a sentence.", "enum": ["a", "b", "c"]}
        for name in ("place", "unit", "from", "until", "language", "format")
    },
    "required": ["place"],
    "additionalProperties": False,
}
PARTS = [
    {"type": "input_text", "text": "What is in this picture? " * 5},
    {"type": "input_image", "detail": "auto", "image_url": "https://example.com/picture.png"},
]
REQUEST: dict[str, Any] = {
    "model": "openai/gpt-4o-mini",
    "temperature": 0.2,
    "input": [{"role": "user", "content": PARTS if number % 2 else "And what else? " * 10} for number in range(20)],
    "tools": [
        {"type": "function", "name": f"tool_{number}", "description": "Looks up.", "parameters": SCHEMA, "strict": True}
        for number in range(5)
    ],
}
MEASURE = """
import pydantic

class Any_(pydantic.BaseModel):
    number: int = 0

from airflow_provider_responses import exceptions

before = standard_library()
imported = cpu(lambda: __import__("airflow_provider_responses.models.request"))
yardstick = (before + standard_library()) / 2
figures = {"times": imported / yardstick, "ms": imported * 1e3}
"""


def test_checking_a_typical_request_is_cheap(record_property):
    sent = ResponsesRequest.parse(REQUEST).to_bytes()
    gc.collect()
    gc.freeze()  # what other tests left behind is not this one's cost
    ours, copies = [], []
    for _ in range(1000):  # in turn, so that both meet the same machine
        copies.append(cpu(lambda: json.loads(json.dumps(REQUEST))))
        ours.append(cpu(lambda: ResponsesRequest.parse(REQUEST).to_bytes()))
    gc.unfreeze()
    figure, copy = statistics.median(ours), statistics.median(copies)
    record_property("figure", figure / copy)
    print(
        f"\nchecking and serializing 20 messages and 5 tools: {figure / copy:.2f} times json.dumps and json.loads "
        f"(limit {CHECK_LIMIT:g}), {figure * 1e3:.3f} ms of CPU"
    )
    assert json.loads(sent) == REQUEST
    assert figure <= CHECK_LIMIT * copy


@pytest.mark.timeout(600)  # it starts processes, and the machine may be busy
def test_importing_the_model_is_cheap(record_property):
    runs = [figures(MEASURE) for _ in range(3)]
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    record_property("figures", found)
    print(
        f"\nimporting the model of a request, over pydantic's own: {found['times']:.1f} times the standard library's "
        f"modules (limit {IMPORT_LIMIT:g}), {found['ms']:.0f} ms of CPU"
    )
    assert found["times"] <= IMPORT_LIMIT
