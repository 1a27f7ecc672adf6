"""Any sequence of responses: each goes to the right model, is counted once, and ends as the last one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.client.config import ClientConfig, RequestOptions
from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    RefusalError,
    ServiceUnavailableResponseError,
)
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.attempt import Exchange
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.escalation import Escalation, next_tier
from airflow_provider_responses.task.request import TaskRequest
from tests.usage import check_xcom

SCHEMA = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
CONFIG = ClientConfig(api_key="k", base_url="http://127.0.0.1:1", dialect="openrouter")
TEXTS = {"good": '{"sure": true}', "unsure": '{"sure": false}', "invalid": '{"sure": 5}'}
ERRORS = {"refused": RefusalError, "incomplete": IncompleteResponseError}
CAUSES = {
    "unsure": "OutputRejectedError",
    "invalid": "OutputValidationError",
    "refused": "RefusalError",
    "incomplete": "IncompleteResponseError",
    "down": "ServiceUnavailableResponseError",
}


def is_unsure(value: Any) -> bool:
    return not value["sure"]


kinds = st.lists(st.sampled_from([*TEXTS, *ERRORS, "down"]), min_size=1, max_size=9)
escalations = st.lists(
    st.lists(st.sampled_from(["invalid", "refused", "incomplete", is_unsure]), min_size=1, max_size=3), max_size=3
)


def response(kind: str, number: int, model: str) -> Response:
    status = "incomplete" if kind == "incomplete" else "completed"
    part = {"type": "output_text", "text": TEXTS.get(kind, "x")}
    if kind == "refused":
        part = {"type": "refusal", "refusal": "No."}
    item = {"type": "message", "content": [part]}
    usage = {"cost": 2.0**number, "input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    return Response(raw={"id": f"r{number}", "model": model, "status": status, "output": [item], "usage": usage})


@given(kinds, escalations, st.integers(0, 2), st.sampled_from(["fail", "return"]))
def test_each_response_leads_to_the_right_model_and_is_counted_once(
    kinds: list[str], conditions: list[list[Any]], retries: int, on_invalid_output: Any
) -> None:
    larger = tuple(Escalation(model=f"large{n}", when=when) for n, when in enumerate(conditions, 1))
    request = TaskRequest(
        fields={"model": "small", "input": "Hi"},
        output_type=SCHEMA,
        output_retries=retries,
        on_invalid_output=on_invalid_output,
        escalations=larger,
    )
    prepared, options = request.prepare(CONFIG, RequestOptions())
    exchange = Exchange(request, options, larger=request.prepare_larger(CONFIG, RequestOptions()))
    tier, left, escalated, answered, outcome = 0, retries, 0, 0, None
    for number, kind in enumerate(kinds):
        expected = larger[tier - 1].model if tier else "small"
        sent = exchange.next_request(prepared)
        assert sent.model == expected
        if kind == "down":
            outcome = exchange.receive_error(ServiceUnavailableResponseError("503", status_code=503))
        else:
            answered += 1
            made = response(kind, number, expected)
            if kind in ERRORS:
                outcome = exchange.receive_error(ERRORS[kind](kind, response=made))
            else:
                outcome = exchange.receive(made)
        problem = kind if kind in {"invalid", *ERRORS} else None
        value = json.loads(TEXTS[kind]) if kind in {"good", "unsure"} else {"sure": True}
        following = None if kind == "down" else next_tier(larger, tier, problem, value)
        if following is not None:
            assert outcome is None
            tier, left, escalated = following, retries, escalated + 1
        elif kind == "invalid" and on_invalid_output == "fail" and left:
            assert outcome is None
            left -= 1
        else:
            break
    if outcome is None:
        outcome = exchange.paid()
    else:
        is_ok = kind in {"good", "unsure"} or (kind != "down" and on_invalid_output == "return")
        assert (outcome.error is None) == is_ok
        assert outcome.tier == tier
    usage = CostLedger().usage(outcome)
    check_xcom("usage", usage)
    costs = [2.0**n for n, it in enumerate(kinds[: number + 1]) if it != "down"]
    assert usage["escalated"] == escalated
    assert len(exchange.responses) <= answered
    if answered:
        assert usage["cost"] == usage["cost_this_attempt"] == sum(costs)
    if outcome.error is not None:
        assert [send["cause"]["error"] for send in usage["sends"]] == [CAUSES[it] for it in kinds[: number + 1]]
    assert sum("escalated_to" in send for send in usage["sends"]) <= escalated


@pytest.mark.parametrize("tier", [1, 2])
def test_a_request_may_begin_with_a_larger_model(tier: int) -> None:
    larger = (Escalation(model="medium", when="refused"), Escalation(model="large", when="refused"))
    request = TaskRequest(fields={"model": "small", "input": "Hi"}, escalations=larger, tier=tier)
    prepared, options = request.prepare(CONFIG, RequestOptions())
    following = request.prepare_larger(CONFIG, RequestOptions())
    assert prepared.model == larger[tier - 1].model
    assert list(following) == list(range(tier + 1, 3))
    exchange = Exchange(request, options, larger=following)
    outcome = exchange.receive_error(RefusalError("No.", response=response("refused", 0, "m")))
    assert (outcome is None) == (tier == 1)
    assert exchange.next_request(prepared).model == "large"
