"""
Any sequence of submits, endings of batches, crashes, attempts and jumps of the clock: no row is in two batches at once.

Each run ends in a manifest or in a clear error, and the outcome of a row is written once.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import httpx
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from airflow_provider_responses.batch.context import Unfinished
from airflow_provider_responses.batch.enrichment import BatchEnrichment
from airflow_provider_responses.batch.options import BatchOptions
from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import Writer
from airflow_provider_responses.exceptions import BatchError, ResponsesError, TooManyFailuresError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.crashes import Crossing, Stopped
from tests.enrich.jobs import Label, job, table
from tests.enrich.stores import Shelf

from .service import PRICE, URL, BatchService, ServedBatch, fail, prompt_of, succeed
from .test_batch_crashes import QuietStore

ROWS: Final = 7
BATCH: Final = 3
SUBMITS: Final = ("ok", "refused", "lost, created", "lost, not created", "crash before", "crash after")
ENDINGS: Final = ("completed", "completed", "failed", "expired", "cancelled")
RESULTS: Final = ("ok", "ok", "ok", "invalid", "429", "400", "missing")
MOST_STEPS: Final = 40


class Fuse:
    """
    Ends a process at its nth storage call.

    :param left: number of calls until then; None for a process that goes on.
    """

    def __init__(self, left: int | None) -> None:
        self.left = left
        self.is_stopped = False

    def stops_next(self, _boundary: str) -> bool:
        return False

    def cross(self, _boundary: str, effect: Callable[[], Any], **_: Any) -> Any:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.is_stopped = True
        if self.is_stopped:
            raise Stopped
        return effect()


class FusedShelf(Crossing, Shelf):
    """A store in memory, of a process that ends at one of its calls."""

    def __init__(self, files: dict[str, bytes], fuse: Fuse) -> None:
        super().__init__(files)
        self.crash = fuse  # type: ignore[assignment]


class BatchesInAnyOrder(RuleBasedStateMachine):
    """One task, whose process, server and clock do anything that they may do."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.shift = 1_000_000.0, 0.0
        self.service = BatchService(lambda: self.now, self._cross)
        self.files: dict[str, bytes] = {}
        self.tries, self.key = 1, 1
        self.totals: dict[str, Any] | None = None
        self.manifest: dict[str, Any] | None = None
        self.outcomes: list[str] = []  # of the next submits
        self.has_gone = False
        self.foreign: set[str] = set()

    @initialize(orphans=st.sampled_from(["fail", "resubmit"]), failures=st.sampled_from(["resubmit", "fail"]))
    def choose_options(self, orphans, failures):
        self.options = BatchOptions(
            mode="batch", batch_threshold=0, on_orphaned_intent=orphans, on_batch_failure=failures
        )

    @precondition(lambda self: self.manifest is None)
    @rule(submits=st.lists(st.sampled_from(SUBMITS), max_size=3), left=st.none() | st.integers(1, 60))
    def run_a_step(self, submits, left):
        self.outcomes = list(submits)
        self._step(left)
        self.outcomes = []

    @rule(data=st.data())
    def end_a_batch(self, data):
        running = [batch for batch in self.service.batches.values() if not batch.is_ended]
        if running:
            self._end(data.draw(st.sampled_from(running)), data)

    @rule(data=st.data())
    def lose_the_results_of_a_batch(self, data):
        ended = [it for it in self.service.batches.values() if it.is_ended and it.id not in self.foreign]
        if ended and data.draw(st.integers(0, 3)) == 0:
            data.draw(st.sampled_from(ended)).is_gone = True
            self.has_gone = True

    @rule(count=st.integers(1, BATCH))
    def submit_a_batch_of_another_task(self, count):
        texts = [f"Mood of stranger {number}" for number in range(count)]
        requests = [
            {"custom_id": f"{number:032x}-ffffffffffff", "body": {"model": "openai/gpt-4o-mini", "input": text}}
            for number, text in enumerate(texts)
        ]
        self.foreign.add(self.service.add(requests, "openai/gpt-4o-mini").id)

    @rule(seconds=st.sampled_from([1.0, 100.0, 5000.0]))
    def let_time_pass(self, seconds):
        self.now += seconds

    @rule(shift=st.sampled_from([-1500.0, 0.0, 1500.0]))
    def let_the_clock_of_the_workers_jump(self, shift):
        self.shift = shift

    @rule(is_clear=st.booleans())
    def begin_an_attempt(self, is_clear):
        self._retry()
        self.key += is_clear

    @invariant()
    def no_row_is_in_two_batches(self):
        if self.has_gone and getattr(self, "options", None) and self.options.on_orphaned_intent == "resubmit":
            return
        held = Counter[str]()
        for batch in self.service.batches.values():
            held.update(batch.texts if not batch.is_ended else self._served(batch))
        assert not [text for text, count in held.items() if count > 1 and "stranger" not in text], held

    @invariant()
    def an_outcome_is_written_once(self):
        final = Counter(line["_fingerprint"] for line in self._lines() if line["_status"] != "failed")
        assert not [it for it, count in final.items() if count > 1]

    def teardown(self):
        """Let all go well from now on: the run ends."""
        if not hasattr(self, "options"):
            return
        error: ResponsesError | None = None
        for _ in range(MOST_STEPS):
            if self.manifest is not None:
                break
            error = self._step(None)
            if error is not None and self.has_gone and self.options.on_orphaned_intent == "fail":
                assert isinstance(error, BatchError | TooManyFailuresError), repr(error)
            for batch in self.service.batches.values():
                if not batch.is_ended:
                    self.service.end(batch)
            self.now += 10.0
        self.no_row_is_in_two_batches()
        self.an_outcome_is_written_once()
        if self.manifest is None:
            assert self.has_gone, f"the run does not end: {error!r}"
            assert isinstance(error, BatchError), repr(error)
            assert "gone" in str(error) or "cannot be read" in str(error)
            return
        self._check_result()

    def _check_result(self) -> None:
        assert self.manifest is not None
        rows = [json.loads(line) for line in self.files["result.jsonl"].splitlines()]
        assert [row["_row"] for row in rows] == list(range(ROWS))
        assert not [name for name in self.files if name.startswith("parts/batch-")]
        if not self.has_gone:
            paid = sum(len(it.paid) for it in self.service.batches.values() if it.id not in self.foreign)
            assert abs((self.manifest["cost"] or 0.0) - paid * PRICE) < 1e-9

    def _lines(self) -> list[dict[str, Any]]:
        parts = [data for name, data in self.files.items() if name.startswith("parts/part-")]
        return [json.loads(line) for data in parts for line in data.splitlines()]

    def _step(self, left: int | None) -> ResponsesError | None:
        """Run a step, and begin an attempt after one that has failed; return its error."""
        fuse = Fuse(left)
        environment = Environment(
            clock=lambda: self.now, now=lambda: self.now + self.shift, tick=0.002, part_rows=2, open_output=QuietStore
        )
        enrichment = BatchEnrichment(
            job(
                SimpleNamespace(base_url=URL),
                FusedShelf(self.files, fuse),
                table(ROWS),
                request=TaskRequest(fields={}, output_type=Label, stream=False, output_retries=1),
                writer=Writer(owner="task run=1", try_number=self.tries, idempotency_key=str(self.key)),
                limits=Limits(max_batch_requests=BATCH, max_failures=0.99),
            ),
            self.options,
            environment,
            totals=self.totals,
            make_client=self.service.client,
            sleep=self._sleep,
        )
        try:
            ended = enrichment.step()
        except Stopped:
            self._retry()
        except ResponsesError as error:
            self._retry()
            return error
        else:
            if isinstance(ended, Unfinished):
                self.totals = json.loads(json.dumps(ended.totals))
            else:
                self.manifest = ended
        return None

    def _retry(self) -> None:
        self.tries, self.totals = self.tries + 1, None

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def _cross(self, call: str, effect: Callable[[], httpx.Response]) -> httpx.Response:
        """Serve a call; a submit has the next of the outcomes that were drawn."""
        outcome = self.outcomes.pop(0) if call == "POST submit" and self.outcomes else "ok"
        if outcome == "refused":
            return httpx.Response(400, json={"error": {"code": 400, "message": "no"}})
        if outcome == "crash before":
            raise Stopped
        if outcome == "lost, not created":
            raise httpx.ReadError("the connection broke")
        response = effect()
        if outcome == "crash after":
            raise Stopped
        if outcome == "lost, created":
            raise httpx.ReadError("the connection broke")
        return response

    def _end(self, batch: ServedBatch, data: Any) -> None:
        status = data.draw(st.sampled_from(ENDINGS))
        results = []
        for request in batch.requests:
            kind = data.draw(st.sampled_from(RESULTS if status != "failed" else ("missing", "missing", "ok")))
            if kind in {"ok", "invalid"}:
                results.append(succeed(request, "no JSON" if kind == "invalid" else None))
            elif kind != "missing":
                results.append(fail(request, int(kind)))
        extra = data.draw(st.integers(0, 3))
        repeated = results[:1] if extra == 1 else []
        unknown = [{**it, "custom_id": "unknown"} for it in results[:1]] if extra == 2 else []
        if status == "failed" and extra == 3:
            batch.message = f"Request '{batch.requests[-1]['custom_id']}': wrong"
        self.service.end(batch, status, itertools.chain(unknown, results, repeated))

    def _served(self, batch: ServedBatch) -> list[str]:
        """Return the inputs of the requests of a batch with a valid output."""
        by_id = {it["custom_id"]: prompt_of(it) for it in batch.requests}
        served = {it["custom_id"] for it in batch.results if "mood" in json.dumps(it["response"])}
        return [text for custom_id, text in by_id.items() if custom_id in served]


BatchesInAnyOrder.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=16,
    deadline=None,
    phases=(Phase.generate,),  # shrinking would take minutes
    suppress_health_check=list(HealthCheck),
)
test_batches_in_any_order = BatchesInAnyOrder.TestCase
