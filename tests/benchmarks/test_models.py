"""What checking a request costs, and importing its model. ``make bench`` prints the figures."""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from airflow_provider_responses.models import ResponsesRequest

CHECK_LIMIT = 0.3  # ms for checking and serializing a typical request
IMPORT_LIMIT = 150.0  # ms over `import pydantic` with one model

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
import json, time
from pydantic import BaseModel
from airflow_provider_responses import exceptions

class Any_(BaseModel):
    number: int = 0

began = time.process_time()
from airflow_provider_responses.models import request
print("FIGURES", json.dumps((time.process_time() - began) * 1e3))
"""


def median_of_a_round() -> float:
    gc.collect()
    gc.freeze()  # what other tests left behind is not this one's cost
    times = []
    for _ in range(300):
        began = time.process_time()
        ResponsesRequest.parse(REQUEST).to_bytes()
        times.append((time.process_time() - began) * 1e3)
    return statistics.median(times)


def test_checking_a_typical_request_is_cheap(record_property):
    sent = ResponsesRequest.parse(REQUEST).to_bytes()
    figure = min(median_of_a_round() for _ in range(5))  # neighbours on the machine only ever add
    record_property("figure", figure)
    print(f"\nchecking and serializing 20 messages and 5 tools: {figure:.3f} ms of CPU (limit {CHECK_LIMIT:g})")
    assert json.loads(sent) == REQUEST
    assert figure <= CHECK_LIMIT


def imported() -> float:
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, env=os.environ, check=True)
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("FIGURES")]
    return float(json.loads(line.removeprefix("FIGURES")))


def test_importing_the_model_is_cheap(record_property):
    figure = statistics.median(imported() for _ in range(3))
    record_property("figure", figure)
    print(f"\nimporting the model of a request: {figure:.0f} ms of CPU over pydantic's own (limit {IMPORT_LIMIT:g})")
    assert figure <= IMPORT_LIMIT
