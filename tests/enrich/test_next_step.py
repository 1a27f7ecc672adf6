"""Which step follows an outcome."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.next_step import FIRST, Step, next_step, status_before
from airflow_provider_responses.enrich.statuses import INCOMPLETE, INVALID_OUTPUT, LOW_SCORE, OK, REFUSED, REJECTED
from airflow_provider_responses.task.escalation import CONDITIONS, Escalation

PROBLEM = {INVALID_OUTPUT: "invalid", REFUSED: "refused", INCOMPLETE: "incomplete", LOW_SCORE: "low_score"}

steps = st.builds(Step, st.integers(0, 4), st.booleans(), st.integers(0, 9))
checks = st.sampled_from([lambda value: value > 0, lambda value: value > 5])
whens = st.lists(st.sampled_from(CONDITIONS) | checks, min_size=1, max_size=3)
escalations = st.lists(st.builds(lambda when: Escalation(model="larger", when=when), whens), max_size=4).map(tuple)
statuses = st.sampled_from([OK, *sorted(REJECTED)])
judges = st.none() | st.builds(
    lambda least: Judge(model="judge", rubric="From 1 to 5.", min_score=least), st.none() | st.integers(1, 5)
)
cases = st.fixed_dictionaries(
    {
        "step": steps,
        "status": statuses,
        "value": st.integers(-1, 9),
        "score": st.none() | st.integers(1, 5),
        "is_sampled": st.booleans(),
        "escalations": escalations,
        "judge": judges,
    }
)


def following(case: dict[str, Any]) -> Step | None:
    given_ = dict(case)
    return next_step(given_.pop("step"), given_.pop("status"), given_.pop("value"), **given_)


def place_of(step: Step) -> tuple[int, int, bool]:
    return step.tier, step.other, step.is_judge


@given(steps)
def test_a_step_can_be_read_from_its_rank(step):
    assert Step.of_rank(step.rank) == step
    assert type(Step.of_rank(step.rank).is_judge) is bool


@given(steps, steps)
def test_ranks_follow_tiers_then_models_that_were_removed_and_the_judge_comes_after_the_response(first, second):
    assert (first.rank < second.rank) == (place_of(first) < place_of(second))


@given(cases)
def test_the_next_step_is_the_first_larger_model_that_does_not_accept_the_response_else_the_judge(case):
    problem = PROBLEM.get(case["status"])
    rejecting = [
        tier
        for tier, it in enumerate(case["escalations"], 1)
        if tier > case["step"].tier
        and any(
            condition == problem if isinstance(condition, str) else problem is None and condition(case["value"])
            for condition in it.conditions
        )
    ]
    found = following(case)
    if rejecting:
        assert found == Step(rejecting[0])
    elif case["judge"] is not None and case["is_sampled"] and case["status"] == OK and case["score"] is None:
        assert found == case["step"]._replace(is_judge=True)
    else:
        assert found is None


@given(cases, st.data())
def test_a_request_ends_after_at_most_two_steps_of_each_model(case, data):
    case |= {"step": FIRST, "score": None}
    taken = [FIRST]
    while (found := following(case)) is not None:
        assert found.rank > case["step"].rank
        taken.append(found)
        case["step"] = found
        if found.is_judge:
            case["score"] = data.draw(st.integers(1, 5))
            case["status"] = OK if case["judge"].accepts(case["score"]) else LOW_SCORE
        else:
            case |= {"status": data.draw(statuses.filter(lambda it: it != LOW_SCORE)), "score": None}
            case["value"] = data.draw(st.integers(-1, 9))
    assert len(taken) == len(set(taken)) <= 2 * (1 + len(case["escalations"]))


@given(cases)
def test_nothing_follows_without_a_larger_model_and_a_judge(case):
    assert following(case | {"escalations": (), "judge": None}) is None


@pytest.mark.parametrize(
    ("step", "min_score", "expected"),
    [(Step(1), None, "escalating"), (Step(0, True), None, "ok"), (Step(0, True), 3, "judging")],
)
def test_the_status_of_a_row_that_waits_for_a_step(step, min_score, expected):
    judge = Judge(model="judge", rubric="From 1 to 5.", min_score=min_score)
    assert status_before(step, OK, judge) == expected
