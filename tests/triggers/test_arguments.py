"""Stored arguments come back unchanged; those of another version fail their task only."""

from __future__ import annotations

import json
import math
import sys
from collections import deque

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import ResponsesError, VersionMismatchError
from airflow_provider_responses.models.output import load_output
from airflow_provider_responses.operators.configuration import MAX_TRIGGER_BYTES
from airflow_provider_responses.task.arguments import Arguments
from airflow_provider_responses.task.payloads import DeferredArguments, StartArguments
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.triggers.responses import ResponsesStartTrigger, ResponsesTrigger
from tests.airflow_fakes import TaskInstance, context
from tests.execution_modes import first_event, revive, start_trigger, through_the_database
from tests.models.test_output import Nested
from tests.triggers.tasks import ask, deferred, outcome_of

CONNECTION = json.dumps({"conn_type": "responses", "password": "none"})
DEFERRED = DeferredArguments(
    conn_id="unused", task_request=TaskRequest(fields={"input": "hi", "model": "vendor/m"}), deadline=0.0
)
STARTED = StartArguments(arguments=Arguments(input="hi", model="vendor/m", conn_id="unused"))
SCHEMA = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "string"}}}
MCP = {"type": "mcp", "server_label": "wiki", "server_url": "https://example.com/mcp"}


