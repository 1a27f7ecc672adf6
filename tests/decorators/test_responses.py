"""@task.responses: the function returns the input or the request."""

from __future__ import annotations

import datetime
import time

import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException, TaskDeferred, task
from pydantic import BaseModel, Field, RootModel, computed_field, model_serializer

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task import payloads
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive, through_the_database

MODEL = "openai/gpt-4o-mini"


class Output(BaseModel):
    text: str


def operator(function, *args, **kwargs):
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
        return task.responses(**({"model": MODEL} | kwargs))(function)(*args).operator


def test_a_string_is_the_input(responses_sandbox):
    def ask(topic):
        return f"Tell me about {topic}. {{{{ not a template }}}}"

    operator(ask, "tides").execute(context())
    assert responses_sandbox.ledger[0].body["input"] == "Tell me about tides. {{ not a template }}"


def test_a_list_is_the_input(responses_sandbox):
    items = [{"role": "user", "content": "Hello"}]
    operator(lambda: items, task_id="ask").execute(context())
    assert responses_sandbox.ledger[0].body["input"] == items


def test_a_dict_is_a_whole_request(responses_sandbox):
    def ask():
        return {"input": "Hello", "max_output_tokens": 30}

    operator(ask, request={"temperature": 0.5}).execute(context())
    body = responses_sandbox.ledger[0].body
    assert (body["model"], body["max_output_tokens"], body["temperature"]) == (MODEL, 30, 0.5)


def test_the_function_gets_its_arguments_from_the_context(responses_sandbox):
    def ask(ti):
        return f"I am {ti.task_id}"

    operator(ask).execute(context(TaskInstance(task_id="me")))
    assert responses_sandbox.ledger[0].body["input"] == "I am me"


@pytest.mark.parametrize("returned", ["Same question", {"input": "Same question", "temperature": 0}])
def test_the_function_runs_again_on_a_retry_and_the_response_is_free(returned, responses_sandbox):
    def ask():
        return returned

    task_instance = operator(ask, output_type=Output)
    first = task_instance.execute(context())
    assert task_instance.execute(context()) == first
    assert len(responses_sandbox.billed) == 1


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "the function must return the input (a str or a list of items) or a whole request (a dict), got None"),
        (5, "or a whole request (a dict), got int"),
        (b"x", "or a whole request (a dict), got bytes"),
        ("", "input must not be empty"),
        ({"input": "x", "model": "y"}, "model is given twice"),
        ({"input": "x", "temperature": 1}, "temperature is given twice"),
        ({"input": "x", "stream": True}, "stream must be an argument of the operator"),
        ({"inptu": "x"}, "did you mean 'input'"),
    ],
)
def test_a_wrong_value_of_the_function_fails_before_anything_is_sent(returned, message, responses_sandbox):
    with pytest.raises(AirflowFailException, match=r"\. Task: ask$") as caught:
        operator(lambda: returned, task_id="ask", request={"temperature": 0}).execute(context())
    assert message in str(caught.value)
    assert not responses_sandbox.ledger


def test_the_argument_input_is_refused():
    with pytest.raises(
        RequestValidationError,
        match=r"input is the value that the function of @task\.responses returns: remove the argument",
    ):
        operator(lambda: "x", task_id="ask", input="y")


def test_an_async_function_is_refused():
    async def ask():
        return "x"

    with pytest.raises(
        RequestValidationError, match=r"ask must be a plain function for @task\.responses, got an async one"
    ):
        operator(ask)


def test_a_return_annotation_of_dict_does_not_split_the_output():
    def ask() -> dict:
        return {"input": "x"}

    assert operator(ask).multiple_outputs is False
    assert operator(ask, multiple_outputs=True, output_type=Output).multiple_outputs is True


def test_the_functions_time_counts_against_execution_timeout(responses_sandbox):
    called = []

    def ask():
        called.append(time.monotonic())
        return "x"

    asked = operator(ask, execution_timeout=datetime.timedelta(seconds=100))
    for _ in range(2):
        asked.execute(context())
        assert asked._started_at <= called[-1], "the time begins before the function"
    assert called[0] < asked._started_at, "and again each time"


class Usage(BaseModel):
    usage: str


class Aliased(BaseModel):
    value: str = Field(alias="return_value")


class Computed(BaseModel):
    text: str

    @computed_field
    @property
    def usage(self) -> str:
        return self.text


class Root(RootModel[Usage]):
    pass


class Internal(BaseModel):
    value: str = Field(serialization_alias="airflow_provider_responses.finished_try")


class Serialized(BaseModel):
    text: str

    @model_serializer
    def as_other(self):
        return {"usage": self.text}


def refused(make, message):
    with (
        DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)),
        pytest.raises(RequestValidationError, match=r"^multiple_outputs.*\. Task: ask$") as caught,
    ):
        make()
    assert message in str(caught.value)


