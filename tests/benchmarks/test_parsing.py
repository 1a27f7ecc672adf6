"""
The cost of importing and making an operator in a DAG file. ``make bench`` prints the figures.

The limits are ratios of CPU times of one process, since milliseconds depend on the machine and on its other processes.
An import is compared with the execution of modules of Python's standard library, which is work of the same kind. Making
an operator is compared with making Airflow's.
"""

from __future__ import annotations

import compileall
import statistics
from pathlib import Path

import pytest

import airflow_provider_responses
from tests.benchmarks.yardstick import figures

PROCESSES = 3
# Times the modules of the standard library: about 0.9 and 1.5. `models.request` adds 1.4.
IMPORT_LIMIT = 1.4
ALL_LIMIT = 2.2  # of both operators and both decorators
MAKE_LIMIT = 10.0  # times a BaseOperator: about 3.6

MEASURE = """
import gc
from importlib import import_module
try:
    import airflow.sdk
except ImportError:
    import airflow.models.baseoperator
from airflow.providers.common.compat import version_compat
from airflow.providers.common.compat.sdk import (
    AirflowConfigException, AirflowFailException, AirflowSkipException, BaseOperator, BaseOperatorLink,
    DecoratedOperator, TaskDeferred, conf, context_merge, determine_kwargs, task_decorator_factory,
)  # those that the operators and decorators use: Airflow's own imports do not count

# The time of a collection depends on what Airflow has imported, and its moment on chance.
gc.collect()
gc.disable()
before = standard_library()
ours = cpu(lambda: import_module("airflow_provider_responses.operators.responses"))
others = cpu(lambda: [import_module("airflow_provider_responses." + name) for name in (
    "operators.enrich", "decorators.responses", "decorators.enrich",
)])
yardstick = (before + standard_library()) / 2
gc.enable()

from airflow_provider_responses.operators.responses import ResponsesOperator

plain, made = [], []
for number in range(300):  # in turn, so that both meet the same machine
    plain.append(cpu(lambda: BaseOperator(task_id=f"plain_{number}")))
    made.append(cpu(lambda: ResponsesOperator(
        task_id=f"task_{number}", model="openai/gpt-4o-mini", input="About {{ ds }}", instructions="Be brief.",
        request={"temperature": 0, "metadata": {"team": "data"}}, options={"timeout": 30},
    )))
plain, made = (sorted(times)[len(times) // 2] for times in (plain, made))
figures = {
    "import": ours / yardstick, "import_all": (ours + others) / yardstick, "import_ms": ours * 1e3,
    "import_all_ms": (ours + others) * 1e3, "make": made / plain, "make_ms": made * 1e3, "plain_ms": plain * 1e3,
}
"""


@pytest.mark.timeout(600)  # a busy machine may take minutes to import Airflow
def test_importing_and_making_an_operator_is_cheap(record_property):
    # As in production, where only the first process compiles.
    compileall.compile_dir(Path(airflow_provider_responses.__file__).parent, quiet=1)
    runs = [figures(MEASURE) for _ in range(PROCESSES)]
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    record_property("figures", found)
    print(
        f"\nimport over `import airflow.sdk`: {found['import']:.2f} times the standard library's modules (limit "
        f"{IMPORT_LIMIT:g}), {found['import_ms']:.1f} ms of CPU; with the enrichment and the decorators "
        f"{found['import_all']:.2f} times (limit {ALL_LIMIT:g}), {found['import_all_ms']:.1f} ms\n"
        f"making an operator: {found['make']:.1f} times a BaseOperator (limit {MAKE_LIMIT:g}), "
        f"{found['make_ms']:.3f} ms of CPU against {found['plain_ms']:.3f}"
    )
    assert found["import"] <= IMPORT_LIMIT
    assert found["import_all"] <= ALL_LIMIT
    assert found["make"] <= MAKE_LIMIT
