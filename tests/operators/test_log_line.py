"""The log of a task has one line for each response, with the same fields in the same order in each execution mode."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import ResponsesError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.attempt import log_line
from airflow_provider_responses.task.cost import CostLedger
from airflow_provider_responses.task.outcome import Outcome
from tests.airflow_fakes import TaskInstance, context
from tests.operators.one_request import MODEL, Label, ask

FIELDS = (
    "status",
    "model",
    "provider",
    "input_tokens",
    "output_tokens",
    "cost",
    "cached",
    "sends",
    "resends",
    "seconds",
    "prompt",
    "generation",
    "response",
)
LINE = re.compile("Response: " + " ".join(rf'{name}=(?P<{name}>"(?:[^"\\]|\\.)*"|[^\s"]+)' for name in FIELDS))


ENDS = (AirflowFailException, ResponsesError)  # the second one is left to retries


def read(line: str) -> dict[str, str]:
    found = LINE.fullmatch(line)
    assert found, line
    return {name: json.loads(value) if value.startswith('"') else value for name, value in found.groupdict().items()}


def lines(task_log: pytest.LogCaptureFixture) -> list[dict[str, str]]:
    logged = [record for record in task_log.records if record.getMessage().startswith("Response: ")]
    assert {record.levelno for record in logged} <= {logging.INFO}
    return [read(record.getMessage()) for record in logged]


def test_each_response_has_one_line_with_all_fields(perform, responses_sandbox, task_log):
    ti = TaskInstance()
    perform(ask(), context(ti))
    usage = ti.xcoms["usage"]
    (line,) = lines(task_log)
    seconds = float(line.pop("seconds"))
    assert 0 <= seconds < 120
    assert line == {
        "status": "completed",
        "model": MODEL,
        "provider": usage["provider"] or "unknown",
        "input_tokens": str(usage["input_tokens"]),
        "output_tokens": str(usage["output_tokens"]),
        "cost": f"${usage['cost']:.6f}",
        "cached": "no",
        "sends": "1",
        "resends": "none",
        "prompt": usage.get("prompt_fingerprint") or "unknown",
        "generation": usage["generation_id"],
        "response": usage["response_id"],
    }


def test_a_cached_response_has_its_line(perform, responses_sandbox, task_log):
    perform(ask(), context(TaskInstance()))
    task_log.clear()
    perform(ask(), context(TaskInstance()))
    (line,) = lines(task_log)
    assert line["cached"] == "yes"


def test_each_resend_has_its_cause_and_its_wait(perform, responses_sandbox, task_log):
    responses_sandbox.script({"status": 429, "retry_after": 0.01}, {"cut": True}, {"text": "neither"})
    perform(ask(output_type=Label), context(TaskInstance()))
    (line,) = lines(task_log)
    assert line["sends"] == "4"
    first, second, third = line["resends"].split(";")
    assert re.fullmatch(r"TooManyRequestsResponseError:429:\d+\.\ds", first)
    assert re.fullmatch(r"\w+Error(:200)?:ambiguous:\d+\.\ds", second)
    assert re.fullmatch(r"OutputValidationError(:200)?:0\.0s", third)


@pytest.mark.parametrize(("step", "status"), [({"refusal": "No."}, "refused"), ({"text": "neither"}, "invalid_output")])
def test_a_response_that_fails_the_task_has_its_line(perform, responses_sandbox, task_log, step, status):
    responses_sandbox.script({**step, "times": 2})
    with pytest.raises(ENDS):
        perform(ask(output_type=Label, output_retries=0), context(TaskInstance()))
    (line,) = lines(task_log)
    assert line["status"] == status


def test_an_attempt_without_a_response_has_none(perform, responses_sandbox, task_log):
    responses_sandbox.script({"status": 402})
    with pytest.raises(AirflowFailException):
        perform(ask(), context(TaskInstance()))
    assert lines(task_log) == []


def test_the_line_has_neither_prompt_nor_text(perform, responses_sandbox, task_log):
    responses_sandbox.script({"text": "the text of the response"})
    perform(ask(input="the text of the prompt"), context(TaskInstance()))
    assert len(lines(task_log)) == 1
    assert "the text of" not in task_log.text


TEXTS = st.none() | st.text()


@given(TEXTS, TEXTS, TEXTS, st.none() | st.floats(0, 1e6))
def test_a_line_is_one_line_whatever_a_server_sends(model: Any, provider: Any, response_id: Any, seconds: Any):
    response = Response(raw={"id": response_id, "model": model, "provider": provider, "output": []}, headers={})
    response = replace(response, seconds=seconds)
    usage = CostLedger().usage(Outcome(response=response))
    line = read(log_line(response, {**usage, "model": model, "provider": provider, "response_id": response_id}))
    for name, value in (("model", model), ("provider", provider), ("response", response_id)):
        assert line[name] == ("unknown" if value is None else value[:200])