class TestMultipleOutputs:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "needs an output_type, whose fields become XComs"),
            ({"output_type": Output, "result": "response"}, "needs result='text', got 'response'"),
            (
                {"output_type": Output, "on_invalid_output": "return"},
                "needs on_invalid_output='fail', got 'return'",
            ),
            ({"output_type": Usage}, "the field 'usage' of output_type Usage would overwrite the XCom"),
            ({"output_type": Aliased}, "the field 'return_value' of output_type Aliased"),
            ({"output_type": Computed}, "the field 'usage' of output_type Computed"),
            ({"output_type": Root}, "the field 'usage' of output_type Root"),
            ({"output_type": Internal}, "the field 'airflow_provider_responses.finished_try'"),
            ({"output_type": Serialized}, "named fields and without a @model_serializer, got Serialized"),
        ],
    )
    def test_arguments_without_an_xcom_for_each_field_are_refused_when_the_dag_is_parsed(self, arguments, message):
        given = {"output_type": None} | arguments
        wrong = task.responses(multiple_outputs=True, task_id="ask", **arguments)(lambda x: x)
        right = task.responses(multiple_outputs=True, output_type=Output)(lambda x: x)
        for made in (wrong, right.override(task_id="ask", **given)):
            refused(lambda made=made: made("x"), message)
            refused(lambda made=made: made.expand(x=["x"]), message)
            refused(lambda made=made: made.partial().expand_kwargs([{"x": "x"}]), message)
        with pytest.raises(RequestValidationError, match=r"^multiple_outputs.*\. Task: ask$") as caught:
            ResponsesOperator(task_id="ask", model=MODEL, input="x", multiple_outputs=True, **arguments)
        assert message in str(caught.value)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "needs an output_type, whose fields become XComs"),
            ({"output_type": Output, "result": "response"}, "needs result='text', got 'response'"),
            ({"output_type": Usage}, "the field 'usage' of output_type Usage would overwrite the XCom"),
        ],
    )
    def test_they_are_refused_of_a_mapped_operator(self, arguments, message):
        given = {"task_id": "ask", "model": MODEL, "multiple_outputs": True}
        refused(lambda: ResponsesOperator.partial(**given, **arguments).expand(input=["x"]), message)
        refused(lambda: ResponsesOperator.partial(**given).expand_kwargs([{"input": "x", **arguments}]), message)

    def test_a_mapped_operator_may_get_its_type_from_partial_expand_and_default_args(self):
        given = {"model": MODEL, "multiple_outputs": True}
        known = {"schedule": None, "start_date": datetime.datetime(2026, 1, 1)}
        with DAG("d", **known):
            ResponsesOperator.partial(task_id="a", output_type=Output, **given).expand(input=["x"])
            ResponsesOperator.partial(task_id="b", **given).expand_kwargs([{"input": "x", "output_type": Output}])
            ResponsesOperator.partial(task_id="c", input="x", **given).expand(output_type=[Output])
        with DAG("e", default_args={"output_type": Output}, **known):
            ResponsesOperator.partial(task_id="a", **given).expand(input=["x"])

    def test_the_default_args_of_a_dag_are_checked(self):
        known = {"schedule": None, "start_date": datetime.datetime(2026, 1, 1)}
        made = task.responses(multiple_outputs=True)(lambda x: x)
        with DAG("d", default_args={"output_type": Output}, **known):
            assert made.override(task_id="one")("x").operator.output_type is Output
            made.override(task_id="many").expand(x=["x"])
        with (
            DAG("e", default_args={"output_type": Output, "result": "response"}, **known),
            pytest.raises(RequestValidationError, match="needs result='text'"),
        ):
            made.override(task_id="many").expand(x=["x"])
        with (
            DAG("f", default_args={"multiple_outputs": True}, **known),
            pytest.raises(RequestValidationError, match=r"^multiple_outputs needs an output_type.*\. Task: ask$"),
        ):
            ResponsesOperator.partial(task_id="ask", model=MODEL).expand(input=["x"])

    def test_a_template_is_checked_when_the_task_runs(self, responses_sandbox):
        asked = operator(
            lambda: "x", task_id="ask", multiple_outputs=True, output_type=Output, result="{{ params.result }}"
        )
        asked.result = "response"
        with pytest.raises(AirflowFailException, match="needs result='text'"):
            asked.execute(context())
        assert not responses_sandbox.ledger


@pytest.mark.parametrize("why", ["too large", "unparsed"])
def test_a_worker_that_resumes_sends_the_request_that_the_function_had_returned(why, responses_sandbox, monkeypatch):
    calls = []

    def ask():
        calls.append("called")
        return {"input": "Same question", "temperature": 0.5}

    typed = {} if why == "too large" else {"output_type": Output}
    with pytest.raises(TaskDeferred) as deferred:
        operator(ask, deferrable=True, **typed).execute(context())
    trigger = revive(deferred.value.trigger, TaskInstance())
    trigger.kwargs["ends_task"] = False
    if why == "too large":
        monkeypatch.setattr(payloads, "MAX_EVENT_BYTES", 10)
    else:
        trigger.kwargs["output_type"] = None  # as for a class that is defined in a DAG file
        responses_sandbox.script({"text": "not JSON"})
    event = through_the_database(first_event(trigger).payload)
    assert operator(ask, deferrable=True, **typed).execute_complete(context(), event)
    assert calls == ["called"]
    prompts = [entry.body["input"] for entry in responses_sandbox.ledger]
    assert {it if isinstance(it, str) else it[0]["content"] for it in prompts} == {"Same question"}
    assert {entry.body["temperature"] for entry in responses_sandbox.ledger} == {0.5}
    assert responses_sandbox.ledger[1].outcome == ("cached" if why == "too large" else "generated")
