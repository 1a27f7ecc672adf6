"""A larger model gets the request if a response is not accepted, in each execution mode; nothing is paid twice."""

from __future__ import annotations

import base64
import datetime
import logging
import math
import sys

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS

from airflow_provider_responses.content import InputFile
from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.observability.metrics import request_metrics
from airflow_provider_responses.operators.budget import Budget
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.plugins.usage_values import parts_of
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import MODES, first_event, performer, revive, through_the_database
from tests.operators.one_request import MODEL, Label, ask, sent

LARGE = "openai/gpt-4o"
LARGEST = "anthropic/claude-sonnet-4.5"
WRONG = '{"topic": "great", "why": "it is"}'
GOOD = '{"topic": "good", "why": "it is"}'
VALUE = {"topic": "good", "why": "it is"}


def is_short(value):
    return len(value) < 10


def is_bad(value):
    return value["topic"] == "bad"


def fails(value):
    return value["no such field"]


def exits(value):
    sys.exit("bye")


REJECTED: list[str] = []


def rejects_each_once(value):
    REJECTED.append(value)
    return REJECTED.count(value) == 1


def is_unsure(value):
    return "perhaps" in value


is_unsure_lambda = lambda value: "perhaps" in value  # noqa: E731  it has no name that can be imported


@pytest.fixture
def logged(caplog, capfd):
    """Return the log so far."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capfd.readouterr())  # Airflow 3 logs past the root logger


@pytest.fixture(params=[mode for mode in MODES if mode != "started_in_triggerer"])
def perform_from_worker(request, monkeypatch):
    """Run a task in each execution mode that a worker prepares."""
    return performer(request.param, monkeypatch)


def models(sandbox):
    return [entry.body["model"] for entry in sandbox.ledger]


def total(sandbox):
    return pytest.approx(sum(entry.cost for entry in sandbox.billed))


def causes(ti):
    return [(send["cause"] or {}).get("error") for send in ti.xcoms["usage"]["sends"]]


def test_each_model_has_its_own_cost_and_tokens(perform, responses_sandbox):
    responses_sandbox.script({"text": "perhaps " * 300}, {"text": "good"})
    ti = TaskInstance()
    perform(ask(escalate=[Escalation(model=LARGE, when=is_unsure)]), context(ti))
    usage, (small, large) = ti.xcoms["usage"], responses_sandbox.billed
    parts = [(it.model, it.requests, it.cost, it.output_tokens) for it in parts_of(usage)]
    assert parts == [
        (MODEL, 1, pytest.approx(small.cost), usage["sends"][0]["output_tokens"]),
        (LARGE, 1, pytest.approx(large.cost), usage["output_tokens"]),
    ]
    assert usage["sends"][0]["output_tokens"] > 10 * usage["output_tokens"] > 0
    metrics = list(request_metrics(usage, error=None, seconds=1.0, tags={}))
    for name, values in (
        ("cost_microdollars", [round(it.cost * 1_000_000) for it in (small, large)]),
        ("output_tokens", [it[3] for it in parts]),
    ):
        found = [(it.tags["model"], it.value) for it in metrics if it.name == f"responses.{name}"]
        assert found == [(MODEL, values[0]), (LARGE, pytest.approx(values[1], abs=1))]


class TestConditions:
    def test_a_function_is_called_once_for_each_response(self, perform, responses_sandbox, logged):
        REJECTED.clear()
        responses_sandbox.script({"text": "Yes."}, {"text": "good"})
        perform(ask(escalate=[Escalation(model=LARGE, when=rejects_each_once)]), context())
        assert REJECTED == ["Yes."]
        assert "OutputRejectedError: the function rejects_each_once did not accept it" in logged()

    @pytest.mark.parametrize(
        ("when", "step", "given", "error"),
        [
            ("invalid", {"text": WRONG}, {"output_type": Label}, "OutputValidationError"),
            ("invalid", {"text": "no JSON"}, {"output_type": {"type": "object"}}, "OutputValidationError"),
            ("refused", {"refusal": "No."}, {}, "RefusalError"),
            ("refused", {"refusal": "No."}, {"output_type": Label}, "RefusalError"),
            ("incomplete", {"incomplete": "max_output_tokens"}, {}, "IncompleteResponseError"),
            (is_short, {"text": "Yes."}, {}, "OutputRejectedError"),
            (is_bad, {"text": '{"topic": "bad", "why": "x"}'}, {"output_type": Label}, "OutputRejectedError"),
            (is_bad, {"text": '{"topic": "bad"}'}, {"output_type": {"type": "object"}}, "OutputRejectedError"),
            (["refused", is_unsure_lambda], {"text": "perhaps"}, {}, "OutputRejectedError"),
            (["refused", is_unsure_lambda], {"refusal": "No."}, {}, "RefusalError"),
        ],
    )
    def test_a_response_that_is_not_accepted_is_followed_by_the_larger_models(
        self, perform, responses_sandbox, when, step, given, error, logged, caplog
    ):
        text = GOOD if given else "It is good, I think."
        responses_sandbox.script(step, {"text": text})
        ti = TaskInstance()
        value = perform(ask(escalate=[Escalation(model=LARGE, when=when)], **given), context(ti))
        assert value == (VALUE if given else text)
        assert models(responses_sandbox) == [MODEL, LARGE]
        small, large = sent(responses_sandbox)
        assert {**small, "model": 0, "stream": 0} == {**large, "model": 0, "stream": 0}
        usage = ti.xcoms["usage"]
        assert usage["cost"] == usage["cost_this_attempt"] == total(responses_sandbox)
        assert (usage["escalated"], usage["model"], usage["status"]) == (1, LARGE, "completed")
        first, last = usage["sends"]
        assert first == {
            "cause": {"error": error, "status": None},
            "ambiguous": False,
            "wait": 0.0,
            "model": MODEL,
            "escalated_to": LARGE,
            "cost": responses_sandbox.ledger[0].cost,
            "cached": False,
            "input_tokens": first["input_tokens"],
            "output_tokens": first["output_tokens"],
        }
        assert min(first["input_tokens"], first["output_tokens"]) > 0
        assert last == {"cause": None, "ambiguous": False, "wait": None}
        line = f"Escalating to {LARGE}: the response of {MODEL} was not accepted ({error}: "
        shown = logged()
        assert line in shown
        assert f"It cost ${responses_sandbox.ledger[0].cost:.6f}" in shown
        assert caplog.text.count(line) <= 1

    @pytest.mark.parametrize("when", [is_short, is_unsure_lambda, ["invalid", "refused", "incomplete"]])
    def test_an_accepted_response_is_the_only_one(self, perform, responses_sandbox, when):
        responses_sandbox.script({"text": "It is good, I think."})
        ti = TaskInstance()
        assert perform(ask(escalate=Escalation(model=LARGE, when=when)), context(ti)) == "It is good, I think."
        assert models(responses_sandbox) == [MODEL]
        assert ti.xcoms["usage"]["escalated"] == 0
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    def test_a_model_without_an_escalation_has_none(self, perform, responses_sandbox):
        ti = TaskInstance()
        perform(ask(), context(ti))
        assert ti.xcoms["usage"]["escalated"] == 0

    def test_the_first_model_with_the_condition_gets_the_request(self, perform, responses_sandbox):
        responses_sandbox.script({"refusal": "No."}, {"text": "good"})
        escalate = [Escalation(model=LARGE, when=["invalid", "incomplete"]), Escalation(model=LARGEST, when="refused")]
        ti = TaskInstance()
        assert perform(ask(escalate=escalate), context(ti)) == "good"
        assert models(responses_sandbox) == [MODEL, LARGEST]
        assert ti.xcoms["usage"]["escalated"] == 1

    def test_a_function_that_changes_its_value_does_not_change_the_output(self, perform, responses_sandbox):
        def empties(value):
            value.clear()
            return False

        responses_sandbox.script({"text": GOOD})
        escalate = [Escalation(model=LARGE, when=[empties, empties])]
        assert perform(ask(output_type=Label, escalate=escalate), context()) == {"topic": "good", "why": "it is"}
        assert models(responses_sandbox) == [MODEL]

    def test_several_models_are_tried_one_after_another(self, perform, responses_sandbox):
        responses_sandbox.script({"text": WRONG}, {"refusal": "No."}, {"text": GOOD})
        escalate = [Escalation(model=LARGE), Escalation(model=LARGEST)]
        ti = TaskInstance()
        assert perform(ask(output_type=Label, escalate=escalate), context(ti)) == VALUE
        assert models(responses_sandbox) == [MODEL, LARGE, LARGEST]
        assert causes(ti) == ["OutputValidationError", "RefusalError", None]
        assert ti.xcoms["usage"]["escalated"] == 2
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    def test_a_larger_model_gets_fields_of_its_own(self, perform, responses_sandbox):
        responses_sandbox.script({"incomplete": "max_output_tokens"}, {"text": "good"})
        large = Escalation(model=LARGE, request={"max_output_tokens": 400, "instructions": "Think."})
        given = {"instructions": "Be short.", "request": {"max_output_tokens": 16, "models": [MODEL, "vendor/m"]}}
        assert perform(ask(model=None, escalate=large, **given), context()) == "good"
        small, larger = sent(responses_sandbox)
        assert (small["models"], small["max_output_tokens"], small["instructions"]) == (
            [MODEL, "vendor/m"],
            16,
            "Be short.",
        )
        assert "models" not in larger
        assert (larger["model"], larger["max_output_tokens"], larger["instructions"]) == (LARGE, 400, "Think.")


class TestInputs:
    def test_all_models_get_the_history(self, perform_from_worker, responses_sandbox):
        responses_sandbox.script({"refusal": "No."}, {"text": "good"})
        history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
        task = ask(history=history, result="conversation", escalate=[Escalation(model=LARGE)])
        value = perform_from_worker(task, context())
        small, large = sent(responses_sandbox)
        assert len(small["input"]) == 3
        assert small["input"] == large["input"] == value["conversation"]["input"]
        assert small["session_id"] == large["session_id"]

    def test_all_models_get_the_files(self, perform, responses_sandbox, tmp_path):
        path = tmp_path / "note.txt"
        path.write_text("The chair is broken.")
        responses_sandbox.script({"refusal": "No."}, {"text": "good"})
        parts = [InputFile.from_path(str(path)), {"type": "input_text", "text": "What is broken?"}]
        task = ask(input=[{"role": "user", "content": parts}], escalate=[Escalation(model=LARGE)])
        assert perform(task, context()) == "good"
        small, large = sent(responses_sandbox)
        assert small["input"] == large["input"]
        assert base64.b64encode(path.read_bytes()).decode() in str(large["input"])


class TestTheLastModel:
    def test_an_invalid_output_is_requested_again_with_the_reason_of_that_model_alone(self, perform, responses_sandbox):
        responses_sandbox.script({"text": WRONG}, {"text": '{"topic": "huge", "why": "x"}'}, {"text": GOOD})
        ti = TaskInstance()
        assert perform(ask(output_type=Label, escalate=[Escalation(model=LARGE)]), context(ti)) == VALUE
        assert models(responses_sandbox) == [MODEL, LARGE, LARGE]
        first, second, third = sent(responses_sandbox)
        assert first["input"] == second["input"] == "Is it good?"
        assert "got 'huge'" in third["input"][1]["content"]
        assert "great" not in str(third["input"])
        assert ti.xcoms["usage"]["escalated"] == 1
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    def test_re_asking_is_for_problems_without_a_larger_model(self, perform, responses_sandbox):
        responses_sandbox.script({"text": WRONG}, {"refusal": "No."}, {"text": WRONG}, {"text": GOOD})
        escalate = [Escalation(model=LARGE, when="refused")]
        assert perform(ask(output_type=Label, escalate=escalate), context()) == VALUE
        assert models(responses_sandbox) == [MODEL, MODEL, LARGE, LARGE]

    def test_its_invalid_output_fails_the_task(self, perform, responses_sandbox):
        responses_sandbox.script(*[{"text": WRONG}] * 3)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="does not match"):
            perform(ask(output_type=Label, escalate=[Escalation(model=LARGE)]), context(ti))
        assert models(responses_sandbox) == [MODEL, LARGE, LARGE]
        assert ti.xcoms["usage"]["status"] == "invalid_output"
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)
        assert len(ti.xcoms["usage"]["sends"]) == 3

    @pytest.mark.parametrize(
        ("step", "given", "value"),
        [
            ({"text": WRONG}, {"output_type": Label, "output_retries": 0}, WRONG),
            ({"refusal": "No."}, {}, "No."),
            ({"refusal": "No."}, {"output_type": Label}, "No."),
        ],
    )
    def test_only_its_response_is_returned_with_all_its_faults(self, perform, responses_sandbox, step, given, value):
        responses_sandbox.script(step, step)
        ti = TaskInstance()
        task = ask(on_invalid_output="return", escalate=[Escalation(model=LARGE)], **given)
        assert perform(task, context(ti)) == value
        assert models(responses_sandbox) == [MODEL, LARGE]
        assert ti.xcoms["usage"]["escalated"] == 1
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    def test_its_response_is_not_checked_by_a_function(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "Yes."}, {"text": "No."})
        assert perform(ask(escalate=[Escalation(model=LARGE, when=is_short)]), context()) == "No."

    @pytest.mark.parametrize("result", ["response", "conversation"])
    def test_the_whole_response_is_its_own_and_functions_check_the_output(self, perform, responses_sandbox, result):
        responses_sandbox.script({"text": '{"topic": "bad", "why": "x"}'}, {"text": GOOD})
        escalate = [Escalation(model=LARGE, when=is_bad)]
        value = perform(ask(output_type=Label, result=result, escalate=escalate), context())
        assert value["model"] == LARGE
        assert GOOD in str(value["output"])
        assert models(responses_sandbox) == [MODEL, LARGE]

    def test_its_fields_are_xcoms_of_their_own(self, run_dag, responses_sandbox):
        responses_sandbox.script({"text": WRONG}, {"text": GOOD})
        result = run_dag(OUTPUTS, "outputs")
        assert result.xcom("ask", "topic") == "good"
        assert result.xcom("ask", "usage")["escalated"] == 1


OUTPUTS = """
from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.operators.escalation import Escalation
from tests.operators.one_request import Label