class TestStoredArguments:
    def test_they_are_plain_json_and_come_back_unchanged(self, responses_sandbox):
        trigger = deferred(ask(request={"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]}))
        path, arguments = trigger.serialize()
        assert path == "airflow_provider_responses.triggers.responses.ResponsesTrigger"
        assert through_the_database(arguments) == arguments
        assert ResponsesTrigger(**arguments).serialize() == (path, arguments)

    @pytest.mark.parametrize("start", [False, True])
    def test_no_log_and_no_repr_shows_a_secret_or_a_prompt(self, start, responses_sandbox, caplog, capfd):
        caplog.set_level("DEBUG")
        trigger = revive(start_trigger(ask()), TaskInstance()) if start else deferred(ask())
        key = responses_sandbox.connection["password"]
        assert key not in json.dumps(trigger.serialize())
        event = first_event(trigger)
        text = outcome_of(event).response.output_text
        assert text
        for shown in (repr(trigger), repr(event), str(event), caplog.text, "".join(capfd.readouterr())):
            assert "purple" not in shown
            assert text not in shown
            assert key not in shown
        assert "gen-" in repr(event)
        assert "output_tokens" in repr(event)
        assert key not in json.dumps(event.payload)

    @pytest.mark.parametrize("start", [False, True])
    def test_keys_keep_their_order_although_the_database_reorders_them(self, start, responses_sandbox):
        task = ask(request={"tools": [{"type": "function", "parameters": SCHEMA, "name": "f", "strict": False}]})
        if start:
            first_event(revive(start_trigger(task), TaskInstance()))
        else:
            first_event(deferred(task))
        (tool,) = responses_sandbox.ledger[0].body["tools"]
        assert list(tool) == ["type", "parameters", "name", "strict"]
        assert list(tool["parameters"]["properties"]) == ["zeta", "alpha"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"options": {"headers": {"X-Api-Key": "abc123"}}},
                "options.headers holds 'X-Api-Key', and a trigger's row may hold no secret: put it into the connection",
            ),
            ({"request": {"tools": [MCP | {"authorization": "abc123"}]}}, "request.tools.0 holds 'authorization', and"),
            ({"request": {"tools": [MCP | {"headers": {"X-A": "abc123"}}]}}, "request.tools.0 holds 'headers', and"),
            ({"request": {"extra_body": {"a": {"headers": {"b": "c"}}}}}, "request.extra_body.a holds 'headers', and"),
            (
                {"request": {"tools": deque([MCP | {"authorization": "abc123"}])}},
                "request.tools.0 holds 'authorization', and",
            ),
        ],
    )
    @pytest.mark.parametrize("start", [False, True])
    def test_a_request_with_a_possible_secret_is_sent_on_the_worker(
        self, start, arguments, message, responses_sandbox, capfd, caplog
    ):
        caplog.set_level("INFO")
        ti = TaskInstance()
        assert ask(**arguments, start_from_trigger=start).execute(context(ti))
        assert ti.xcoms["usage"]["response_id"]
        shown = caplog.text + "".join(capfd.readouterr())
        assert f"Not deferred: {message}" in shown
        assert "abc123" not in shown

    def test_a_schema_whose_fields_have_names_of_secrets_is_deferred(self, responses_sandbox):
        schema = {
            "type": "object",
            "properties": {"headers": {"type": "object"}, "authorization": {"type": "string"}},
            "dependentRequired": {"headers": ["authorization"]},
        }
        tools = [MCP | {"headers": None}, {"type": "function", "name": "fetch", "parameters": schema}]
        assert deferred(ask(request={"tools": tools}))

    def test_the_largest_row_fits_a_column_of_mysql(self, responses_sandbox, monkeypatch):
        from airflow.models.trigger import Trigger
        from cryptography.fernet import Fernet

        monkeypatch.setattr("airflow.models.crypto.get_fernet", lambda: Fernet(Fernet.generate_key()))
        rest = len(json.dumps(deferred(ask()).serialize()[1]))
        trigger = deferred(ask(input="x" * (MAX_TRIGGER_BYTES - rest)))
        assert len(Trigger.from_object(trigger).encrypted_kwargs) < 65_535

    def test_a_request_too_large_for_the_table_is_sent_on_the_worker(
        self, responses_sandbox, monkeypatch, capfd, caplog
    ):
        caplog.set_level("INFO")
        monkeypatch.setenv("AIRFLOW__RESPONSES__MAX_TRIGGER_BYTES", "4000")
        assert ask(input="x" * 5000).execute(context())
        assert "bytes, and [responses] max_trigger_bytes is 4000" in caplog.text + "".join(capfd.readouterr())

    @pytest.mark.parametrize("start", [False, True])
    def test_a_trigger_that_starts_over_sends_the_same_bytes_and_pays_once(self, start, responses_sandbox):
        task = ask()
        trigger = revive(start_trigger(task), TaskInstance()) if start else deferred(task)
        first = outcome_of(first_event(trigger))
        again = outcome_of(first_event(revive(trigger, TaskInstance())))
        assert again.response.output_text == first.response.output_text
        assert len(responses_sandbox.billed) == 1
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert again.generations[first.response.generation_id]["total_cost"] == pytest.approx(
            responses_sandbox.billed[0].cost
        )


def stored_kwargs(cls):
    return (deferred(ask()) if cls is ResponsesTrigger else start_trigger(ask())).serialize()[1]


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
)


