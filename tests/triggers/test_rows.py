"""What a trigger stores comes back as it was, and what another version stored fails its task only."""

from __future__ import annotations

import json
import sys
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    RequestValidationError,
)
from airflow_provider_responses.operators.configuration import MAX_TRIGGER_BYTES
from airflow_provider_responses.triggers.responses import ResponsesStartTrigger, ResponsesTrigger
from tests.airflow_fakes import TaskInstance, context
from tests.models.test_output import Nested
from tests.triggers.tasks import ask, deferred, outcome_of
from tests.ways import first_event, revive, started, through_the_database

SCHEMA = {"type": "object", "properties": {"zeta": {"type": "string"}, "alpha": {"type": "string"}}}
MCP = {"type": "mcp", "server_label": "wiki", "server_url": "https://example.com/mcp"}


class TestWhatIsStored:
    def test_plain_json_that_comes_back_as_it_was(self, responses_sandbox):
        trigger = deferred(ask(request={"tools": [{"type": "function", "name": "f", "parameters": SCHEMA}]}))
        path, arguments = trigger.serialize()
        assert path == "airflow_provider_responses.triggers.responses.ResponsesTrigger"
        assert through_the_database(arguments) == arguments
        assert ResponsesTrigger(**arguments).serialize() == (path, arguments)

    @pytest.mark.parametrize("start", [False, True])
    def test_no_secret_and_no_prompt_where_it_is_shown(self, start, responses_sandbox, caplog, capfd):
        caplog.set_level("DEBUG")
        trigger = revive(started(ask()), TaskInstance()) if start else deferred(ask())
        key = responses_sandbox.connection["password"]
        assert key not in json.dumps(trigger.serialize())
        event = first_event(trigger)
        answer = outcome_of(event).response.output_text
        assert answer
        for shown in (repr(trigger), repr(event), str(event), caplog.text, "".join(capfd.readouterr())):
            assert "purple" not in shown
            assert answer not in shown
            assert key not in shown
        assert "gen-" in repr(event)
        assert "output_tokens" in repr(event)
        assert key not in json.dumps(event.payload)

    @pytest.mark.parametrize("start", [False, True])
    def test_keys_keep_their_order_though_the_database_reorders_them(self, start, responses_sandbox):
        task = ask(request={"tools": [{"type": "function", "parameters": SCHEMA, "name": "f", "strict": False}]})
        if start:
            first_event(revive(started(task), TaskInstance()))
        else:
            first_event(deferred(task))
        (tool,) = responses_sandbox.ledger[0].body["tools"]
        assert list(tool) == ["type", "parameters", "name", "strict"]
        assert list(tool["parameters"]["properties"]) == ["zeta", "alpha"]

    @pytest.mark.parametrize(
        ("arguments", "said"),
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
    def test_what_looks_like_a_secret_stays_on_the_worker(
        self, start, arguments, said, responses_sandbox, capfd, caplog
    ):
        caplog.set_level("INFO")
        ti = TaskInstance()
        assert ask(**arguments, start_from_trigger=start).execute(context(ti))
        assert ti.xcoms["usage"]["response_id"]
        shown = caplog.text + "".join(capfd.readouterr())
        assert f"Not deferred: {said}" in shown
        assert "abc123" not in shown

    def test_what_only_has_the_name_of_a_secret_is_deferred(self, responses_sandbox):
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

    def test_a_request_too_large_for_the_table_runs_on_the_worker_and_says_so(
        self, responses_sandbox, monkeypatch, capfd, caplog
    ):
        caplog.set_level("INFO")
        monkeypatch.setenv("AIRFLOW__RESPONSES__MAX_TRIGGER_BYTES", "4000")
        assert ask(input="x" * 5000).execute(context())
        assert "and [responses] max_trigger_bytes is 4000" in caplog.text + "".join(capfd.readouterr())

    @pytest.mark.parametrize("start", [False, True])
    def test_starting_over_sends_the_same_bytes_and_pays_once(self, start, responses_sandbox):
        task = ask()
        trigger = revive(started(task), TaskInstance()) if start else deferred(task)
        first = outcome_of(first_event(trigger))
        again = outcome_of(first_event(revive(trigger, TaskInstance())))
        assert again.response.output_text == first.response.output_text
        assert len(responses_sandbox.billed) == 1
        assert len({entry.body_sha256 for entry in responses_sandbox.ledger}) == 1
        assert again.generations[first.response.generation_id]["total_cost"] == pytest.approx(
            responses_sandbox.billed[0].cost
        )


class TestRowsOfOtherVersions:
    @pytest.mark.parametrize("cls", [ResponsesTrigger, ResponsesStartTrigger])
    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda kwargs: kwargs.pop("conn_id"), "lack 'conn_id'"),
            (lambda kwargs: kwargs.update(brand_new=1), "hold 'brand_new', which is unknown here"),
            (lambda kwargs: kwargs.update(options=5), "options must be"),
        ],
    )
    def test_fail_their_task_and_never_the_triggerer(self, cls, change, said, responses_sandbox):
        trigger = deferred(ask()) if cls is ResponsesTrigger else started(ask())
        _, kwargs = trigger.serialize()
        change(kwargs)
        event = first_event(revive(cls(**kwargs), TaskInstance()))
        with pytest.raises(Exception, match=said) as caught:
            ask().execute_complete(context(), through_the_database(event.payload))
        assert isinstance(caught.value.__cause__ or caught.value, (ConfigurationError, RequestValidationError))
        assert not responses_sandbox.ledger

    @pytest.mark.parametrize(
        ("name", "value"),
        [("settings", {"brand_new": 1}), ("request", "{"), ("request", "[]"), ("deadline", "soon"), ("spent", 5)],
    )
    def test_arguments_of_another_shape(self, name, value, responses_sandbox):
        _, kwargs = deferred(ask()).serialize()
        event = first_event(revive(ResponsesTrigger(**kwargs | {name: value}), TaskInstance()))
        with pytest.raises(ConfigurationError, match="another version of") as caught:
            ask().execute_complete(context(), event.payload)
        assert caught.value.retryable  # a retry defers anew

    @settings(max_examples=60, deadline=None)
    @given(
        st.dictionaries(
            st.sampled_from(
                ["conn_id", "request", "options", "settings", "idempotency_key", "spent", "deadline", "waits", "input"]
            ),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=5),
                lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
            ),
        )
    )
    def test_no_garbage_ends_the_triggerer(self, kwargs):
        for cls in (ResponsesTrigger, ResponsesStartTrigger):
            event = first_event(revive(cls(**kwargs), TaskInstance()))
            outcome = outcome_of(event)
            assert outcome.error is not None


