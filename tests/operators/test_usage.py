"""The XCom ``usage``: one form, for every execution mode and every outcome."""

from __future__ import annotations

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    ResponsesError,
    TransportError,
    VersionMismatchError,
)
from airflow_provider_responses.models import output
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task import xcom
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.fingerprint import prompt_fingerprint
from airflow_provider_responses.task.outcome import Outcome
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.usage import check_xcom, documented_schema

SUCCEEDED = {"cause": None, "ambiguous": False, "wait": None}


class Label(BaseModel):
    topic: str


def ask(**kwargs):
    return ResponsesOperator(task_id="ask", **({"model": "openai/gpt-4o-mini", "input": "Is it good?"} | kwargs))


def failing(perform, task, ti):
    with pytest.raises(Exception) as caught:  # noqa: PT011  the class differs by failure
        perform(task, context(ti))
    return caught.value


def test_the_prompt_has_the_same_fingerprint_in_every_execution_mode_and_run(perform, responses_sandbox):
    found = []
    for run_id, task in (("one", ask()), ("two", ask()), ("three", ask(input="Is it bad?"))):
        ti = TaskInstance(run_id=run_id)
        perform(task, context(ti))
        usage = ti.xcoms["usage"]
        assert usage["kind"] == "request"
        found.append(usage["prompt_fingerprint"])
    assert found[0] == found[1] == prompt_fingerprint(ask()._task_request(None))
    assert found[2] != found[0]


def test_a_failed_request_has_its_fingerprint_too(perform, responses_sandbox):
    responses_sandbox.script({"status": 400})
    ti = TaskInstance()
    failing(perform, ask(), ti)
    assert ti.xcoms["usage"]["prompt_fingerprint"] == prompt_fingerprint(ask()._task_request(None))


class TestSends:
    def test_each_send_has_its_cause_and_the_wait_after_it(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 503, "retry_after": 0.01}, {"text": "{}"}, {"text": '{"topic": "x"}'})
        ti = TaskInstance()
        perform(ask(output_type=Label), context(ti))
        first, second, third = ti.xcoms["usage"]["sends"]
        assert first["cause"] == {"error": "ServiceUnavailableResponseError", "status": 503}
        assert 0.01 <= first["wait"] <= 0.51
        assert second == {"cause": {"error": "OutputValidationError", "status": None}, "ambiguous": False, "wait": 0.0}
        assert third == SUCCEEDED
        assert ti.xcoms["usage"]["ambiguous_sends"] == 0

    def test_a_send_that_may_have_been_billed_is_counted(self, perform, responses_sandbox):
        responses_sandbox.script({"drop": True}, {})
        ti = TaskInstance()
        perform(ask(stream=False), context(ti))
        usage = ti.xcoms["usage"]
        assert [send["ambiguous"] for send in usage["sends"]] == [True, False]
        assert usage["ambiguous_sends"] == 1
        assert usage["cost"] is not None

    def test_a_failed_attempt_names_its_last_send_too(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 503, "retry_after": 0}, {"status": 402})
        ti = TaskInstance()
        failing(perform, ask(), ti)
        sends = ti.xcoms["usage"]["sends"]
        assert [send["cause"]["status"] for send in sends] == [503, 402]
        assert sends[0]["wait"] is not None
        assert sends[1]["wait"] is None


