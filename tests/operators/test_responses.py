"""One request as one task: its values in XCom, its failures and its retries."""

from __future__ import annotations

import datetime
import json

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from pydantic import BaseModel, field_validator

from airflow_provider_responses.client import AsyncResponsesClient, ResponsesClient
from airflow_provider_responses.client.base_client import read_object
from airflow_provider_responses.exceptions import (
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    TooManyRequestsResponseError,
    TransportError,
)
from airflow_provider_responses.task.texts import storable
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.operators.one_request import MODEL, Label, ask, sent


class TestValues:
    def test_the_text_and_one_xcom_with_ids_cost_and_model(self, perform, responses_sandbox):
        ti = TaskInstance()
        text = perform(ask(), context(ti))
        (entry,) = responses_sandbox.ledger
        assert isinstance(text, str)
        assert text
        assert set(ti.xcoms) == {"usage"}
        usage = ti.xcoms["usage"]
        assert usage["response_id"]
        assert usage["generation_id"] == entry.generation_id
        assert (usage["version"], usage["status"], usage["model"]) == (1, "completed", MODEL)
        assert usage["cost"] == usage["cost_this_attempt"] == pytest.approx(entry.cost)
        assert usage["cached"] is False
        assert usage["sends"] == [{"cause": None, "ambiguous": False, "wait": None}]

    def test_what_postgresql_cannot_store_is_replaced(self, perform, responses_sandbox):
        text = "a\x00b"
        responses_sandbox.script({"text": text}, {"text": json.dumps({"topic": "good", "why": text})}, {"text": text})
        assert perform(ask(), context()) == "a\ufffdb"
        assert perform(ask(input="typed", output_type=Label), context())["why"] == "a\ufffdb"
        whole = json.dumps(perform(ask(input="whole", result="response"), context()))
        assert "a\\ufffdb" in whole
        assert "\\u0000" not in whole
        assert storable({"x\x00": ["\ud83d", 1, "😀", float("nan")]}) == {"x\ufffd": ["\ufffd", 1, "😀", None]}

    def test_typed_output_is_a_plain_dict_of_a_strict_schema(self, perform, responses_sandbox):
        value = perform(ask(output_type=Label), context())
        assert Label.model_validate(value)
        (request,) = sent(responses_sandbox)
        assert request["text"]["format"]["strict"] is True
        assert request["text"]["format"]["name"] == "Label"

    def test_the_whole_response_may_be_the_value(self, perform, responses_sandbox):
        value = perform(ask(result="response"), context())
        assert value["status"] == "completed"
        assert value["output"]

    def test_cache_ttl_is_sent_as_a_header(self, perform, responses_sandbox):
        perform(ask(cache_ttl=7200), context())
        assert responses_sandbox.ledger[0].headers["x-openrouter-cache-ttl"] == "7200"

    @pytest.mark.parametrize(("stream", "streamed"), [(True, True), (False, False), ("false", False)])
    def test_the_argument_stream_decides_whether_the_response_is_streamed(
        self, perform, stream, streamed, responses_sandbox
    ):
        perform(ask(stream=stream), context())
        assert sent(responses_sandbox)[0]["stream"] is streamed

    def test_by_default_a_response_is_streamed_on_a_worker_only(self, perform, responses_sandbox):
        perform(ask(), context())
        assert sent(responses_sandbox)[0]["stream"] is (perform.mode == "worker")

    def test_other_fields_and_options_are_sent(self, perform, responses_sandbox):
        perform(
            ask(
                request={"max_output_tokens": 50, "extra_body": {"brand_new": [1]}},
                options={"headers": {"X-Team": "data"}, "metadata_level": "enabled"},
            ),
            context(),
        )
        (entry,) = responses_sandbox.ledger
        assert entry.body["max_output_tokens"] == 50
        assert entry.body["brand_new"] == [1]
        headers = {name.lower(): value for name, value in entry.headers.items()}
        assert headers["x-team"] == "data"
        assert headers["x-openrouter-metadata"] == "enabled"

    def test_the_log_has_one_line_without_prompt_and_text(self, perform, responses_sandbox, caplog, capfd):
        caplog.set_level("INFO")
        text = perform(ask(input="purple elephants"), context())
        logged = caplog.text + "".join(capfd.readouterr())  # Airflow 3 logs past the root logger
        (line,) = {line.partition("Response: ")[2] for line in logged.splitlines() if "Response: " in line}
        assert MODEL in line
        assert "cost=$" in line
        assert "sends=1" in line
        assert "purple" not in logged
        assert text not in logged


