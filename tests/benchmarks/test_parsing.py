"""
The cost of importing and making an operator in a DAG file. ``make bench`` prints the figures.

The limits are ratios of CPU times of one process, since milliseconds depend on the machine and on its other processes.
An import is compared with the execution of modules of Python's standard library, which is work of the same kind: code
is read from its bytecode, and classes are made. Making an operator is compared with making Airflow's.
"""

from __future__ import annotations

import compileall
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import airflow_provider_responses

PROCESSES = 3
# Times the modules of the standard library: about 0.9 and 1.5. `models.request` adds 1.4.
IMPORT_LIMIT = 1.4
ALL_LIMIT = 2.2  # of both operators and both decorators
MAKE_LIMIT = 10.0  # times a BaseOperator

MEASURE = """
import gc, json, time
from importlib import import_module
from importlib.util import find_spec, module_from_spec
try:
    import airflow.sdk
except ImportError:
    import airflow.models.baseoperator
from airflow.providers.common.compat import version_compat
from airflow.providers.common.compat.sdk import (
    AirflowConfigException, AirflowFailException, AirflowSkipException, BaseOperator, BaseOperatorLink,
    DecoratedOperator, TaskDeferred, conf, context_merge, determine_kwargs, task_decorator_factory,
)  # those that the operators and decorators use: Airflow's own imports do not count

YARDSTICK = (
    "argparse", "asyncio.base_events", "configparser", "dataclasses", "difflib", "doctest",
    "email._header_value_parser", "fractions", "ftplib", "http.cookiejar", "imaplib", "inspect", "ipaddress",
    "mailbox", "optparse", "pdb", "pickletools", "smtplib", "statistics", "subprocess", "tarfile", "unittest.mock",
    "xml.etree.ElementTree", "zipfile",
)
specs = [find_spec(name) for name in YARDSTICK if import_module(name)]

def execute():
    for spec in specs:
        spec.loader.exec_module(module_from_spec(spec))

def cpu(function):
    began = time.process_time()
    function()
    return time.process_time() - began

# The time of a collection depends on what Airflow has imported, and its moment on chance.
gc.collect()
gc.disable()
before = cpu(execute)
ours = cpu(lambda: import_module("airflow_provider_responses.operators.responses"))
others = cpu(lambda: [import_module("airflow_provider_responses." + name) for name in (
    "operators.enrich", "decorators.responses", "decorators.enrich",
)])
yardstick = (before + cpu(execute)) / 2
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
print("FIGURES", json.dumps({
    "import": ours / yardstick, "import_all": (ours + others) / yardstick, "import_ms": ours * 1e3,
    "import_all_ms": (ours + others) * 1e3, "make": made / plain, "make_ms": made * 1e3, "plain_ms": plain * 1e3,
}))
"""


def measure():
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, env=os.environ, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    (line,) = [line for line in run.stdout.splitlines() if line.startswith("FIGURES")]
    return json.loads(line.removeprefix("FIGURES"))


def test_importing_and_making_an_operator_is_cheap(record_property):
    # As in production, where only the first process compiles.
    compileall.compile_dir(Path(airflow_provider_responses.__file__).parent, quiet=1)
    runs = [measure() for _ in range(PROCESSES)]
    figures = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    record_property("figures", figures)
    print(
        f"\nimport over `import airflow.sdk`: {figures['import']:.2f} times the yardstick (limit {IMPORT_LIMIT:g}), "
        f"{figures['import_ms']:.1f} ms of CPU; with the enrichment and the decorators {figures['import_all']:.2f} "
        f"(limit {ALL_LIMIT:g}), {figures['import_all_ms']:.1f} ms\n"
        f"making an operator: {figures['make']:.1f} times a BaseOperator (limit {MAKE_LIMIT:g}), "
        f"{figures['make_ms']:.3f} ms of CPU against {figures['plain_ms']:.3f}"
    )
    assert figures["import"] <= IMPORT_LIMIT
    assert figures["import_all"] <= ALL_LIMIT
    assert figures["make"] <= MAKE_LIMIT
