"""The limit of cost with larger models and a judge: the price of each is known by its own responses alone."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.enrich import request_queue
from airflow_provider_responses.enrich.budget import Budget
from airflow_provider_responses.enrich.index import PendingRequest
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.next_step import Step
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.enrich.row_outcome import RowOutcome
from airflow_provider_responses.enrich.row_steps import RowSteps
from airflow_provider_responses.enrich.sender import ResendTurn, Sender
from airflow_provider_responses.exceptions import BudgetExceededError
from airflow_provider_responses.task.escalation import Escalation
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich import jobs, virtual_time
from tests.enrich.service import CONFIG, EmptyBacklog, response, status_error
from tests.enrich.tiers import JUDGE, LARGE, LARGEST, NO_JSON, PRICES, SMALL, Models, score, to_large

EXPENSIVE = PRICES[LARGEST]
JUDGED = {"judge": Judge(model=LARGEST, rubric="From 1 (bad) to 5 (good).")}
ESCALATED = {"escalate": (Escalation(model=LARGEST, when=lambda _: True),)}
KINDS = (0, 1, 2, 4)
PATHS = [(), (1,), (2,), (2, 4), (1, 2, 3), (2, 3), (1, 4, 5)]  # the steps after the first: 2 * tier, of the judge + 1
WIDE = {"concurrency": 64, "initial_concurrency": 64}


def service(more: Any) -> Models:
    """Return a service whose most expensive model is the larger one, or the judge."""
    return Models({LARGEST: lambda _: score(4)} if "judge" in more else {})


def wait_for_small(models: Models, count: int) -> None:
    """Let the larger model wait until the small one got a number of rows."""
    enough = asyncio.Event()

    def before(model: str, row: int) -> Any:
        if model == LARGEST:
            return enough.wait()
        if len(models.sent_to(SMALL)) >= count:
            enough.set()
        return None

    models.before = before


def kind_of(number: int) -> int:
    """Return the kind of a step: each model is one, and the judge."""
    return 1 if number % 2 else number


class Rows:
    """Rows whose requests take given steps, at a price by kind; sent in virtual time."""

    def __init__(
        self, prices: dict[int, float], paths: list[tuple[int, ...]], *, same_model: bool, busy: float, seed: int
    ) -> None:
        self.prices, self.paths, self.chance = prices, paths, random.Random(seed)  # noqa: S311
        self.left = [(0, *path) for path in paths]  # numbers of the steps without a response
        self.busy, self.paid, self.in_flight = busy, 0.0, Counter[int]()
        self.of_unpriced = 0  # most requests at once whose kind has no price
        self.source = [PendingRequest(row, b"%d" % row, 1, f'{{"model": "{SMALL}"}}') for row in range(len(paths))][
            ::-1
        ]
        models = (SMALL, SMALL, SMALL) if same_model else (LARGE, LARGEST, JUDGE)
        self.steps = RowSteps(
            SimpleNamespace(
                escalate=tuple(Escalation(model=model, request={"top_p": 0.5}) for model in models[:2]),
                judge=Judge(model=models[2], rubric="From 1 to 5."),
                request=TaskRequest(fields={}),
            )
        )

    def on_outcome(self, outcome: RowOutcome) -> PendingRequest | None:
        if outcome.has_failed:
            return None
        left = self.left[outcome.request.first_row] = self.left[outcome.request.first_row][1:]
        return outcome.request._replace(step=Step(left[0] // 2, left[0] % 2 == 1), earlier="{}") if left else None

    async def send(self, pending: PendingRequest, _: ResendTurn) -> Outcome:
        kind = kind_of(2 * pending.step.tier + pending.step.is_judge)
        self.in_flight[kind] += 1
        unpriced = sum(count for it, count in self.in_flight.items() if it not in self.progress.priced_kinds)
        self.of_unpriced = max(self.of_unpriced, unpriced)
        try:
            await asyncio.sleep(self.chance.choice([0.1, 0.5, 2.0]))
        finally:
            self.in_flight[kind] -= 1
        if self.chance.random() < self.busy:
            raise status_error(429)
        self.paid += self.prices[kind]
        return Outcome(response=response(self.prices[kind]), value={"score": 3.0} if pending.step.is_judge else "x")

    def run(self, limit: float, known: set[int], concurrency: int) -> BaseException | None:
        self.progress = Progress(highest_prices={it: self.prices[it] for it in known}, priced_kinds=set(known))

        async def main() -> BaseException | None:
            limits, loop = Limits(max_cost=limit, concurrency=concurrency), asyncio.get_running_loop()
            sender = Sender(
                send=self.send,
                read=lambda most: [self.source.pop() for _ in range(min(most, len(self.source)))],
                steps=self.steps,
                on_outcome=self.on_outcome,
                limits=limits,
                config=CONFIG,
                budget=Budget(limits, self.progress),
                progress=self.progress,
                backlog=EmptyBacklog(),
                clock=loop.time,
                sleep=asyncio.sleep,
                draw=self.chance.random,
                initial_window=float(concurrency),
            )
            return await sender.run()

        return virtual_time.run(main())


@settings(max_examples=150, deadline=None)
@given(
    prices=st.tuples(*[st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0])] * len(KINDS)),
    paths=st.lists(st.sampled_from(PATHS), min_size=1, max_size=40),
    limit=st.sampled_from([0.001, 0.1, 0.5, 1.0, 5.0, 1000.0]),
    known=st.sets(st.sampled_from(KINDS)),
    same_model=st.booleans(),
    concurrency=st.sampled_from([1, 3, 64]),
    busy=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 1000),
)
@example(
    prices=(0.001, 0.0, 0.3, 0.0),
    paths=[(2,)] * 40,
    limit=1.0,
    known={0},
    same_model=False,
    concurrency=64,
    busy=0.0,
    seed=1,
)
@example(
    prices=(0.001, 0.3, 0.0, 0.0),
    paths=[(1,)] * 40,
    limit=1.0,
    known={0},
    same_model=True,
    concurrency=64,
    busy=0.0,
    seed=1,
)
def test_max_cost_is_exceeded_by_one_response_at_most_whose_price_was_unknown(
    prices, paths, limit, known, same_model, concurrency, busy, seed
):
    """And the attempt ends only if no request fits in. It always ends: virtual time fails if everything waits."""
    rows = Rows(dict(zip(KINDS, prices, strict=True)), paths, same_model=same_model, busy=busy, seed=seed)
    total = sum(rows.prices[kind_of(number)] for left in rows.left for number in left)

    stopped = rows.run(limit, known, concurrency)

    unknown = [price for kind, price in rows.prices.items() if kind not in known]
    assert rows.paid <= (limit + max(unknown, default=0.0)) * (1 + 1e-9)
    assert rows.of_unpriced <= 1
    assert rows.progress.cost == pytest.approx(rows.paid)
    if stopped is None:
        assert not any(rows.left)
        return
    assert isinstance(stopped, BudgetExceededError), stopped
    assert total >= limit * (1 - 1e-9)
    waiting = {kind_of(left[0]) for left in rows.left if left}
    highest = [rows.progress.highest_prices.get(kind, 0.0) for kind in waiting]
    assert waiting
    assert rows.paid >= limit or all(rows.paid + price > limit for price in highest)


def test_the_attempt_ends_if_too_many_requests_wait_for_a_model_that_is_too_expensive(monkeypatch):
    monkeypatch.setattr(request_queue, "MAX_WAITING_STEPS", 5)
    rows = Rows({0: 0.001, 2: 0.3}, [(2,)] * 40, same_model=False, busy=0.0, seed=1)
    stopped = rows.run(0.5, set(), concurrency=1)
    assert isinstance(stopped, BudgetExceededError)
    assert f"response of {LARGE} was $0.300000" in str(stopped)
    assert [len(left) for left in rows.left].count(1) == 5


@pytest.mark.parametrize("more", [ESCALATED, JUDGED], ids=["escalate", "judge"])
def test_the_price_of_a_small_model_is_not_that_of_a_larger_one_or_of_a_judge(more, tmp_path):
    models = service(more)
    models.enrich(tmp_path, 100)
    spent = models.bill

    with pytest.raises(BudgetExceededError) as raised:
        models.enrich(tmp_path, 100, limits=Limits(max_cost=spent + 1.0, **WIDE), **more)
    assert f"the most expensive response of {LARGEST} was $0.300000. All responses are saved" in str(raised.value)
    assert models.bill == pytest.approx(spent + 3 * EXPENSIVE)
    assert jobs.manifest(tmp_path)["cost"] == pytest.approx(models.bill)

    with pytest.raises(BudgetExceededError):  # the next attempt has the price from the parts
        models.enrich(tmp_path, 100, limits=Limits(max_cost=models.bill + 0.2, **WIDE), **more)
    assert models.bill == pytest.approx(spent + 3 * EXPENSIVE)
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 100, limits=Limits(max_cost=models.bill + 1.0, **WIDE), **more)
    assert models.bill == pytest.approx(spent + 6 * EXPENSIVE)


@pytest.mark.parametrize("more", [ESCALATED, JUDGED], ids=["escalate", "judge"])
def test_steps_that_follow_at_once_stay_within_the_budget(more, tmp_path):
    models = service(more)
    wait_for_small(models, 50)
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 300, limits=Limits(max_cost=1.0, **WIDE), **more)
    assert models.paid[LARGEST] == 3
    assert models.bill <= 1.0 + 1e-9


def test_another_larger_model_has_a_price_of_its_own(tmp_path):
    models = Models()
    cheap = (Escalation(model=LARGE, when=lambda _: True),)
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 50, limits=Limits(max_cost=0.2), escalate=cheap)
    before = models.bill
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 50, limits=Limits(max_cost=before + 0.01, **WIDE), **ESCALATED)
    assert models.paid[LARGEST] == 1


def test_rows_go_on_at_the_small_model_while_the_larger_one_is_too_expensive(tmp_path):
    models = Models({SMALL: lambda row: NO_JSON if row < 5 else None})
    escalate = (Escalation(model=LARGEST),)
    with pytest.raises(BudgetExceededError) as raised:
        models.enrich(tmp_path, 100, limits=Limits(max_cost=0.5), escalate=escalate)
    assert (models.paid[SMALL], models.paid[LARGEST]) == (100, 1)
    assert f"response of {LARGEST} was $0.300000" in str(raised.value)
    assert jobs.manifest(tmp_path)["counts"] == {"ok": 96, "escalating": 4}


def test_invalid_outputs_of_a_judge_are_requested_again_within_the_budget(tmp_path):
    models = Models({LARGEST: lambda _: NO_JSON})
    wait_for_small(models, 50)
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 100, limits=Limits(max_cost=1.0, **WIDE), **JUDGED)
    assert models.bill <= 1.0 + 1e-9
    assert models.paid[LARGEST] == 3


def test_the_price_of_a_model_that_is_not_in_the_list_any_more_is_not_that_of_the_small_one(tmp_path):
    models = service(ESCALATED)
    models.enrich(tmp_path, 2, **ESCALATED)
    before = models.bill
    models.enrich(tmp_path, 100, limits=Limits(max_cost=before + 0.2), escalate=to_large())
    assert models.bill == pytest.approx(before + 98 * PRICES[SMALL])


def test_the_price_of_a_tier_that_has_moved_in_the_list_is_known(tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: NO_JSON})
    with pytest.raises(BudgetExceededError):
        models.enrich(tmp_path, 50, limits=Limits(max_cost=0.9), escalate=(Escalation(model=LARGEST),))
    before = models.bill
    with pytest.raises(BudgetExceededError):
        models.enrich(
            tmp_path, 50, limits=Limits(max_cost=before + 0.25), escalate=(*to_large(), Escalation(model=LARGEST))
        )
    assert models.paid[LARGEST] == 2