class TestIncompleteRefusedInvalid:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("step", "error"),
        [
            ({"incomplete": "max_output_tokens"}, IncompleteResponseError),
            ({"refusal": "I would rather not."}, RefusalError),
        ],
    )
    def test_it_fails_at_once_and_its_cost_is_pushed(self, perform, step, error, stream, responses_sandbox):
        responses_sandbox.script(step)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException) as caught:
            perform(ask(stream=stream), context(ti))
        assert isinstance(caught.value.__cause__, error)
        assert len(responses_sandbox.ledger) == 1
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)
        assert ti.xcoms["usage"]["generation_id"] == responses_sandbox.ledger[0].generation_id

    def test_a_truncated_response_is_accepted_with_on_invalid_output_return(self, perform, responses_sandbox):
        responses_sandbox.script({"incomplete": "max_output_tokens"})
        ti = TaskInstance()
        assert isinstance(perform(ask(on_invalid_output="return"), context(ti)), str)
        assert ti.xcoms["usage"]["cost"] is not None

    def test_a_refusal_is_accepted_with_on_invalid_output_return(self, perform, responses_sandbox):
        responses_sandbox.script({"refusal": "I would rather not."})
        assert perform(ask(on_invalid_output="return"), context()) == "I would rather not."

    def test_a_request_with_an_invalid_response_is_sent_again(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"text": '{"topic": "good", "why": "because"}'})
        ti = TaskInstance()
        assert perform(ask(output_type=Label), context(ti)) == {"topic": "good", "why": "because"}
        first, second = responses_sandbox.ledger
        names = {name.lower() for entry in (first, second) for name in entry.headers}
        assert "x-openrouter-cache-clear" not in names
        assert ti.xcoms["usage"]["cost"] == pytest.approx(first.cost + second.cost)
        assert ti.xcoms["usage"]["cost_this_attempt"] == pytest.approx(first.cost + second.cost)
        assert len(ti.xcoms["usage"]["sends"]) == 2
        assert ti.xcoms["usage"]["generation_id"] == second.generation_id

    def test_the_cost_of_an_invalid_response_counts_though_the_next_send_fails(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"status": 402})
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match="402"):
            perform(ask(output_type=Label), context(ti))
        assert ti.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.ledger[0].cost)
        assert ti.xcoms["usage"]["generation_id"] == responses_sandbox.ledger[0].generation_id

    def test_a_retry_replaces_an_invalid_cached_response(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "no label"}, {"text": '{"topic": "good", "why": "because"}'})
        with pytest.raises(AirflowFailException):
            perform(ask(output_type=Label, output_retries=0), context())
        ti = TaskInstance()
        assert perform(ask(output_type=Label), context(ti))
        assert len(responses_sandbox.billed) == 2
        assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))

    def test_the_header_that_clears_the_cache_is_not_sent_to_other_servers(
        self, perform, responses_sandbox, monkeypatch
    ):
        connection = responses_sandbox.connection | {"extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
        responses_sandbox.script({"text": "no label"}, {"text": '{"topic": "good", "why": "because"}'})
        assert perform(ask(output_type=Label), context())
        assert not [name for e in responses_sandbox.ledger for name in e.headers if "openrouter" in name.lower()]

    @pytest.mark.parametrize("retries", [0, 1, 3])
    def test_responses_that_stay_invalid_fail_at_once_and_their_cost_is_pushed(
        self, perform, retries, responses_sandbox
    ):
        responses_sandbox.script(*[{"text": '{"topic": "ugly"}'}] * 5)
        ti = TaskInstance()
        with pytest.raises(AirflowFailException, match=r"topic: .*; why: ") as caught:
            perform(ask(output_type=Label, output_retries=retries), context(ti))
        assert isinstance(caught.value.__cause__, OutputValidationError)
        assert caught.value.__cause__.response.output_text == '{"topic": "ugly"}'
        assert len(responses_sandbox.ledger) == retries + 1
        assert ti.xcoms["usage"]["cost"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.billed))

    def test_an_invalid_response_is_accepted_as_text_with_on_invalid_output_return(self, perform, responses_sandbox):
        responses_sandbox.script({"text": "neither"})
        assert perform(ask(output_type=Label, on_invalid_output="return"), context()) == "neither"


