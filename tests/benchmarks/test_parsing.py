"""What a DAG file pays for importing and making an operator. ``make bench`` prints the figures."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

IMPORT_LIMIT = 50.0  # ms over `import airflow.sdk`
MAKE_LIMIT = 0.5  # ms over a BaseOperator

MEASURE = """
import json, time
try:
    import airflow.sdk
except ImportError:
    import airflow.models.baseoperator
from airflow.providers.common.compat.sdk import BaseOperator

began = time.process_time()
from airflow_provider_responses.operators.responses import ResponsesOperator
imported = time.process_time() - began

def cost(make):
    times = []
    for number in range(300):
        began = time.process_time()
        make(f"task_{number}")
        times.append(time.process_time() - began)
    return sorted(times)[len(times) // 2]

plain = cost(lambda task_id: BaseOperator(task_id=task_id))
ours = cost(lambda task_id: ResponsesOperator(
    task_id=task_id, model="openai/gpt-4o-mini", input="About {{ ds }}", instructions="Be brief.",
    request={"temperature": 0, "metadata": {"team": "data"}}, options={"timeout": 30},
))
print("FIGURES", json.dumps({"import": imported * 1e3, "make": (ours - plain) * 1e3, "plain": plain * 1e3}))
"""


def measure():
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, env=os.environ, check=True)
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("FIGURES")]
    return json.loads(line.removeprefix("FIGURES"))


def test_importing_and_making_an_operator_is_cheap(record_property):
    runs = [measure() for _ in range(3)]
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    record_property("figures", figures)
    print(
        f"\nimport: {figures['import']:.1f} ms of CPU over `import airflow.sdk` (limit {IMPORT_LIMIT:g}); "
        f"making an operator: {figures['make']:.3f} ms over a BaseOperator's {figures['plain']:.3f} "
        f"(limit {MAKE_LIMIT:g})"
    )
    assert figures["import"] <= IMPORT_LIMIT
    assert figures["make"] <= MAKE_LIMIT