class TestFailedAttempts:
    def test_an_attempt_without_a_response_costs_nothing_and_has_null_for_unknown_values(
        self, perform, responses_sandbox
    ):
        responses_sandbox.script({"status": 401})
        ti = TaskInstance()
        failing(perform, ask(), ti)
        usage = ti.xcoms["usage"]
        assert usage["status"] == "failed"
        assert usage["cost"] == usage["cost_this_attempt"] == 0.0
        unknown = ("model", "provider", "response_id", "total_tokens", "cached", "maybe_truncated", "repaired")
        assert [usage[name] for name in unknown] == [None] * len(unknown)

    def test_the_cost_of_sends_that_may_have_been_billed_is_null(self, perform, responses_sandbox):
        responses_sandbox.script({"drop": True}, {"drop": True})
        ti = TaskInstance()
        error = failing(perform, ask(stream=False), ti)
        assert error.ambiguous
        assert (ti.xcoms["usage"]["cost"], ti.xcoms["usage"]["cost_this_attempt"]) == (None, None)

    def test_an_attempt_that_sends_nothing_costs_nothing(self, perform, responses_sandbox):
        ti = TaskInstance()
        failing(perform, ask(request={"temperature": "warm"}), ti)
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["sends"], usage["cost"]) == ("failed", [], 0.0)

    @pytest.mark.parametrize(
        ("step", "status"),
        [({"incomplete": "max_output_tokens"}, "incomplete"), ({"refusal": "No."}, "refused")],
    )
    @pytest.mark.parametrize("on_invalid_output", ["fail", "return"])
    def test_the_status_of_a_truncated_or_refused_response(
        self, perform, step, status, on_invalid_output, responses_sandbox
    ):
        responses_sandbox.script(step)
        ti, task = TaskInstance(), ask(on_invalid_output=on_invalid_output)
        if on_invalid_output == "fail":
            failing(perform, task, ti)
            assert ti.xcoms["usage"]["sends"][0]["cause"]["error"] in {"IncompleteResponseError", "RefusalError"}
        else:
            perform(task, context(ti))
            assert ti.xcoms["usage"]["sends"] == [SUCCEEDED]
        assert ti.xcoms["usage"]["status"] == status
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)

    @pytest.mark.parametrize("on_invalid_output", ["fail", "return"])
    def test_the_status_of_a_response_that_does_not_match_the_type(self, perform, on_invalid_output, responses_sandbox):
        responses_sandbox.script({"text": "neither"})
        ti, task = TaskInstance(), ask(output_type=Label, output_retries=0, on_invalid_output=on_invalid_output)
        if on_invalid_output == "fail":
            assert isinstance(failing(perform, task, ti), AirflowFailException)
        else:
            assert perform(task, context(ti)) == "neither"
        assert ti.xcoms["usage"]["status"] == "invalid_output"

    def test_an_earlier_response_is_reported_though_the_last_send_failed(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"status": 402})
        ti = TaskInstance()
        failing(perform, ask(output_type=Label), ti)
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["generation_id"]) == ("failed", responses_sandbox.ledger[0].generation_id)
        assert [send["cause"]["error"] for send in usage["sends"]] == [
            "OutputValidationError",
            "PaymentRequiredResponseError",
        ]

    @pytest.mark.parametrize(("store", "cost"), [(True, 0.0), (False, None)])
    def test_the_cost_of_earlier_attempts_is_null_without_a_store(self, store, cost, responses_sandbox):
        responses_sandbox.script({"status": 401})
        ti, more = TaskInstance(try_number=2), {"task_state_store": TaskStateStore()} if store else {}
        with pytest.raises(AirflowFailException):
            ask().execute(context(ti, **more))
        assert (ti.xcoms["usage"]["cost"], ti.xcoms["usage"]["cost_this_attempt"]) == (cost, 0.0)

    @pytest.mark.parametrize("event", [{}, {"version": 2, "outcome": "{"}])
    def test_an_event_that_cannot_be_read_may_have_been_paid(self, event, responses_sandbox):
        ti = TaskInstance()
        with pytest.raises(VersionMismatchError):
            ask().execute_complete(context(ti), event)
        assert (ti.xcoms["usage"]["sends"], ti.xcoms["usage"]["cost"]) == ([], None)


SILENT = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task
from pydantic import BaseModel

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator


class Label(BaseModel):
    topic: str


