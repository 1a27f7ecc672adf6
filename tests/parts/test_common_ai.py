"""The LLMBatchOperator of apache-airflow-providers-common-ai, as released, on the sandbox's batches."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.ai.batch import dispatch
from airflow.providers.common.ai.batch.output_schema import build_output_spec
from airflow.providers.common.ai.exceptions import (
    BatchProviderNotYetSupportedError,
    LLMBatchInputError,
    LLMBatchJobError,
    LLMBatchLimitExceededError,
    LLMBatchModelMismatchError,
    LLMBatchOrphanedIntentError,
    LLMBatchOrphanLookupError,
    LLMBatchPartialFailureError,
    LLMBatchTimeoutError,
)
from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
from airflow.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from airflow_provider_responses.client import ClientConfig, ResponsesClient
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    NotFoundResponseError,
    PaymentRequiredResponseError,
    TransportError,
    UnauthorizedResponseError,
)
from airflow_provider_responses.hooks import common_ai_batches
from airflow_provider_responses.hooks.common_ai_batches import OpenRouterBatchAdapter
from tests.airflow_fakes import TaskInstance, context
from tests.client.server import Connection, Server

MODEL = "openai/gpt-4o-mini"
PROMPTS = ["Summarize the first page", "Summarize the second page", "Summarize the third page"]
DAG = """
from airflow.sdk import DAG
from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator
from pydantic import BaseModel

class Mood(BaseModel):
    mood: str
    words: list[str]

with DAG("common_ai"):
    LLMBatchOperator(task_id="batch", output_type=Mood, **{arguments!r})
