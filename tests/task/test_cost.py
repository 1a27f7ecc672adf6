"""The cost of a task and that of a row of a table are the same for the same responses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.enrich.budget import Budget, RequestCost
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.progress import Progress
from airflow_provider_responses.exceptions import OutputValidationError, TransportError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.cost import CostLedger, charges_of
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.request import TaskRequest

HIT = {"x-openrouter-cache-status": "HIT"}
MODEL_WORKED = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}]


def response(cost: float | None, id_: str | None = None, *, source: str | None = None, **raw: Any) -> Response:
    """Return a response; with a ``source`` it is a cached one."""
    headers = HIT | {"x-openrouter-cache-source-id": source} if source else {}
    return Response(raw={"id": id_, "status": "completed", "usage": {"cost": cost}} | raw, headers=headers)


def outcome(*responses: Response, records: dict[str, Any] | None = None, fails: bool = False) -> Outcome:
    """Return an outcome: all responses but the last are invalid; if it fails, the last send brings no response."""
    earlier = []
    for one in responses if fails else responses[:-1]:
        earlier.append(OutputValidationError("bad", response=one))
    last = replace(responses[-1], previous=tuple(earlier))
    error = TransportError("gone", kind="connect") if fails else None
    return Outcome(response=last, error=error, generations=records or {})


def of_a_task(*outcomes: Outcome) -> float | None:
    ledger = CostLedger()
    for one in outcomes:
        usage = ledger.usage(one)
    return usage["cost"]


def of_a_row(*outcomes: Outcome) -> float | None:
    paid, budget = RequestCost(), Budget(Limits(), Progress())
    for one in outcomes:
        budget.record(paid, one)
    return paid.cost


both = pytest.mark.parametrize("cost_of", [of_a_task, of_a_row])
CASES = {
    "one": ([outcome(response(0.25, "a"))], 0.25),
    "an invalid one before it": ([outcome(response(0.25, "a"), response(0.5, "b"))], 0.75),
    "two without ids": ([outcome(response(0.25), response(0.5))], 0.75),
    "two without ids that are alike": ([outcome(response(0.25), response(0.25))], 0.5),
    "without ids, in two attempts": ([outcome(response(0.25), fails=True), outcome(response(0.5))], 0.75),
    "the same twice": ([outcome(response(0.25, "a"), response(0.25, "a"))], 0.25),
    "the last send brought none": ([outcome(response(0.25), response(0.5), fails=True)], 0.75),
    "without a price": ([outcome(response(0.25, "a"), response(None, "b"))], None),
    "cached, with its price": ([outcome(response(0.0, "b", source="a"), records={"a": {"total_cost": 0.25}})], 0.25),
    "cached, without its price": ([outcome(response(0.0, "b", source="a"))], None),
    "cached after it was paid": (
        [outcome(response(0.25, "a"), fails=True), outcome(response(0.0, "b", source="a"), response(0.5, "c"))],
        0.75,
    ),
    "failed before a model worked": ([outcome(response(None, "a", status="failed"), response(0.5, "b"))], 0.5),
    "failed after it": ([outcome(response(None, "a", status="failed", output=MODEL_WORKED), response(0.5, "b"))], None),
    "an error in a 200": ([outcome(response(None, "a", status=None, error={"code": 500}), response(0.5, "b"))], 0.5),
}


@both
@pytest.mark.parametrize("case", CASES)
def test_what_responses_cost(cost_of: Callable[..., float | None], case: str) -> None:
    outcomes, cost = CASES[case]
    found = cost_of(*outcomes)
    assert found is None if cost is None else found == pytest.approx(cost)


responses = st.builds(
    response,
    st.sampled_from([None, 0.0, 0.25, 0.5]),
    st.sampled_from([None, "a", "b", "c"]),
    source=st.sampled_from([None, None, "a", "b"]),
    status=st.sampled_from(["completed", "failed", None]),
)
records = st.dictionaries(st.sampled_from("abc"), st.just({"total_cost": 0.125}))


@given(st.lists(responses, min_size=1, max_size=3), records, st.booleans())
def test_a_task_and_a_row_never_differ(made: list[Response], records: dict[str, Any], fails: bool) -> None:
    one = outcome(*made, records=records, fails=fails)
    # A response that is cached and paid for in the same attempt is charged once, whichever comes first.
    if len({charge.generation for charge in charges_of(one) if charge.generation}) == len(charges_of(one)):
        assert of_a_task(one) == of_a_row(one)


@given(st.lists(responses, min_size=1, max_size=3), st.booleans())
def test_a_response_is_charged_once(made: list[Response], fails: bool) -> None:
    ids = {one.id for one in made if one.id}
    nameless = len({id(one) for one in made if not one.id})
    assert len(charges_of(outcome(*made, fails=fails))) == len(ids) + nameless


def test_a_response_that_was_serialized_is_charged_once() -> None:
    """In another process, the last response and the response of the error before it are two objects."""
    error = OutputValidationError("bad", response=response(0.25))
    last = replace(response(0.25), previous=(error,))
    assert of_a_task(Outcome(response=last, error=TransportError("gone", kind="connect"))) == 0.25


class Label(BaseModel):
    mood: str


@both
def test_an_invalid_response_counts_once_though_the_send_after_it_failed(cost_of: Callable[..., float | None]) -> None:
    exchange = Exchange(TaskRequest(fields={}, output_type=Label), RequestOptions())
    assert exchange.receive(response(0.25)) is None
    assert cost_of(exchange.fail(TransportError("gone", kind="connect"))) == 0.25