with DAG("outputs", schedule=None):

    @task.responses(
        model="openai/gpt-4o-mini", output_type=Label, multiple_outputs=True, escalate=Escalation(model="openai/gpt-4o")
    )
    def ask():
        return "Is it good?"

    ask()
"""


class TestFailures:
    def test_a_failure_without_a_response_does_not_escalate(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 400})
        with pytest.raises(AirflowFailException, match="400"):
            perform(ask(escalate=[Escalation(model=LARGE)]), context())
        assert models(responses_sandbox) == [MODEL]

    def test_a_transient_failure_of_the_larger_model_is_sent_again_to_it(self, perform, responses_sandbox):
        responses_sandbox.script({"refusal": "No."}, {"status": 503, "retry_after": 0}, {"text": "good"})
        ti = TaskInstance()
        assert perform(ask(escalate=[Escalation(model=LARGE)]), context(ti)) == "good"
        assert models(responses_sandbox) == [MODEL, LARGE, LARGE]
        assert causes(ti) == ["RefusalError", "ServiceUnavailableResponseError", None]

    @pytest.mark.parametrize(("function", "error"), [(fails, "KeyError"), (exits, "SystemExit")])
    def test_a_function_that_raises_ends_the_attempt_and_the_response_is_counted(
        self, perform, responses_sandbox, function, error
    ):
        ti = TaskInstance()
        escalate = [Escalation(model=LARGE, when=function)]
        responses_sandbox.script({"text": GOOD})
        with pytest.raises(AirflowFailException, match=rf"the function {function.__name__} of `when` raised {error}"):
            perform(ask(output_type=Label, escalate=escalate), context(ti))
        assert models(responses_sandbox) == [MODEL]
        usage = ti.xcoms["usage"]
        assert usage["cost"] == total(responses_sandbox)
        assert usage["status"] == "failed"
        assert causes(ti) == ["ConfigurationError"]

    @pytest.mark.parametrize(
        ("given", "error"),
        [
            (
                {"output_type": Label, "escalate": [Escalation(model=LARGE, request={"text": {"format": {}}})]},
                r"escalate\[0\]: text\.format is given twice",
            ),
            (
                {"escalate": [Escalation(model=LARGE), Escalation(model=LARGEST, request={"store": True})]},
                r"escalate\[1\]: store must not be true",
            ),
            (
                {"escalate": [Escalation(model=LARGE, request={"top_p": "much"})]},
                r"escalate\[0\]: the request is not valid: top_p must be",
            ),
            *[
                ({"escalate": [Escalation(model=LARGE), Escalation(model=LARGEST, request=it)]}, r"^escalate\[1\]: ")
                for it in (
                    {"extra_body": {"x": datetime.date(2026, 1, 1)}},
                    {"extra_body": {"x": math.nan}},
                    {"extra_body": {"x": {1}}},
                    {"instructions": "a\ud800"},
                    {"tools": [{"type": "function", "name": "f", "parameters": {"x": object()}}]},
                )
            ],
        ],
    )
    def test_a_wrong_request_of_a_larger_model_fails_before_anything_is_paid(
        self, perform, responses_sandbox, given, error
    ):
        with pytest.raises(AirflowFailException, match=error):
            perform(ask(**given), context())
        assert not responses_sandbox.ledger


class TestRetries:
    def test_an_attempt_that_fails_at_the_larger_model_is_continued_there(self, perform_from_worker, responses_sandbox):
        store, first = TaskStateStore(), TaskInstance(max_tries=0)
        given = {"escalate": [Escalation(model=LARGE)], "options": {"max_retries": 0}, "cache": False}
        responses_sandbox.script({"incomplete": "max_output_tokens"}, {"status": 503}, {"text": "good"})
        with pytest.raises(ResponsesError, match="503"):
            perform_from_worker(ask(**given), context(first, task_state_store=store))
        assert first.xcoms["usage"]["escalated"] == 1
        ti = TaskInstance(max_tries=0, try_number=2)
        assert perform_from_worker(ask(**given), context(ti, task_state_store=store)) == "good"
        assert models(responses_sandbox) == [MODEL, LARGE, LARGE]
        usage = ti.xcoms["usage"]
        assert usage["escalated"] == 1
        assert usage["cost"] == total(responses_sandbox)
        assert usage["cost_this_attempt"] == pytest.approx(responses_sandbox.billed[-1].cost)

    def test_without_a_store_the_first_response_comes_from_the_cache(self, perform_from_worker, responses_sandbox):
        given = {"escalate": [Escalation(model=LARGE)], "options": {"max_retries": 0}}
        responses_sandbox.script({"refusal": "No."}, {"status": 503})
        with pytest.raises(ResponsesError, match="503"):
            perform_from_worker(ask(**given), context(TaskInstance(max_tries=0)))
        ti = TaskInstance(max_tries=0, try_number=2)
        responses_sandbox.script({}, {"text": "good"})
        assert perform_from_worker(ask(**given), context(ti)) == "good"
        assert [entry.model for entry in responses_sandbox.billed] == [MODEL, LARGE]
        assert ti.xcoms["usage"]["escalated"] == 1
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    def test_a_crash_between_the_models_pays_nothing_twice(self, responses_sandbox, monkeypatch):
        class Killed(BaseException):
            pass

        store = TaskStateStore()
        escalate = [Escalation(model=LARGE, when="refused")]
        responses_sandbox.script({"refusal": "No."}, {"text": "good"})
        task = ask(escalate=escalate, cache=False)
        kept = task._store_spent

        def store_and_die(*args, **kwargs):
            kept(*args, **kwargs)
            raise Killed

        monkeypatch.setattr(task, "_store_spent", store_and_die)
        with pytest.raises(Killed):
            task.execute(context(TaskInstance(max_tries=0), task_state_store=store))
        ti = TaskInstance(max_tries=0, try_number=2)
        assert ask(escalate=escalate, cache=False).execute(context(ti, task_state_store=store)) == "good"
        assert models(responses_sandbox) == [MODEL, LARGE]
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)
        assert ti.xcoms["usage"]["escalated"] == 1

    @pytest.mark.parametrize("changed", [[], [Escalation(model=LARGEST)]])
    def test_after_a_change_of_the_larger_models_the_task_begins_again(self, responses_sandbox, changed):
        store = TaskStateStore()
        responses_sandbox.script({"refusal": "No."}, {"status": 503}, {"text": "good"})
        given = {"options": {"max_retries": 0}, "cache": False}
        with pytest.raises(ResponsesError, match="503"):
            ask(escalate=[Escalation(model=LARGE)], **given).execute(
                context(TaskInstance(max_tries=0), task_state_store=store)
            )
        ti = TaskInstance(max_tries=0, try_number=2)
        ask(escalate=changed, **given).execute(context(ti, task_state_store=store))
        assert models(responses_sandbox) == [MODEL, LARGE, MODEL]
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    def test_a_cleared_task_begins_with_the_small_model(self, responses_sandbox):
        store, escalate = TaskStateStore(), [Escalation(model=LARGE)]
        responses_sandbox.script({"refusal": "No."}, {"text": "good"}, {"text": "fine"})
        ask(escalate=escalate).execute(context(TaskInstance(), task_state_store=store))
        cleared = TaskInstance(try_number=2, max_tries=4)
        assert ask(escalate=escalate).execute(context(cleared, task_state_store=store)) == "fine"
        assert models(responses_sandbox) == [MODEL, LARGE, MODEL]


class TestLimits:
    OUTPUT = 100
    SMALL = OUTPUT * 0.6e-6  # US dollars, without the input
    BIG = OUTPUT * 10e-6

    def limited(self, max_cost, **kwargs):
        escalate = [Escalation(model=LARGE, when=["refused", is_short])]
        given = {"request": {"max_output_tokens": self.OUTPUT}, "escalate": escalate}
        return ask(**(given | {"max_cost": max_cost} | kwargs))

    @pytest.mark.parametrize("step", [{"refusal": "No."}, {"text": "Yes."}])
    def test_a_larger_model_that_fits_gets_the_request(self, perform_from_worker, responses_sandbox, step):
        responses_sandbox.script(step, {"text": "It is good, I think."})
        ti = TaskInstance()
        task = self.limited(2 * (self.SMALL + self.BIG))
        assert perform_from_worker(task, context(ti, task_state_store=TaskStateStore())) == "It is good, I think."
        assert models(responses_sandbox) == [MODEL, LARGE]
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    @pytest.mark.parametrize(
        ("step", "status"), [({"refusal": "No."}, "refused"), ({"text": "Yes."}, "invalid_output")]
    )
    def test_one_that_does_not_fit_is_refused_before_its_send(
        self, perform_from_worker, responses_sandbox, step, status, logged
    ):
        responses_sandbox.script(step)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match=r"max_cost of \$0\.0005 leaves no room: .* may cost \$0\.001"):
            perform_from_worker(self.limited(0.0005), context(ti, task_state_store=TaskStateStore()))
        assert models(responses_sandbox) == [MODEL]
        usage = ti.xcoms["usage"]
        assert (usage["status"], usage["cost"]) == (status, total(responses_sandbox))
        assert (usage["escalated"], [send.get("escalated_to") for send in usage["sends"]]) == (0, [None])
        assert f"The limit of cost does not allow escalation to {LARGE}: the response of {MODEL} was" in (
            log := logged()
        )
        assert "Escalating to" not in log

    def test_a_budget_counts_the_larger_model_before_its_send(self, perform_from_worker, responses_sandbox):
        responses_sandbox.script({"refusal": "No."})
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match=r"budget\.dag_run of \$0\.0005 leaves no room: .* \$0\.001"):
            perform_from_worker(self.limited(None, budget=Budget(dag_run=0.0005)), context(ti))
        assert models(responses_sandbox) == [MODEL]
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)

    @pytest.mark.parametrize(
        ("large", "error"),
        [
            (Escalation(model="acme/secret"), "max_cost cannot be checked: /models lists no price of acme/secret"),
            (Escalation(model=LARGE, request={"max_output_tokens": None}), "max_output_tokens is missing"),
        ],
    )
    def test_a_larger_model_without_a_highest_price_is_refused_before_anything_is_paid(
        self, perform_from_worker, responses_sandbox, large, error
    ):
        with pytest.raises(AirflowFailException, match=error):
            perform_from_worker(self.limited(1.0, escalate=[large]), context())
        assert not responses_sandbox.ledger


class TestDeferral:
    def deferred(self, task, ti=None, **more):
        with pytest.raises(TaskDeferred) as caught:
            task.execute(context(ti, **more))
        return revive(caught.value.trigger, ti or TaskInstance())

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="before Airflow 3.3 a worker ends each task")
    @pytest.mark.parametrize("when", [is_short, "refused"])
    def test_the_trigger_escalates_and_ends_the_task_if_it_has_all_functions(
        self, responses_sandbox, monkeypatch, when
    ):
        perform = performer("triggerer", monkeypatch)
        responses_sandbox.script({"text": "Yes."} if when is is_short else {"refusal": "No."}, {"text": "good enough"})
        task = ask(escalate=[Escalation(model=LARGE, when=when)])

        def execute_complete(*_, **__):
            raise AssertionError("a worker ends the task")

        monkeypatch.setattr(task, "execute_complete", execute_complete)
        ti = TaskInstance()
        assert perform(task, context(ti)) == "good enough"
        assert ti.xcoms["usage"]["escalated"] == 1

    def test_a_worker_decides_by_a_function_of_the_dag_file(self, responses_sandbox, logged):
        responses_sandbox.script({"text": "perhaps"}, {"text": "good"})
        task = ask(escalate=[Escalation(model=LARGE, when=is_unsure_lambda)], deferrable=True)
        event = first_event(self.deferred(task))
        assert models(responses_sandbox) == [MODEL]
        if AIRFLOW_V_3_3_PLUS:
            assert "<lambda> of `escalate` is defined in a DAG file, which the triggerer cannot import" in logged()
        assert task.execute_complete(context(), through_the_database(event.payload)) == "good"
        assert models(responses_sandbox) == [MODEL, LARGE]

    @pytest.mark.parametrize("source", ["raise SystemExit('no SETTING')", "", "raise RuntimeError"])
    def test_a_worker_decides_where_the_triggerer_cannot_import_a_function(
        self, responses_sandbox, source, tmp_path, monkeypatch, logged
    ):
        responses_sandbox.script({"text": "perhaps"}, {"text": "good"})
        task = ask(escalate=[Escalation(model=LARGE, when=is_unsure)], deferrable=True)
        trigger = self.deferred(task)
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "checks_of_a_user.py").write_text(source)
        trigger.kwargs["escalations"] = trigger.kwargs["escalations"].replace(__name__, "checks_of_a_user")
        event = first_event(trigger)
        assert "A worker checks the response: the triggerer cannot import a function" in logged()
        assert task.execute_complete(context(), through_the_database(event.payload)) == "good"
        assert models(responses_sandbox) == [MODEL, LARGE]

    def test_a_trigger_that_starts_over_pays_once(self, responses_sandbox):
        responses_sandbox.script({"text": WRONG}, {"text": GOOD})
        task = ask(output_type=Label, escalate=[Escalation(model=LARGE)], deferrable=True)
        trigger = self.deferred(task)
        trigger.kwargs["ends_task"] = False
        for _ in range(2):
            event = first_event(revive(trigger, TaskInstance()))
            assert task.execute_complete(context(), through_the_database(event.payload)) == VALUE
        assert [entry.model for entry in responses_sandbox.billed] == [MODEL, LARGE]

    def test_a_request_of_a_larger_model_with_a_possible_secret_is_sent_on_the_worker(self, responses_sandbox, logged):
        tools = [{"type": "mcp", "server_label": "w", "server_url": "https://example.com", "authorization": "abc123"}]
        task = ask(escalate=[Escalation(model=LARGE, request={"tools": tools})], deferrable=True)
        assert task.execute(context())
        shown = logged()
        assert "Not deferred: escalate[0].request.tools.0 holds 'authorization'" in shown
        assert "abc123" not in shown


class TestTools:
    @staticmethod
    def charge(order: int) -> str:
        """Charge an order."""
        return f"charged {order}"

    @pytest.fixture(params=["worker", "deferred"])
    def perform(self, request, monkeypatch):
        return performer(request.param, monkeypatch)

    @staticmethod
    def calling(order):
        return {"calls": [{"name": "charge", "arguments": {"order": order}}]}

    @pytest.mark.parametrize("has_store", [True, False])
    def test_the_larger_model_goes_on_with_the_results_of_the_calls(self, perform, responses_sandbox, has_store):
        steps = [self.calling(1), {"refusal": "No."}, self.calling(2), {"text": "Done, all of it."}]
        responses_sandbox.script(*steps)
        more = {"task_state_store": TaskStateStore()} if has_store else {}
        ti = TaskInstance()
        task = ask(tools=[self.charge], escalate=[Escalation(model=LARGE, when=["refused", is_short])])
        assert perform(task, context(ti, **more)) == "Done, all of it."
        assert models(responses_sandbox) == [MODEL, MODEL, LARGE, LARGE]
        bodies = sent(responses_sandbox)
        assert bodies[1]["input"] == bodies[2]["input"]
        outputs = [item["output"] for item in bodies[3]["input"] if item["type"] == "function_call_output"]
        assert outputs == ["charged 1", "charged 2"]
        usage = ti.xcoms["usage"]
        assert usage["cost"] == total(responses_sandbox)
        assert (usage["escalated"], len(usage["steps"]), len(usage["sends"])) == (1, 3, 4)
        assert [step["model"] for step in usage["steps"]] == [MODEL, LARGE, LARGE]
        costs = [entry.cost for entry in responses_sandbox.billed]
        assert [(it.model, it.cost) for it in parts_of(usage)] == [
            (MODEL, pytest.approx(sum(costs[:2]))),
            (LARGE, pytest.approx(sum(costs[2:]))),
        ]

    def test_a_response_with_calls_is_not_checked(self, perform, responses_sandbox):
        responses_sandbox.script(self.calling(1), {"text": "Done, all of it."})
        task = ask(tools=[self.charge], escalate=[Escalation(model=LARGE, when=is_short)])
        assert perform(task, context()) == "Done, all of it."
        assert models(responses_sandbox) == [MODEL, MODEL]

    def test_max_steps_counts_the_requests_of_both_models(self, perform, responses_sandbox):
        responses_sandbox.script(self.calling(1), {"refusal": "No."}, self.calling(2), {"text": "Done."})
        task = ask(tools=[self.charge], max_steps=3, escalate=[Escalation(model=LARGE, when="refused")])
        with pytest.raises(AirflowFailException, match="max_steps of 3 is reached"):
            perform(task, context())
        assert models(responses_sandbox) == [MODEL, MODEL, LARGE]

    def test_an_attempt_that_fails_later_goes_on_with_the_larger_model(self, perform, responses_sandbox):
        store = TaskStateStore()
        steps = [self.calling(1), {"refusal": "No."}, self.calling(2), {"status": 503}, {"text": "Done."}]
        responses_sandbox.script(*steps)
        given = {"tools": [self.charge], "options": {"max_retries": 0}, "cache": False}
        given["escalate"] = [Escalation(model=LARGE, when="refused")]
        with pytest.raises(ResponsesError, match="503"):
            perform(ask(**given), context(TaskInstance(max_tries=0), task_state_store=store))
        ti = TaskInstance(max_tries=0, try_number=2)
        assert perform(ask(**given), context(ti, task_state_store=store)) == "Done."
        assert models(responses_sandbox) == [MODEL, MODEL, LARGE, LARGE, LARGE]
        assert ti.xcoms["usage"]["cost"] == total(responses_sandbox)
        assert ti.xcoms["usage"]["escalated"] == 1


WRONG_ARGUMENTS = [
    (
        {"escalate": [Escalation(model=LARGE, when="low_score")]},
        r"escalate\[0\]: when='low_score' never applies to a single request",
    ),
    ({"escalate": "openai/gpt-4o"}, r"escalate must be a list of Escalation\(model=\.\.\.\), got 'openai/gpt-4o'"),
    (
        {"escalate": [Escalation(model=LARGE, request={"tools": []})], "tools": [is_short]},
        r"escalate\[0\]: request\.tools is not allowed beside functions in `tools`",
    ),
]


class TestArguments:
    @pytest.mark.parametrize(("given", "error"), WRONG_ARGUMENTS[:2])
    def test_wrong_arguments_are_refused_when_the_dag_is_parsed(self, given, error):
        with pytest.raises(RequestValidationError, match=error):
            ask(**given)

    @pytest.mark.parametrize(("given", "error"), WRONG_ARGUMENTS[:2])
    def test_those_of_mapped_tasks_are_too(self, given, error):
        with DAG("mapped", schedule=None), pytest.raises(RequestValidationError, match=error):
            ResponsesOperator.partial(task_id="ask", model=MODEL, **given).expand(input=["a"])

    @pytest.mark.parametrize("when", ["invalid", ["invalid", "low_score"]])
    def test_a_model_for_invalid_outputs_needs_an_output_type(self, when):
        escalate = [Escalation(model=LARGE, when=when)]
        with pytest.raises(
            RequestValidationError, match=r"^escalate\[0\]: when='invalid' never applies, since the task"
        ):
            ask(escalate=escalate)
        ask(escalate=escalate, output_type=Label)
        ask(escalate=[Escalation(model=LARGE), Escalation(model=LARGEST, when=["invalid", "refused"])])
        with DAG("mapped", schedule=None):  # the type may be expanded
            ResponsesOperator.partial(task_id="ask", model=MODEL, input="a", escalate=escalate).expand(
                output_type=[Label]
            )

    def test_tools_of_a_larger_model_beside_functions_are_refused(self):
        given, error = WRONG_ARGUMENTS[2]
        given = given | {"tools": [TestTools.charge]}
        with pytest.raises(RequestValidationError, match=error):
            ask(**given)
        with DAG("mapped", schedule=None), pytest.raises(RequestValidationError, match=error):
            ResponsesOperator.partial(task_id="ask", model=MODEL, **given).expand(input=["a"])

    def test_dicts_as_tools_may_be_others_for_a_larger_model(self, responses_sandbox):
        search, fetch = {"type": "openrouter:web_search"}, {"type": "openrouter:datetime"}
        responses_sandbox.script({"refusal": "No."}, {"text": "good"})
        task = ask(tools=[search], escalate=[Escalation(model=LARGE, request={"tools": [fetch]})])
        assert task.execute(context()) == "good"
        assert [body["tools"] for body in sent(responses_sandbox)] == [[search], [fetch]]

    def test_the_text_of_an_escalation_is_the_same_in_each_process(self):
        shown = repr(Escalation(model=LARGE, when=["refused", is_short], request={"top_p": 1}))
        assert shown == "Escalation(model='openai/gpt-4o', when=['refused', is_short], request={'top_p': 1})"


MAPPED = """
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.operators.one_request import Label