KNOWN = dict(model="vendor/m", do_xcom_push=False)
with DAG("silent", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator(task_id="worker", input="a", **KNOWN)
    ResponsesOperator(task_id="deferred", input="b", deferrable=True, **KNOWN)
    ResponsesOperator(task_id="started", input="c", start_from_trigger=True, **KNOWN)
    ResponsesOperator.partial(task_id="mapped", **KNOWN).expand(input=["d"])
    ResponsesOperator(task_id="refused", input="e", request=dict(temperature="{{ 'warm' }}"), **KNOWN)
    ResponsesEnrichOperator(
        task_id="rows", source=[dict(a=1)], input="{{ row.a }}", output_path="FOLDER", **KNOWN
    )

    @task.responses(output_type=Label, multiple_outputs=True, **KNOWN)
    def typed():
        return "f"

    typed()
"""


class TestWithoutXComs:
    @pytest.mark.parametrize("step", [{}, {"refusal": "No."}, {"status": 402}])
    def test_nothing_is_pushed(self, perform, step, responses_sandbox, monkeypatch):
        responses_sandbox.script(step)
        pushed = []
        ti = TaskInstance()
        monkeypatch.setattr("tests.execution_modes.XComs.set", lambda *args, **_: pushed.append(args))
        task = ask(do_xcom_push=False)
        try:
            perform(task, context(ti))
        except AirflowFailException:
            assert step
        assert (ti.xcoms, pushed) == ({}, [])
        assert len(responses_sandbox.ledger) == 1

    def test_no_xcom_is_in_the_database(self, run_dag, responses_sandbox, tmp_path):
        result = run_dag(SILENT.replace("FOLDER", str(tmp_path)), "silent")
        assert {task for (task, _), state in result.states.items() if state != "success"} == {"refused"}
        # The costs of earlier attempts are stored under a key of this package. Airflow stores the addresses of links.
        others = ("airflow_provider_responses.", "_link_")
        assert [key for _, _, key in result.xcoms if not key.startswith(others)] == []


class TestMarks:
    def test_a_repaired_output_is_marked(self, perform, responses_sandbox, monkeypatch):
        def repairs(output_type, texts, *, repair=False):
            return output.ParsedOutput({"topic": "x"}, repaired=True)

        monkeypatch.setattr(output, "read_output", repairs)
        ti = TaskInstance()
        assert perform(ask(output_type=Label), context(ti)) == {"topic": "x"}
        assert ti.xcoms["usage"]["repaired"] is True

    @pytest.mark.parametrize("name", ["maybe_truncated", "inconsistent"])
    def test_a_mark_of_the_response_is_in_usage(self, name):
        outcome = Outcome(response=Response(raw={}, **{name: True}))
        assert CostLedger().usage(outcome)[name] is True

    def test_a_response_that_may_be_truncated_is_a_warning(self, perform, responses_sandbox, caplog):
        text = {"text": "word " * 40}
        responses_sandbox.script(text, text)
        perform(ask(), context(TaskInstance()))
        assert "may be truncated" not in caplog.text
        limit = responses_sandbox.ledger[0].output_tokens
        perform(ask(request={"max_output_tokens": limit}), context(TaskInstance(task_id="other")))
        assert f"as many tokens as `max_output_tokens` allows ({limit}). If it is truncated" in caplog.text

    def test_the_provider_is_reported_if_it_is_known(self, perform, responses_sandbox):
        first, again, without = TaskInstance(), TaskInstance(), TaskInstance(task_id="other")
        task = {"options": {"metadata_level": "enabled"}}
        perform(ask(**task), context(first))
        perform(ask(**task), context(again))
        perform(ask(), context(without))
        assert first.xcoms["usage"]["provider"]
        assert again.xcoms["usage"]["cached"]
        assert again.xcoms["usage"]["provider"] == first.xcoms["usage"]["provider"]  # from OpenRouter's record
        assert without.xcoms["usage"]["provider"] is None


def routed(**metadata):
    return {"openrouter_metadata": metadata}


@pytest.mark.parametrize(
    ("raw", "provider"),
    [
        ({"provider": "Azure"}, "Azure"),
        ({"provider": {"name": "Azure"}}, None),
        (routed(endpoints={"available": [{"provider": "A"}, {"provider": "B", "selected": True}]}), "B"),
        (routed(attempts=[{"provider": "A", "status": 503}, {"provider": "B", "status": 200}]), "B"),
        (routed(endpoints={"available": "x"}, attempts=[5]), None),
        ({}, None),
    ],
)
def test_the_provider_that_served_a_response(raw, provider):
    assert xcom.provider_of(Response(raw=raw)) == provider


def _waiting(error, wait):
    error.wait = wait
    return error


def _after(error, previous):
    error.previous = tuple(previous)
    return error


errors = st.recursive(
    st.builds(
        lambda cls, status, ambiguous, wait: _waiting(cls("x", status_code=status, ambiguous=ambiguous), wait),
        st.sampled_from([TransportError, ConfigurationError, IncompleteResponseError, OutputValidationError]),
        st.none() | st.integers(100, 599),
        st.booleans(),
        st.none() | st.floats(0, 1e6),
    ),
    lambda inner: st.builds(_after, inner, st.lists(inner | st.builds(ValueError), max_size=3)),
    max_leaves=4,
)
raws = st.dictionaries(
    st.sampled_from(["id", "model", "status", "provider", "openrouter_metadata", "usage", "output"]),
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2) | st.just({"cost": 1}),
)


@given(st.none() | st.builds(Response, raw=raws), st.none() | errors, st.booleans(), st.booleans())
def test_the_usage_of_every_outcome_has_the_documented_form(response, error, invalid, repaired):
    outcome = Outcome(response=response, error=error, invalid=invalid, repaired=repaired)
    usage = CostLedger().usage(outcome)
    check_xcom("usage", usage)
    if isinstance(error, ResponsesError) and response is None:
        assert (usage["cost_this_attempt"] is None) == any(
            getattr(e, "ambiguous", False) for e in (error, *error.previous)
        )


def test_the_documented_schema_has_the_fields_that_are_pushed():
    schema = documented_schema()
    of_request = list(xcom.UsageXCom.__annotations__)
    of_enrichment = [name for name in xcom.EnrichmentUsageXCom.__annotations__ if name not in of_request]
    assert schema["required"] == of_request
    assert schema["then"]["required"] == of_enrichment
    assert list(schema["properties"]) == of_request + of_enrichment
    of_model = schema["properties"]["models"]["items"]
    assert list(of_model["properties"]) == of_model["required"] == list(xcom.ModelUsage.__annotations__)
    send = schema["properties"]["sends"]["items"]
    assert list(send["properties"]) == list(xcom.Send.__annotations__)
    of_escalated = ["model", "escalated_to", "cost", "cached", "input_tokens", "output_tokens"]
    assert list(send["properties"]) == [*send["required"], *of_escalated]
    assert list(send["properties"]["cause"]["properties"]) == list(xcom.Cause.__annotations__)
    assert schema["properties"]["version"] == {"const": xcom.VERSION}
    assert "additionalProperties" not in schema  # fields will be added
