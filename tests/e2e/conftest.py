"""
One Airflow for all of these tests, with every case as a DAG of its own.

A case is a name and an execution mode. Each has a connection, and behind it a sandbox with its own script and ledger,
so that many cases can run at once.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_4_PLUS

from airflow_provider_responses.sandbox import LedgerEntry, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.deployment import Deployment, TaskInstance

# Only the environment of `make e2e` has PostgreSQL's drivers.
collect_ignore_glob = ["test_*.py"] if importlib.util.find_spec("psycopg2") is None else []
# And that of `make e2e-celery` has Celery.
collect_ignore = ["test_celery.py"] if importlib.util.find_spec("celery") is None else []

ARGUMENTS: dict[str, dict[str, Any]] = {
    "worker": {},
    "deferred": {"deferrable": True},
    "from_trigger": {"start_from_trigger": True},
}
MODES = tuple(ARGUMENTS)
IN_TRIGGERER = tuple(mode for mode in MODES if mode != "worker")
TASK = "ask"
TEXT = "Say hello to everybody who reads this."
ORDERED = {"zeta": "{{ run_id }}", "alpha": "2"}  # PostgreSQL's jsonb would reorder them

# Names of cases, by the file that tests them.
SINGLE_REQUESTS = (
    "plain",
    "typed",
    "whole",
    "cleared",
    "rate_limited",
    "sent_away",
    "retried",
    "out_of_credits",
    "refused",
    "marked_failed",
    "undefined",
)
KILLS = ("kill_pair_working", "kill_task_working", "kill_pair_completed", "kill_task_completed")
TRIGGERER_KILLS = ("kill_triggerer_working", "kill_triggerer_completed")
CLEARED_WAITING = "cleared_waiting"
APPROVAL = "approval"
RESUMES = ("resume_fails_once", "reading_dies_once")
ENRICHED = ("process_killed", "user_ends_it")
BATCHED = (
    "killed_before_post",
    "killed_after_post_running",
    "killed_after_post_finished",
    "killed_while_landing",
    "triggerer_killed",
    "marked_failed",
)
OPENAI_BATCHED = ("marked_failed", "cleared")  # of a server that can cancel batches
# Of a loop of tools: the point at which its first attempt is killed, and what follows for a call without a record.
TOOLS = (
    "before_send",
    "after_send",
    "before_record",
    "in_call_repeat",
    "in_call_fail",
    "after_record",
    "deferred",
    "cleared",
)
LOOPED = ("looped",) if AIRFLOW_V_3_4_PLUS else ()
ITERATIONS = 3

DAG_FILE = """
import datetime
import os
from pathlib import Path

from airflow.sdk import DAG, Asset
from pydantic import BaseModel, field_validator

from airflow_provider_responses.operators.responses import ResponsesOperator


class Label(BaseModel):  # which the triggerer cannot import
    zeta: str
    alpha: str