"""


class Mood(BaseModel):
    mood: str
    words: list[str]


@pytest.fixture
def sandbox(responses_sandbox):
    responses_sandbox.batch_settings = {"seconds": 0.001}
    return responses_sandbox


@pytest.fixture
def batch(sandbox, tmp_path):
    """Return a function that runs an attempt of the same task."""

    def run(**arguments: Any) -> dict[str, Any]:
        task = LLMBatchOperator(task_id="batch", **arguments_of(tmp_path, **arguments))
        task.poll_interval = 0
        ti = TaskInstance()
        return task.execute(context(ti, task_instance=ti))

    return run


@pytest.fixture
def adapter(sandbox):
    return dispatch.build_adapter("openrouter", llm_conn_id="responses_default")


@pytest.fixture
def one_body():
    """Return a function that returns an adapter for a server with one body for all calls."""
    server = Server()

    def adapter(body: Any) -> OpenRouterBatchAdapter:
        def script(connection: Connection) -> None:
            while connection.read_request():
                connection.respond(body)

        server.script = script
        return OpenRouterBatchAdapter(api_key="made-up-key", base_url=server.url)

    yield adapter
    server.close()


def arguments_of(folder, **arguments):
    given = {"requests": PROMPTS, "llm_conn_id": "responses_default", "model_id": f"openrouter:{MODEL}"}
    return {"result_path": f"file://{folder}/results", **given, **arguments}


def rows_of(manifest):
    lines = ObjectStoragePath(manifest["result_uri"]).read_text().splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda row: row["index"])


def bodies(sandbox, number=-1):
    return [request["body"] for request in sandbox.batch_requests(sandbox.batches[number].id)]


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_dag_runs_its_batch_on_openrouter(deferrable, sandbox, run_dag, tmp_path):
    arguments = arguments_of(tmp_path, deferrable=deferrable, system_prompt="Be brief", max_tokens=300)
    run = run_dag(DAG.format(arguments=arguments), "common_ai")
    assert run.state == "success"
    manifest = run.xcom("batch")
    assert manifest["adapter"] == "openrouter"
    assert manifest["terminal_reason"] == "succeeded"
    assert manifest["counts"]["succeeded"] == len(PROMPTS)
    (entry,) = sandbox.batches
    assert (entry.id, entry.endpoint, entry.model, entry.billed) == (
        manifest["batch_id"],
        "/v1/responses",
        MODEL,
        True,
    )
    assert [body["input"] for body in bodies(sandbox)] == PROMPTS
    assert {(body["instructions"], body["max_output_tokens"]) for body in bodies(sandbox)} == {("Be brief", 300)}
    rows = rows_of(manifest)
    assert [row["custom_id"] for row in rows] == [f"{manifest['custom_id_prefix']}-{n}" for n in range(len(PROMPTS))]
    assert all(set(row["output"]) == {"mood", "words"} for row in rows)
    assert {(row["status"], row["model"], row["finish_reason"]) for row in rows} == {("success", MODEL, "completed")}
    assert sum(row["usage"]["cost"] for row in rows) == pytest.approx(entry.cost)
    assert sum(row["usage"]["output_tokens"] for row in rows) == entry.output_tokens


def test_the_example_of_the_documentation_runs(sandbox, run_dag, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text()
    (code,) = re.findall(r"^```py\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    run = run_dag(code.replace("///tmp/summaries", f"//{tmp_path}"), "common_ai_on_openrouter")
    assert run.xcom("summarize")["counts"]["succeeded"] == 2
    assert [body["temperature"] for body in bodies(sandbox)] == [0.2, 0.2]


def test_a_dag_with_another_connection_type_fails_before_anything_is_sent(sandbox, run_dag, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http", "host": sandbox.base_url}))
    run = run_dag(DAG.format(arguments=arguments_of(tmp_path, llm_conn_id="other")), "common_ai")
    assert run.states == {("batch", -1): "failed"}
    assert sandbox.batches == []


def test_another_connection_type_is_refused_with_those_that_work(batch, sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": "http", "host": sandbox.base_url}))
    with pytest.raises(BatchProviderNotYetSupportedError, match=r"'http'; it accepts \['pydanticai', 'responses'\]"):
        batch(llm_conn_id="other")


def test_a_connection_of_common_ai_works_too_and_may_name_the_model(batch, sandbox, monkeypatch):
    fields = {"conn_type": "pydanticai", "host": sandbox.base_url, "password": "made-up-key"}
    extra = {"model": f"openrouter:{MODEL}"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({**fields, "extra": extra}))
    assert batch(llm_conn_id="other", model_id=None)["counts"]["succeeded"] == len(PROMPTS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"password": None}, "connection: password is missing (it holds the API key)"),
        ({"host": "llm.example.com"}, "connection: host must be a full URL"),
        ({"host": "http://llm.example.com/v1"}, "connection: host must begin with https"),
    ],
)
def test_a_wrong_field_of_the_connection_is_named(fields, message, batch, monkeypatch):
    connection = {"conn_type": "responses", "password": "made-up-key", **fields}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(connection))
    with pytest.raises(ConfigurationError) as raised:
        batch(llm_conn_id="other")
    assert str(raised.value).startswith(message)


def test_without_a_host_the_server_is_openrouter():
    assert OpenRouterBatchAdapter(api_key="made-up-key")._client.config.base_url == "https://openrouter.ai/api/v1"


def test_requests_and_their_parameters_become_requests_of_the_responses_api(batch, sandbox):
    manifest = batch(
        requests=[
            {"prompt": "one", "system_prompt": "Rhyme", "max_tokens": 50, "params": {"temperature": 0.9}},
            {"prompt": "two", "model": f"openrouter:{MODEL}"},
        ],
        request_params={"temperature": 0.1, "text": {"verbosity": "low"}, "input": "no", "model": "no/other"},
    )
    assert manifest["counts"]["succeeded"] == 2
    assert bodies(sandbox) == [
        {
            "input": "one",
            "instructions": "Rhyme",
            "max_output_tokens": 50,
            "temperature": 0.9,
            "text": {"verbosity": "low"},
        },
        {"input": "two", "max_output_tokens": 1024, "temperature": 0.1, "text": {"verbosity": "low"}},
    ]


def test_all_requests_may_name_a_model_that_is_not_the_operators(batch, sandbox):
    batch(requests=[{"prompt": prompt, "model": "openrouter:openai/gpt-4o"} for prompt in PROMPTS])
    assert sandbox.batches[0].model == "openai/gpt-4o"


@pytest.mark.parametrize(
    ("output_type", "strict"), [(Mood, True), (list[str], True), (Mood | None, True), (dict[str, int], False)]
)
def test_output_types_are_strict_where_strict_modes_can_express_them(output_type, strict, batch, sandbox):
    manifest = batch(output_type=output_type, request_params={"text": {"verbosity": "low"}})
    assert manifest["counts"]["succeeded"] == len(PROMPTS), rows_of(manifest)
    for body in bodies(sandbox):
        assert body["text"]["verbosity"] == "low"
        assert body["text"]["format"]["strict"] is strict
        assert body["text"]["format"]["schema"]["type"] == "object"


@pytest.mark.parametrize("text", ['```json\n{"mood": "good", "words": []}\n```', '{"mood": "good", "words": [],}'])
def test_json_in_a_code_fence_or_with_a_comma_too_many_is_read(text, batch, sandbox):
    sandbox.script_batches({"responses": [{"text": text}]})
    (row,) = rows_of(batch(requests=["one"], output_type=Mood))
    assert row["output"] == {"mood": "good", "words": []}


def test_an_invalid_output_is_a_row_with_its_text(batch, sandbox):
    sandbox.script_batches({"responses": [{"text": "I am not JSON"}]})
    manifest = batch(output_type=Mood)
    assert (manifest["counts"]["invalid_output"], manifest["counts"]["succeeded"]) == (1, 2)
    assert [row["raw_output"] for row in rows_of(manifest) if row["status"] == "invalid_output"] == ["I am not JSON"]


def test_failures_truncated_responses_and_refusals_are_errors_of_their_rows(batch, sandbox):
    steps = [{"status": 429, "message": "busy"}, {"incomplete": "max_output_tokens"}, {"refusal": "I cannot"}]
    sandbox.script_batches({"responses": steps})
    manifest = batch(requests=[*PROMPTS, "fourth"])
    assert (manifest["counts"]["errored"], manifest["counts"]["succeeded"]) == (3, 1)
    failed, truncated, refused, fine = rows_of(manifest)
    assert [row["status"] for row in (failed, truncated, refused, fine)] == ["error", "error", "error", "success"]
    assert (failed["error"]["type"], failed["error"]["provider_code"]) == ("rate_limit_exceeded", "429")
    assert "busy" in failed["error"]["message"]
    assert failed["usage"] is None
    assert truncated["finish_reason"] == "max_output_tokens"
    assert truncated["error"]["type"] == "IncompleteResponseError"
    assert truncated["error"]["output_text"]
    assert truncated["usage"]["cost"] > 0
    assert refused["error"]["type"] == "RefusalError"
    with pytest.raises(LLMBatchPartialFailureError, match="errored=3"):
        batch(requests=[*PROMPTS, "fourth"], fail_on_partial_error=True)
    assert len(sandbox.batches) == 1


def test_missing_repeated_and_unknown_results_are_counted(batch, sandbox):
    sandbox.script_batches({"missing": 1, "repeated": 1, "unknown": 2})
    manifest = batch()
    assert (manifest["counts"]["succeeded"], manifest["counts"]["missing"]) == (2, 1)
    assert (manifest["duplicate_result_count"], manifest["out_of_range_result_count"]) == (1, 2)


def test_a_batch_that_fails_validation_fails_the_task_and_a_retry_submits_again(batch, sandbox):
    sandbox.script_batches({"ending": "failed", "ending_share": 0, "message": "request 2 is wrong"})
    with pytest.raises(LLMBatchJobError, match="request 2 is wrong"):
        batch()
    assert batch()["counts"]["succeeded"] == len(PROMPTS)
    assert [entry.billed for entry in sandbox.batches] == [False, True]


def test_the_paid_results_of_a_batch_that_failed_midway_are_written(batch, sandbox, caplog):
    sandbox.script_batches({"ending": "failed", "ending_share": 0.7, "message": "the provider is gone"})
    counts = batch()["counts"]
    assert (counts["succeeded"], counts["missing"]) == (2, 1)
    assert "failed after 2 of 3 requests: the provider is gone" in caplog.text


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_requests_that_a_batch_left_out_have_its_status(ending, batch, sandbox, adapter):
    sandbox.script_batches({"ending": ending, "ending_share": 0.4})
    if ending == "expired":
        manifest = batch()
        assert (manifest["terminal_reason"], manifest["counts"]["succeeded"]) == ("expired", 1)
        assert manifest["counts"]["expired"] == 2
    else:
        with pytest.raises(LLMBatchJobError, match="2 of 3 requests"):
            batch()
    state = adapter.get_batch(sandbox.batches[0].id)
    assert (state.status, state.counts["succeeded"], state.counts[ending]) == (ending, 1, 2)


def test_a_timeout_reports_that_openrouter_has_no_cancel_and_a_retry_waits_again(batch, sandbox):
    sandbox.batch_settings = {"hold": "in_progress"}
    with pytest.raises(LLMBatchTimeoutError, match=r"OpenRouter has no cancel for batches: batch_.* is billed"):
        batch(timeout=1e-9)
    sandbox.batch_settings = {"hold": None}
    assert batch(timeout=60)["batch_id"] == sandbox.batches[0].id
    assert len(sandbox.batches) == 1


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling", "brand_new", None])
def test_a_batch_in_any_other_status_is_in_progress(status, one_body):
    state = one_body({"id": "batch_1", "status": status}).get_batch("batch_1")
    assert (state.status, state.counts, state.error_message) == ("in_progress", None, None)


def test_a_retry_attaches_to_the_batch_and_a_changed_input_does_not(batch, sandbox):
    first = batch()
    assert batch()["batch_id"] == first["batch_id"]
    assert batch(requests=["another"])["batch_id"] != first["batch_id"]
    assert len(sandbox.batches) == 2


def test_a_batch_whose_id_never_arrived_is_found_by_its_requests(batch, sandbox):
    batch(requests=["a", "b", "c"])  # an earlier one of as many requests, of the same task
    others = [{"custom_id": f"x-{n}", "body": {"input": "x"}} for n in range(3)]
    client_of(sandbox).create_batch(others, model=MODEL)
    sandbox.script_batches({"drop": "after"})
    with pytest.raises(TransportError):
        batch()
    manifest = batch()
    assert manifest["batch_id"] == sandbox.batches[-1].id
    assert [row["status"] for row in rows_of(manifest)] == ["success"] * 3
    assert len(sandbox.batches) == 3


def test_a_batch_of_the_same_task_with_another_input_is_not_the_lost_one(batch, sandbox):
    earlier = batch(requests=["a", "b", "c"])
    sandbox.script_batches({"status": 402})
    with pytest.raises(PaymentRequiredResponseError):
        batch()
    assert batch()["batch_id"] != earlier["batch_id"]
    assert [body["input"] for body in bodies(sandbox)] == PROMPTS


def test_while_a_batch_that_may_be_the_lost_one_runs_nothing_is_submitted(batch, sandbox):
    sandbox.batch_settings = {"hold": "in_progress"}
    sandbox.script_batches({"drop": "after"})
    with pytest.raises(TransportError):
        batch()
    (entry,) = sandbox.batches
    with pytest.raises(LLMBatchOrphanLookupError, match=f"may be {entry.id}: .* Retry the task then"):
        batch()
    sandbox.batch_settings = {"hold": None}
    assert batch()["batch_id"] == entry.id
    assert len(sandbox.batches) == 1


@pytest.mark.parametrize("other", [{"model": "openai/gpt-4o-mini-search"}, {"model": "openai/gpt-4o"}, {"count": 2}])
def test_only_a_running_batch_of_the_model_and_number_of_requests_may_be_the_lost_one(other, batch, sandbox):
    sandbox.script_batches({"status": 402})
    with pytest.raises(PaymentRequiredResponseError):
        batch()
    sandbox.batch_settings = {"hold": "in_progress"}
    requests = [{"custom_id": f"x-{n}", "body": {"input": "x"}} for n in range(other.get("count", 3))]
    client_of(sandbox).create_batch(requests, model=other.get("model", MODEL))
    error = LLMBatchOrphanLookupError if other == {"model": "openai/gpt-4o-mini-search"} else LLMBatchTimeoutError
    with pytest.raises(error):  # a timeout comes after the submit
        batch(timeout=1e-9)
    assert len(sandbox.batches) == (1 if error is LLMBatchOrphanLookupError else 2)


def test_a_failed_search_submits_nothing(batch, sandbox):
    sandbox.script_batches({"status": 402}, {"call": "list", "status": 400})
    with pytest.raises(PaymentRequiredResponseError):
        batch()
    with pytest.raises(LLMBatchOrphanLookupError, match=r"lookup for an orphaned batch failed \(400"):
        batch()
    assert sandbox.batches == []
    assert batch()["counts"]["succeeded"] == 3


@pytest.mark.parametrize(
    ("fields", "may_be_it"),
    [
        ({"endpoint": "/v1/chat/completions"}, False),
        ({"endpoint": None}, True),
        ({"model": None}, True),
        ({"model": "openai/gpt-4o-mini-2024-07-18"}, True),
        ({"request_counts": None}, True),
        ({"request_counts": {"total": 0}}, True),
    ],
)
def test_a_running_batch_with_unknown_fields_may_be_the_lost_one(fields, may_be_it, one_body):
    found = {"id": "batch_1", "status": "validating", "endpoint": "/v1/responses", "model": MODEL}
    adapter = one_body({"data": [{**found, "request_counts": {"total": 1}, **fields}], "has_more": False})
    adapter.validate_requests(
        [{"prompt": "x"}], model=MODEL, output_spec=build_output_spec(str), idempotency_key="0" * 16
    )
    if may_be_it:
        with pytest.raises(LLMBatchOrphanLookupError, match="batch_1"):
            adapter.find_orphaned_batch("0" * 16, "1" * 64, "2026-01-02T03:04:05+00:00")
    else:
        assert adapter.find_orphaned_batch("0" * 16, "1" * 64, "2026-01-02T03:04:05+00:00") is None


def test_a_batch_without_any_result_is_not_the_lost_one(batch, sandbox):
    unused = {"call": "results", "status": 400}
    sandbox.script_batches({"drop": "after", "ending": "failed", "ending_share": 0}, unused)
    with pytest.raises(TransportError):
        batch()
    with pytest.raises(LLMBatchOrphanedIntentError):
        batch(on_orphaned_intent="fail")


@pytest.mark.parametrize("not_before", ["2026-01-02T03:04:05+00:00", ""])
def test_batches_are_searched_around_the_time_of_the_submit(not_before):
    filters = common_ai_batches._submitted_since(not_before)
    assert {name: value.isoformat() for name, value in filters.items()} == (
        {"created_after": "2026-01-02T02:59:05+00:00", "created_before": "2026-01-02T04:04:05+00:00"}
        if not_before
        else {}
    )


def test_a_rejected_key_is_reported_as_everywhere(batch, sandbox, monkeypatch):
    fields = {"conn_type": "responses", "host": sandbox.base_url, "password": "wrong-key"}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(fields))
    with pytest.raises(UnauthorizedResponseError) as raised:
        batch(llm_conn_id="other")
    assert "wrong-key" not in str(raised.value)


def test_results_of_an_unknown_batch_raise_at_the_call(adapter):
    with pytest.raises(NotFoundResponseError):
        adapter.iter_results("batch_unknown")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"requests": ["x"] * 5001}, LLMBatchLimitExceededError, "at most 5000 in a batch of OpenRouter, got 5001"),
        ({"requests": ["x" * 2_100_000] * 100}, LLMBatchLimitExceededError, "at most 200000000 bytes"),
        (
            {"requests": ["x", {"prompt": "x", "params": {"top_q": 1}}]},
            LLMBatchInputError,
            "requests[1]: the request is not valid: top_q is not",
        ),
        ({"request_params": {"tools": [{"type": "web_search"}]}}, LLMBatchInputError, "requests[0]: tools.0 must not"),
        ({"model_id": f"openrouter:{MODEL}:online"}, LLMBatchInputError, "model must be a model without ':online'"),
        (
            {"requests": [{"prompt": "x", "model": "openrouter:a/b"}, "x"]},
            LLMBatchModelMismatchError,
            f"model must be the same in all requests of a batch of OpenRouter, got a/b, {MODEL}",
        ),
        ({"requests": [{"prompt": "x", "model": "openai:gpt-5"}]}, LLMBatchModelMismatchError, "'openrouter:<model>'"),
    ],
)
def test_a_wrong_input_is_refused_before_anything_is_sent(arguments, error, message, batch, sandbox):
    with pytest.raises(error) as raised:
        batch(**arguments)
    assert message in str(raised.value)
    assert (".expand()" in str(raised.value)) is (error is LLMBatchLimitExceededError)
    assert sandbox.batches == []


def test_a_key_that_makes_custom_ids_too_long_is_refused(adapter):
    spec = build_output_spec(str)
    adapter.validate_requests([{"prompt": "x"}], model=MODEL, output_spec=spec, idempotency_key="0" * 45)
    with pytest.raises(LLMBatchLimitExceededError, match="65 characters"):
        adapter.validate_requests([{"prompt": "x"}], model=MODEL, output_spec=spec, idempotency_key="0" * 46)


@given(key=st.text("0123456789abcdef", min_size=16, max_size=16), digest=st.text("0123456789abcdef", min_size=64))
def test_a_custom_id_is_read_as_it_was_made(key, digest):
    made = f"{common_ai_batches._prefix(key, digest)}4999"
    assert len(made) <= 64
    assert common_ai_batches._operator_id(made) == (f"{key}-4999", 4999)


@given(st.text("-0aé²\n") | st.text())
def test_any_custom_id_has_an_index_or_none(custom_id):
    name, index = common_ai_batches._operator_id(custom_id)
    assert index >= 0 or (index, name) == (-1, custom_id)


def client_of(sandbox):
    key = sandbox.connection["password"]  # a list has the batches of one key
    return ResponsesClient(ClientConfig(api_key=key, base_url=sandbox.base_url, dialect="openrouter"))