class TestOtherVersions:
    @pytest.mark.parametrize(("cls", "action"), [(ResponsesTrigger, "deferred"), (ResponsesStartTrigger, "stored")])
    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            (lambda kwargs: kwargs.pop("version"), "have version None, expected {}"),
            (lambda kwargs: kwargs.update(version=99), "have version 99, expected {}"),
            (lambda kwargs: kwargs.pop("conn_id"), "lack 'conn_id'"),
            (lambda kwargs: kwargs.update(brand_new=1), "hold 'brand_new', which is unknown here"),
            (lambda kwargs: kwargs.update(do_xcom_push="yes"), "hold 'do_xcom_push' as str"),
        ],
    )
    def test_arguments_of_another_version_are_left_to_retries(self, cls, action, change, problem, responses_sandbox):
        kwargs = stored_kwargs(cls)
        problem = problem.format(kwargs["version"])
        change(kwargs)
        event = first_event(revive(cls(**kwargs), TaskInstance()))
        with pytest.raises(VersionMismatchError) as caught:
            ask().execute_complete(context(), through_the_database(event.payload))
        assert str(caught.value) == (
            f"the task was {action} by another version of airflow-provider-responses than the triggerer runs (the "
            f"trigger's arguments {problem}). Install the same version everywhere in Airflow; a retry defers the task "
            "again. Task: ask"
        )
        assert caught.value.retryable
        assert not caught.value.ambiguous
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("name", "value", "problem"),
        [
            ("request", "{", "cannot be read: JSONDecodeError: "),
            ("request", "[]", "cannot be read: AttributeError: "),
            ("output_format", "{", "cannot be read: JSONDecodeError: "),
            ("options", {"brand_new": 1}, "cannot be read: ConfigurationError: options.brand_new is unknown"),
            ("options", 5, "hold 'options' as int"),
            ("deadline", "soon", "hold 'deadline' as str"),
            ("spent", 5, "hold 'spent' as int"),
            ("spent", {"gen-1": "much"}, "cannot be read: ValueError: "),
            ("escalations", "{", "cannot be read: JSONDecodeError: "),
            ("escalations", '[{"model": "", "request": "{}", "when": []}]', "cannot be read: RequestValidationError: "),
            ("tier", 1, "cannot be read: LookupError: tier 1"),
        ],
    )
    def test_arguments_of_another_shape_are_left_to_retries(self, name, value, problem, responses_sandbox):
        kwargs = stored_kwargs(ResponsesTrigger) | {name: value}
        event = first_event(revive(ResponsesTrigger(**kwargs), TaskInstance()))
        with pytest.raises(VersionMismatchError) as caught:
            ask().execute_complete(context(), event.payload)
        assert f"(the trigger's arguments {problem}" in str(caught.value)
        assert caught.value.retryable

    def test_options_that_a_template_has_made_wrong_fail_at_once(self, responses_sandbox):
        kwargs = stored_kwargs(ResponsesStartTrigger) | {"options": 5}
        event = first_event(revive(ResponsesStartTrigger(**kwargs), TaskInstance()))
        with pytest.raises(AirflowFailException, match=r"^options must be dict"):
            ask().execute_complete(context(), through_the_database(event.payload))
        assert not responses_sandbox.ledger

    def test_a_row_that_cannot_be_read_is_reported_after_min_deferral_too(self, responses_sandbox):
        trigger = revive(ResponsesTrigger(version=99, not_before=103.0), TaskInstance())
        slept = []

        async def sleep(seconds):
            slept.append(seconds)
            trigger._now = lambda: 103.0

        trigger._now, trigger._sleep = lambda: 100.0, sleep
        assert isinstance(outcome_of(first_event(trigger)).error, VersionMismatchError)
        assert slept == [3.0]

    @settings(max_examples=60, deadline=None)
    @given(st.dictionaries(st.text(max_size=5), garbage, max_size=3), st.data())
    def test_no_garbage_ends_the_triggerer(self, more, data):
        for cls, arguments in ((ResponsesTrigger, DEFERRED), (ResponsesStartTrigger, STARTED)):
            kwargs = arguments.to_kwargs()
            wrong = data.draw(st.sets(st.sampled_from(sorted(kwargs)), min_size=1, max_size=3))
            kwargs |= {name: data.draw(garbage) for name in sorted(wrong)} | more
            trigger = revive(cls(**kwargs), TaskInstance())
            trigger._now = lambda: math.inf  # after every deadline
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("AIRFLOW_CONN_UNUSED", CONNECTION)
                assert isinstance(outcome_of(first_event(trigger)).error, ResponsesError)

    def test_the_stored_keys_change_with_the_version_only(self):
        assert (DeferredArguments.version, " ".join(DEFERRED.to_kwargs())) == (
            4,
            (
                "version conn_id request result on_invalid_output cache cache_ttl stream output_retries "
                "output_feedback output_type output_format idempotency_key options do_xcom_push spent deadline "
                "not_before ends_task waits_for_retry_after deferred_at trace_context escalations tier worker_decides "
                "escalated"
            ),
        )
        assert (StartArguments.version, " ".join(STARTED.to_kwargs())) == (
            3,
            (
                "version input model instructions request output_retries output_feedback result on_invalid_output "
                "cache cache_ttl stream options conn_id output_type output_format execution_timeout do_xcom_push "
                "retries escalations worker_decides"
            ),
        )