class TestFailures:
    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
    def test_an_error_that_is_not_retryable_fails_the_task_at_once(self, perform, status, responses_sandbox):
        responses_sandbox.script({"status": status})
        with pytest.raises(AirflowFailException) as caught:
            perform(ask(), context())
        assert caught.value.__cause__.status_code == status
        assert len(responses_sandbox.ledger) == 1

    @pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 524, 529])
    def test_a_retryable_error_is_left_to_retries(self, perform, status, responses_sandbox):
        responses_sandbox.script({"status": status})
        with pytest.raises(Exception) as caught:  # noqa: PT011  the class differs by status
            perform(ask(options={"max_retries": 0}), context())
        assert not isinstance(caught.value, AirflowFailException)
        assert caught.value.status_code == status

    def test_a_long_retry_after_is_left_to_airflow(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 429, "retry_after": 3600})
        with pytest.raises(TooManyRequestsResponseError) as caught:
            perform(ask(), context())
        assert caught.value.retry_after == 3600
        assert len(responses_sandbox.ledger) == 1

    def test_execution_timeout_limits_the_call(self, perform, responses_sandbox):
        responses_sandbox.script({"hang": True})
        task = ask(execution_timeout=datetime.timedelta(seconds=0.4), options={"timeout": 100})
        with pytest.raises(TransportError, match=r"no response within 0\.[0-3]"):
            perform(task, context())

    def test_a_second_attempt_in_the_same_process_has_all_of_its_time(self, responses_sandbox):
        task = ask(execution_timeout=datetime.timedelta(seconds=50))
        task.execute(context())
        task._started_at -= 1000  # as if that had been long ago
        assert task.execute(context())

    def test_a_failure_inside_a_response_is_a_failed_send(self, perform, responses_sandbox):
        responses_sandbox.script({"failed": "server"}, {})
        ti = TaskInstance()
        perform(ask(), context(ti))
        assert len(ti.xcoms["usage"]["sends"]) == 2
        billed = sum(entry.cost for entry in responses_sandbox.billed)
        assert ti.xcoms["usage"]["cost"] == pytest.approx(billed)