with DAG("mapped_escalation", schedule=None):
    ResponsesOperator.partial(
        task_id="ask",
        model="openai/gpt-4o-mini",
        output_type=Label,
        escalate=[Escalation(model="openai/gpt-4o", when=["invalid", "refused"])],
        deferrable={deferrable},
    ).expand(input=[f"Is item {{n}} good?" for n in range(10)])
"""


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_bill_of_mapped_tasks_is_small_for_each_and_large_for_each_that_failed(
    run_dag, responses_sandbox, deferrable
):
    good = {"text": GOOD}
    responses_sandbox.script(good, good, {"text": WRONG}, good, good, good, good, {"refusal": "No."}, *[good] * 4)
    result = run_dag(MAPPED.format(deferrable=deferrable), "mapped_escalation")
    assert result.state == "success"
    ledger = responses_sandbox.billed
    assert [entry.model for entry in ledger].count(MODEL) == 10
    assert [entry.model for entry in ledger].count(LARGE) == 2
    assert len(ledger) == 12
    usages = [result.xcom("ask", "usage", n) for n in range(10)]
    assert sum(usage["escalated"] for usage in usages) == 2
    assert sum(usage["cost"] for usage in usages) == total(responses_sandbox)
    assert all(result.xcom("ask", map_index=n) == VALUE for n in range(10))
