"""An Airflow of the tests' own: a home in a temporary folder, the database migrated once and copied."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(tempfile.mkdtemp(prefix="airflow-tests-"))
DAGS = HOME / "dags"
DATABASE = HOME / "airflow.db"

# Before Airflow is imported; the settings of whoever runs the tests must not reach them.
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{DATABASE}",
    "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
    "AIRFLOW__RESPONSES__MIN_DEFERRAL": "0",  # no test waits for a scheduler
    "NO_PROXY": "127.0.0.1,localhost",
}
DAGS.mkdir()

# A busy machine is not a failure.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")

pytest_plugins = ["airflow_provider_responses.testing"]

# They wait for processes, or for whole runs of DAGs, for seconds each.
LONGEST = frozenset(
    {
        "test_batch_crashes.py",
        "test_dags.py",
        "test_examples.py",
        "test_kill.py",
        "test_kills.py",
        "test_loops.py",
        "test_parsing.py",
        "test_provider.py",
        "test_secrets.py",
    }
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each process that shares the tests begin with its part of the longest: at the end, others would wait."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers > 1:
        long = [item for item in items if item.path.name in LONGEST]
        rest = [item for item in items if item.path.name not in LONGEST]
        parts = [
            (long[n::workers], rest[n * len(rest) // workers : (n + 1) * len(rest) // workers]) for n in range(workers)
        ]
        items[:] = [item for part in parts for group in part for item in group]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail a test that is skipped, and that the documentation's table of what is seen where needs on this version."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and is_needed(item.nodeid, version_of_airflow()):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} is skipped, and a cell of tests/observability/seen_where.py needs it"


def version_of_airflow() -> str:
    """Return the version, such as 3.3."""
    return ".".join(importlib.metadata.version("apache-airflow").split(".")[:2])


def is_needed(test: str, version: str) -> bool:
    """Whether a cell of the table needs a test, on a version of Airflow."""
    from tests.observability.seen_where import needed_tests

    test = test.partition("[")[0]
    return any(test == one or test.startswith(f"{one}::") for one in needed_tests(version))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests have counted, also where several processes share them."""
    for report in terminalreporter.getreports("passed"):
        for name, text in report.user_properties:
            if name == "counted":
                terminalreporter.write_line(text)


def pytest_sessionfinish() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture(scope="session")
def _one_api_server() -> None:
    """As Airflow 3.3 has it: 3.0 to 3.2 build one again, in seconds, for each task of ``dag.test()``."""
    try:
        from airflow.sdk.execution_time import supervisor
    except ImportError:
        return  # 2.11 has none
    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


@pytest.fixture(scope="session")
def airflow_db(_one_api_server: None) -> None:
    """A migrated database; migrated once per release of Airflow and kept in the checkout."""
    kept = ROOT / ".cache" / f"airflow-{importlib.metadata.version('apache-airflow')}.db"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        fresh = HOME / "fresh.db"
        env = os.environ | {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{fresh}"}
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
        mine = kept.with_suffix(f".{os.getpid()}")  # other processes may do the same
        shutil.copy(fresh, mine)
        mine.rename(kept)
    shutil.copy(kept, DATABASE)


@dataclass
class DagResult:
    """The results of a DAG run."""

    state: str
    states: dict[tuple[str, int], str]
    xcoms: dict[tuple[str, int, str], Any]

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        return self.xcoms[task_id, map_index, key]


@pytest.fixture
def run_dag(airflow_db: None) -> Iterator[Callable[..., DagResult]]:
    """Run the DAG of a file (or of source code) with ``dag.test()``."""
    copies: list[Path] = []

    def run(source: Path | str, dag_id: str, conf: dict[str, Any] | None = None) -> DagResult:
        target = DAGS / f"{dag_id}.py"
        target.write_text(source.read_text() if isinstance(source, Path) else source)
        copies.append(target)
        if isinstance(source, Path) and (prompts := source.parent / "prompts").is_dir():
            shutil.copytree(prompts, DAGS / "prompts", dirs_exist_ok=True)
        dag = load_dag(target, dag_id)
        return _collect(dag.test(run_conf=conf))

    yield run
    for copy in copies:
        copy.unlink(missing_ok=True)  # one DAG may have run twice


@pytest.fixture
def task_log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of a task, whose loggers reach no handler of the root logger on some versions of Airflow."""
    from airflow_provider_responses.operators.base import BaseResponsesOperator
    from airflow_provider_responses.triggers.base_trigger import ProviderTrigger

    logger = logging.getLogger("tests.task")
    for cls in (BaseResponsesOperator, ProviderTrigger):
        monkeypatch.setattr(cls, "log", logger, raising=False)
    caplog.set_level("INFO")
    return caplog


def load_dag(path: Path, dag_id: str) -> Any:
    """Load a DAG as Airflow's own loader does."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:
        from airflow.models.dagbag import DagBag
    # Python takes the bytecode of a text that was as long, and written in the same second.
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    bag = DagBag(str(path))
    if bag.import_errors:
        raise AssertionError("\n".join(bag.import_errors.values()))  # pytest would cut the message of an `assert`
    return bag.dags[dag_id]


def _collect(run: Any) -> DagResult:
    from airflow.models import xcom
    from airflow.utils.session import create_session
    from sqlalchemy import select

    model = xcom.XComModel if hasattr(xcom, "XComModel") else xcom.BaseXCom
    read = model.deserialize_value if hasattr(xcom, "XComModel") else lambda row: row.value  # 2.11 reads it on load
    from tests.usage import check_xcom

    with create_session() as session:
        rows = session.scalars(select(model).where(model.dag_id == run.dag_id, model.run_id == run.run_id)).all()
        values = {(row.task_id, row.map_index, row.key): read(row) for row in rows}
    for (_, _, key), value in values.items():
        check_xcom(key, value)
    instances = run.get_task_instances()
    states = {(ti.task_id, ti.map_index): str(ti.state) for ti in instances}
    return DagResult(state=str(run.state), states=states, xcoms=values)


@pytest.fixture(scope="session", autouse=True)
def _operators_run_outside_a_task_runner() -> None:
    """Let tests call ``execute()`` themselves."""
    try:
        from airflow.sdk.bases.operator import ExecutorSafeguard
    except ImportError:
        from airflow.models.baseoperator import ExecutorSafeguard

        ExecutorSafeguard._sentinel = SimpleNamespace(callers={})  # Airflow's is known to the main thread only
    ExecutorSafeguard.test_mode = True


@pytest.fixture
def responses_sandbox(responses_sandbox: Any) -> Iterator[Any]:
    """The sandbox; what it accepted must be a request by the official SDK's models too, which know nothing of ours."""
    yield responses_sandbox
    bodies = [entry.body for entry in responses_sandbox.ledger if entry.status == 200]
    if bodies:
        from openrouter.components import ResponsesRequest

        for body in bodies:
            ResponsesRequest.model_validate(body)