class TestFreeRetries:
    def test_a_retry_gets_the_cached_response_at_no_cost_and_reports_its_price(self, perform, responses_sandbox):
        first, second = TaskInstance(), TaskInstance()
        text = perform(ask(), context(first))
        again = perform(ask(), context(second))

        assert again == text
        assert len(responses_sandbox.billed) == 1
        assert second.xcoms["usage"]["cached"] is True
        assert second.xcoms["usage"]["cost_this_attempt"] == 0
        assert second.xcoms["usage"]["cost"] == pytest.approx(first.xcoms["usage"]["cost"])
        assert second.xcoms["usage"]["total_tokens"] == first.xcoms["usage"]["total_tokens"]

    def test_the_price_in_the_task_state_store_is_not_looked_up_again(self, perform, responses_sandbox):
        store = TaskStateStore()
        first, second = TaskInstance(), TaskInstance()
        perform(ask(), context(first, task_state_store=store))
        perform(ask(), context(second, task_state_store=store))
        assert second.xcoms["usage"]["cost"] == pytest.approx(first.xcoms["usage"]["cost"])

    @pytest.mark.parametrize("retries", [0, 1, 2, 3])
    def test_a_cleared_task_is_sent_again_and_its_cost_starts_again(self, perform, retries, responses_sandbox):
        store = TaskStateStore()
        perform(ask(retries=2), context(TaskInstance(max_tries=2), task_state_store=store))
        # As Airflow clears a task after one attempt, whatever `retries` of the DAG's file was before.
        cleared = TaskInstance(try_number=2, max_tries=1 + retries)
        perform(ask(retries=retries), context(cleared, task_state_store=store))
        assert len(responses_sandbox.billed) == 2
        assert cleared.xcoms["usage"]["cost"] == pytest.approx(responses_sandbox.billed[1].cost)

    @pytest.mark.parametrize(
        "other",
        [{"task_id": "b"}, {"dag_id": "b"}, {"run_id": "b"}, {"map_index": 3}, {"max_tries": 3, "try_number": 2}],
    )
    def test_every_task_instance_has_its_own_idempotency_key(self, perform, other, responses_sandbox):
        perform(ask(), context(TaskInstance()))
        perform(ask(), context(TaskInstance(**other)))
        idempotency_keys = [request["metadata"]["airflow"] for request in sent(responses_sandbox)]
        assert len(set(idempotency_keys)) == 2
        assert all(len(idempotency_key) == 32 and int(idempotency_key, 16) for idempotency_key in idempotency_keys)

    def test_every_attempt_sends_the_same_bytes(self, perform, responses_sandbox):
        responses_sandbox.script({"status": 503, "retry_after": 0}, {})
        perform(ask(output_type=Label), context())
        perform(ask(output_type=Label), context())
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert len(responses_sandbox.ledger) == 3

    @pytest.mark.parametrize(
        "arguments",
        [
            {"cache": False},
            {"request": {"provider": {"zdr": True}}},
            {"request": {"provider": {"data_collection": "deny"}}},
        ],
    )
    def test_nothing_is_cached_if_the_task_or_the_request_forbids_it(self, perform, arguments, responses_sandbox):
        perform(ask(**arguments), context())
        assert not [name for name in responses_sandbox.ledger[0].headers if "cache" in name.lower()]

    def test_other_servers_get_no_key_and_no_cache_headers(self, perform, responses_sandbox, monkeypatch):
        connection = responses_sandbox.connection | {"extra": {}}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
        perform(ask(), context())
        (entry,) = responses_sandbox.ledger
        assert set(entry.body) - {"stream"} == {"model", "input"}
        assert not [name for name in entry.headers if "openrouter" in name.lower()]


class TestRenderedArguments:
    @pytest.mark.parametrize(
        ("given", "sent_as"),
        [
            (12345, "12345"),
            ((items := [{"role": "user", "content": "x"}]), items),
            (tuple(items), items),
        ],
    )
    def test_numbers_and_lazy_lists_of_native_rendering_are_sent_as_text_and_lists(
        self, perform, given, sent_as, responses_sandbox
    ):
        task = ask(input="{{ params.x }}")
        task.input = given  # as Airflow sets what it rendered
        task.request = {"metadata": {"day": 20260101}, "user": 7}
        perform(task, context())
        (body,) = sent(responses_sandbox)
        assert body["input"] == sent_as
        assert body["metadata"]["day"] == "20260101"
        assert body["user"] == "7"

    def test_a_rendered_value_with_braces_is_checked(self, perform, responses_sandbox):
        task = ask(request="{{ params.x }}")
        task.request = "{{ not a dict }}"
        with pytest.raises(AirflowFailException, match="request must be dict, got str"):
            perform(task, context())

    def test_a_failed_price_lookup_does_not_fail_the_task(self, perform, responses_sandbox, monkeypatch):
        perform(ask(), context())
        ti = TaskInstance()
        for shape in (["x"], "str", None):

            def get_generation(*_, shape=shape, **__):
                return read_object({"data": shape})

            async def aget_generation(*_, shape=shape, **__):
                return read_object({"data": shape})

            monkeypatch.setattr(ResponsesClient, "get_generation", get_generation)
            monkeypatch.setattr(AsyncResponsesClient, "get_generation", aget_generation)
            assert perform(ask(), context(ti))
            assert ti.xcoms["usage"]["cost"] is None
            assert ti.xcoms["usage"]["total_tokens"] is None

    def test_a_validator_that_breaks_fails_at_once_with_its_exception_and_the_response(
        self, perform, responses_sandbox
    ):
        class Broken(BaseModel):
            topic: str

            @field_validator("topic")
            @classmethod
            def breaks(cls, value):
                return {}[value]

        with pytest.raises(AirflowFailException, match=r"^a validator of Broken raised KeyError: 'good'") as caught:
            perform(ask(output_type=Broken), context())
        assert """The response has 17 characters: '{"topic": "good"}'""" in str(caught.value)