class TestOutputTypes:
    """A worker validates the response where the triggerer has not the class that the worker has."""

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("raise SystemExit('SETTING is missing')", "SystemExit: SETTING is missing"),
            ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
            ("", "AttributeError"),
            ("Label = 5", "output_type must be a type or a JSON Schema, got 5"),
            (
                "from pydantic import BaseModel\nclass Label(BaseModel):\n    name: str",
                "has loaded labels_of_a_user:Label with other fields",
            ),
        ],
    )
    def test_a_class_that_the_triggerer_lacks_leaves_validation_to_a_worker(
        self, source, message, responses_sandbox, tmp_path, monkeypatch, caplog, capfd
    ):
        caplog.set_level("INFO")
        trigger = deferred(ask(output_type=Nested))
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "labels_of_a_user.py").write_text(source)
        trigger.kwargs["output_type"] = "labels_of_a_user:Label"
        try:
            outcome = outcome_of(first_event(trigger))
        finally:
            sys.modules.pop("labels_of_a_user", None)
        assert outcome.unparsed
        assert outcome.value is None
        logged = caplog.text + "".join(capfd.readouterr())
        assert "A worker validates the response" in logged
        assert message in logged

    def test_a_class_that_the_triggerer_has_validates_the_response_there(self, responses_sandbox):
        outcome = outcome_of(first_event(deferred(ask(output_type=Nested))))
        assert not outcome.unparsed
        assert Nested.model_validate(outcome.value)

    @pytest.mark.parametrize(
        "output_type",
        [list[Nested], Nested | None, dict[str, int], {"type": "array", "items": {"type": "integer"}, "minItems": 1}],
        ids=["list", "union", "not strict", "JSON Schema"],
    )
    def test_types_of_several_parts_and_json_schemas_are_validated_there_too(self, output_type, responses_sandbox):
        outcome = outcome_of(first_event(deferred(ask(output_type=output_type))))
        assert not outcome.unparsed
        assert outcome.response is not None
        assert outcome.value == load_output(output_type, outcome.response.output_text)

    def test_an_invalid_response_is_requested_again_there_by_the_schema_as_it_was_written(self, responses_sandbox):
        # The sent schema requires both properties, this one does not.
        schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "required": ["a"]}
        responses_sandbox.script({"text": '{"a": "x"}'}, {"text": '{"a": 1}'})
        outcome = outcome_of(first_event(deferred(ask(output_type=schema))))
        assert outcome.value == {"a": 1}
        assert "- a: must be of type" in responses_sandbox.ledger[1].body["input"][1]["content"]


class TestTemplates:
    def test_a_request_that_a_worker_has_rendered_is_not_rendered_again(self, responses_sandbox):
        trigger = deferred(ask(input="{{ conn.secret.password }}"))
        trigger.template_fields = ("request", "conn_id")  # as Airflow sets them for a DAG that has changed since
        trigger.render_template_fields({"conn": "rendered"})
        first_event(trigger)
        assert responses_sandbox.ledger[0].body["input"] == "{{ conn.secret.password }}"

    def test_a_start_with_unrendered_templates_sends_nothing(self, responses_sandbox):
        trigger = revive(start_trigger(ask(input="{{ ds }}")), TaskInstance())
        trigger._is_rendered = False
        error = outcome_of(first_event(trigger)).error
        assert isinstance(error, VersionMismatchError)
        assert error.retryable
        assert "templates were not rendered" in str(error)
        assert not responses_sandbox.ledger