class DiesOnce(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def dies_once(cls, text, info):
        died = Path(__file__).with_suffix("." + os.environ["AIRFLOW_CTX_DAG_ID"])
        if not died.exists():
            died.touch()
            os._exit(1)
        return text


class FailsOnce(ResponsesOperator):
    def execute_complete(self, *args, **kwargs):
        failed = Path(__file__).with_suffix("." + self.dag_id)
        if not failed.exists():
            failed.touch()
            raise RuntimeError("this happens once")
        return super().execute_complete(*args, **kwargs)


defaults = {{"retries": 2, "retry_delay": datetime.timedelta(seconds=1)}}
for name, arguments in {cases!r}.items():
    with DAG(name, schedule=None, default_args=defaults):
        if "resume" in name:
            # Airflow 3.3 makes asset events for tasks that end on a worker only.
            FailsOnce(task_id="{task}", outlets=[Asset(name)], **arguments)
        elif "dies" in name:
            ResponsesOperator(task_id="{task}", output_type=DiesOnce, **arguments)
        elif "typed" in name:
            ResponsesOperator(task_id="{task}", output_type=Label, **arguments)
        elif "whole" in name:
            ResponsesOperator(task_id="{task}", result="response", **arguments)
        elif "looped" in name:
            from airflow.sdk import task_group

            @task_group
            def again():
                ResponsesOperator(task_id="{task}", **arguments)

            again.loop(max_iterations={iterations})
        else:
            ResponsesOperator(task_id="{task}", **arguments)
"""

ROWS = 30  # of a table that is enriched
AT_ONCE = 4
ENRICH_FILE = """
import datetime

from airflow.sdk import DAG

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

for name in {dag_ids!r}:
    with DAG(name, schedule=None, default_args={{"retries": 2, "retry_delay": datetime.timedelta(seconds=1)}}):
        ResponsesEnrichOperator(
            task_id="{task}",
            conn_id=name,
            model="openai/gpt-4o-mini",
            source=[{{"id": n}} for n in range({rows})],
            input=lambda row: f"Mood of review {{row['id']}}.",
            key="id",
            output_path="{folder}/" + name,
            limits={{"concurrency": {at_once}}},
        )
"""

BATCH_ROWS = 300
BATCH_SIZE = 100
PART_ROWS = 40
# The first attempt of a task ends in its own SIGKILL, at the point that its name says.
BATCH_FILE = """
import datetime
import os
import signal
from dataclasses import replace

from airflow.sdk import DAG

from airflow_provider_responses.batch import orphans
from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.enrich.output_store import OutputStore
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator


def killed_at_call(number, original, *, before):
    calls = []

    def call(*args, **kwargs):
        calls.append(args)
        if before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if not before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


class KilledOnce(ResponsesEnrichOperator):
    def set_kill_point(self, context):
        # An intent whose batch the server does not list at once has none.
        vars(orphans).update({{name: 0 for name in vars(orphans) if name.startswith("GRACE")}})
        if context["ti"].try_number > 1:
            return
        if "before_post" in self.dag_id:
            ResponsesClient.create_batch = killed_at_call(2, ResponsesClient.create_batch, before=True)
        elif "after_post" in self.dag_id:
            ResponsesClient.create_batch = killed_at_call(2, ResponsesClient.create_batch, before=False)
        elif "while_landing" in self.dag_id:
            OutputStore.append = killed_at_call(1, OutputStore.append, before=False)

    def environment(self, report):
        return replace(super().environment(report), part_rows={part_rows})

    def execute(self, context):
        self.set_kill_point(context)
        return super().execute(context)

    def execute_complete(self, context, event):
        self.set_kill_point(context)
        return super().execute_complete(context, event)


for name in {dag_ids!r}:
    with DAG(name, schedule=None, default_args={{"retries": 2, "retry_delay": datetime.timedelta(seconds=1)}}):
        KilledOnce(
            task_id="{task}",
            conn_id=name,
            model="openai/gpt-4o-mini",
            source="{source}",
            input="Mood of: {{{{ row.text }}}}",
            key="id",
            output_path="{folder}/" + name,
            mode="batch",
            limits={{"max_batch_requests": {size}}},
        )
"""


TOOL_STEPS = 5
DEFERRED_TOOL_STEPS = 3  # each waits for min_deferral
# The first attempt of a task ends in its own SIGKILL, in step 3, at the point that its name says.
TOOL_FILE = """
import datetime
import os
import signal
from pathlib import Path

from airflow.sdk import DAG, get_current_context

from airflow_provider_responses.client import ResponsesClient
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.tools import IdempotencyKey
from airflow_provider_responses.tools.records import Records

KILLED_IN = 3


def killed_at_call(number, original, *, before):
    calls = []

    def call(*args, **kwargs):
        calls.append(args)
        if before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if not before and len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def charge(order: int, key: IdempotencyKey) -> str:
    "Charge an order."
    context = get_current_context()
    path = Path(__file__).with_suffix("." + context["dag"].dag_id)
    with path.open("a") as file:
        file.write(f"{{order}} {{key}}\\n")
    if "in_call" in path.suffix and context["ti"].try_number == 1 and path.read_text().count("\\n") == KILLED_IN:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"charged {{order}}"


class KilledOnce(ResponsesOperator):
    def execute(self, context):
        if context["ti"].try_number == 1:
            if "before_send" in self.dag_id:
                ResponsesClient.send = killed_at_call(KILLED_IN, ResponsesClient.send, before=True)
            elif "after_send" in self.dag_id:
                ResponsesClient.send = killed_at_call(KILLED_IN, ResponsesClient.send, before=False)
            elif "before_record" in self.dag_id:
                Records.set_step = killed_at_call(KILLED_IN, Records.set_step, before=True)
            elif "after_record" in self.dag_id:
                Records.set_result = killed_at_call(KILLED_IN, Records.set_result, before=False)
        return super().execute(context)

    def execute_complete(self, context, event=None, **kwargs):
        if "deferred" in self.dag_id and len(kwargs["tool_loop"]["steps"]) == KILLED_IN - 1:
            died = Path(__file__).with_suffix("." + self.dag_id + "_died")
            if not died.exists():
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().execute_complete(context, event, **kwargs)


for name in {dag_ids!r}:
    with DAG(name, schedule=None, default_args={{"retries": 2, "retry_delay": datetime.timedelta(seconds=1)}}):
        KilledOnce(
            task_id="{task}",
            conn_id=name,
            model="sandbox/calls-{deferred_steps}" if "deferred" in name else "sandbox/calls-{steps}",
            input="charge all orders",
            tools=[charge],
            deferrable="deferred" in name,
            on_interrupted_tool="repeat" if "repeat" in name else "fail",
        )
"""


@dataclass
class Case:
    """A DAG with one task, its sandbox, and its one run."""

    dag_id: str
    deployment: Deployment
    sandbox: Sandbox
    run_id: str = field(default="")

    def start(self, *script: Mapping[str, Any]) -> None:
        """Trigger the run; the script sets the outcomes of its requests."""
        self.sandbox.script(*script)
        self.run_id = self.deployment.trigger(self.dag_id)

    def wait(self) -> str:
        """Wait for the end of the run; return its state."""
        return self.deployment.wait_for_run(self.dag_id, self.run_id)

    def wait_for_calls(self, *outcomes: str) -> None:
        """Wait until the ledger has exactly these outcomes."""
        self.deployment.wait_until(
            lambda: self.outcomes == list(outcomes),
            f"the calls of {self.dag_id} to be {outcomes}",
            details=lambda: f"{self.ledger}\n{self.deployment.logs(self.dag_id, self.run_id)}",
        )

    def clear(self) -> None:
        self.deployment.clear(self.dag_id, self.run_id, TASK)

    def mark_failed(self) -> None:
        self.deployment.mark_failed(self.dag_id, self.run_id, TASK)

    def processes(self) -> tuple[int, int]:
        """The process of the running task, and its supervisor."""
        return self.deployment.processes(self.dag_id, self.run_id, TASK)

    @property
    def task(self) -> TaskInstance:
        found = self.deployment.task(self.dag_id, self.run_id, TASK)
        assert found is not None
        return found

    @property
    def xcoms(self) -> dict[str, Any]:
        return self.deployment.xcoms(self.dag_id, self.run_id, TASK)

    @property
    def ledger(self) -> list[LedgerEntry]:
        return self.sandbox.ledger

    @property
    def outcomes(self) -> list[str]:
        return [entry.outcome for entry in self.ledger]

    @property
    def billed(self) -> list[LedgerEntry]:
        return self.sandbox.billed

    @property
    def bodies(self) -> set[str]:
        """The hashes of all bodies that were sent."""
        return {entry.body_sha256 for entry in self.ledger}


def case_names() -> Sequence[tuple[str, str]]:
    """Return every pair of a mode and a case."""
    names = [(mode, name) for mode in MODES for name in SINGLE_REQUESTS + LOOPED]
    names += [("worker", name) for name in (*KILLS, APPROVAL)]
    names += [("batches", name) for name in BATCHED] + [("openai_batches", name) for name in OPENAI_BATCHED]
    names += [("enrich", name) for name in ENRICHED] + [("tools", name) for name in TOOLS]
    names += [("from_trigger", CLEARED_WAITING)]
    return names + [(mode, name) for mode in IN_TRIGGERER for name in TRIGGERER_KILLS + RESUMES]


def batch_dags(dag_ids: Sequence[str], home: Path) -> str:
    """Write the table of the batches, and return the file of their DAGs."""
    table = home / "reviews.jsonl"
    table.write_text("".join(json.dumps({"id": n, "text": f"review {n}"}) + "\n" for n in range(BATCH_ROWS)))
    return BATCH_FILE.format(
        dag_ids=dag_ids, task=TASK, source=table, folder=home / "enriched", size=BATCH_SIZE, part_rows=PART_ROWS
    )


@pytest.fixture(scope="session")
def cases() -> Iterator[dict[tuple[str, str], Case]]:
    """Start Airflow with all cases, none of them running."""
    from tests.e2e.deployment import QUICK_HEARTBEATS, Deployment, ended_by_sigterm

    with ExitStack() as stack:
        sandboxes = {
            (mode, name): stack.enter_context(Sandbox(dialect="open" if mode == "openai_batches" else "openrouter"))
            for mode, name in case_names()
        }
        dag_ids = {names: "_".join(names) for names in sandboxes}
        stack.enter_context(ended_by_sigterm())
        connections = {dag_ids[names]: sandbox.connection for names, sandbox in sandboxes.items()}
        settings = QUICK_HEARTBEATS | {"RESPONSES__BATCH_POLL_INTERVAL": 0.2}
        deployment = stack.enter_context(Deployment(connections=connections, settings=settings))
        arguments = {
            dag_id: {
                "model": "openai/gpt-4o-mini",
                "input": TEXT + "{{ dag_run.conf.topic }}" if name == "undefined" else TEXT,
                "request": {"metadata": ORDERED},
                "conn_id": dag_id,
            }
            | ARGUMENTS[mode]
            for (mode, name), dag_id in dag_ids.items()
            if mode in MODES
        }
        deployment.write_dag("cases", DAG_FILE.format(cases=arguments, task=TASK, iterations=ITERATIONS), *arguments)
        enriched = [dag_id for (mode, _), dag_id in dag_ids.items() if mode == "enrich"]
        source = ENRICH_FILE.format(
            dag_ids=enriched, task=TASK, rows=ROWS, folder=deployment.home / "enriched", at_once=AT_ONCE
        )
        deployment.write_dag("enrich", source, *enriched)
        tools = [dag_id for (mode, _), dag_id in dag_ids.items() if mode == "tools"]
        source = TOOL_FILE.format(dag_ids=tools, task=TASK, steps=TOOL_STEPS, deferred_steps=DEFERRED_TOOL_STEPS)
        deployment.write_dag("tools", source, *tools)
        batched = [dag_id for (mode, _), dag_id in dag_ids.items() if mode.endswith("batches")]
        deployment.write_dag("batches", batch_dags(batched, deployment.home), *batched)
        yield {names: Case(dag_ids[names], deployment, sandbox) for names, sandbox in sandboxes.items()}