class TestClassesOfAnswers:
    """A class that the triggerer does not have as the worker has it leaves the answer to the worker."""

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("raise SystemExit('SETTING is missing')", "SystemExit: SETTING is missing"),
            ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
            ("", "AttributeError"),
            ("Answer = 5", "AttributeError"),
            (
                "from pydantic import BaseModel\nclass Answer(BaseModel):\n    name: str",
                "has loaded answers_of_a_user:Answer with other fields",
            ),
        ],
    )
    def test_that_the_triggerer_has_not(self, source, said, responses_sandbox, tmp_path, monkeypatch, caplog, capfd):
        caplog.set_level("INFO")
        trigger = deferred(ask(output_type=Nested))
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "answers_of_a_user.py").write_text(source)
        trigger.settings["output_type"] = "answers_of_a_user:Answer"
        try:
            outcome = outcome_of(first_event(trigger))
        finally:
            sys.modules.pop("answers_of_a_user", None)
        assert outcome.unparsed
        assert outcome.value is None
        logged = caplog.text + "".join(capfd.readouterr())
        assert "A worker reads the answer" in logged
        assert said in logged

    def test_that_it_has(self, responses_sandbox):
        outcome = outcome_of(first_event(deferred(ask(output_type=Nested))))
        assert not outcome.unparsed
        assert Nested.model_validate(outcome.value)


class TestTemplates:
    def test_what_a_worker_has_rendered_is_not_rendered_again(self, responses_sandbox):
        trigger = deferred(ask(input="{{ conn.secret.password }}"))
        trigger.template_fields = ("request", "conn_id")  # as Airflow sets them for a DAG that has changed since
        trigger.render_template_fields({"conn": "rendered"})
        first_event(trigger)
        assert responses_sandbox.ledger[0].body["input"] == "{{ conn.secret.password }}"

    def test_a_start_that_was_not_rendered_sends_nothing(self, responses_sandbox):
        trigger = revive(started(ask(input="{{ ds }}")), TaskInstance())
        trigger._is_rendered = False
        error = outcome_of(first_event(trigger)).error
        assert isinstance(error, ConfigurationError)
        assert error.retryable
        assert "templates were not rendered" in str(error)
        assert not responses_sandbox.ledger
