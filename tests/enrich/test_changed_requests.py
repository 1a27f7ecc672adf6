"""Before anything is sent: which rows would be paid again, and which task's result would be replaced."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_responses.enrich.job import Environment
from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import OutputStore, Writer
from airflow_provider_responses.enrich.prompt import describe
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError, TooManyFailuresError
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import MODEL, Label, enrich, lines, manifest, parts, result, row_fields, table
from tests.enrich.tiers import JUDGE, LARGE, NO_JSON, SMALL, Models, score, to_large

OLD, NEW = describe("Mood of {{ row.text }}", model=MODEL), describe("Tone of {{ row.text }}", model=MODEL)


def new(row: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "input": f"Tone of {row['text']}"}


def test_a_changed_prompt_is_logged_before_anything_is_sent(responses_sandbox, tmp_path, caplog):
    told = enrich(responses_sandbox, tmp_path, table(20), prompt=OLD)
    cost = f"{told['cost']:.6f}".rstrip("0")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        enrich(responses_sandbox, tmp_path, table(20), prompt=NEW, row_fields=new)
    said = f"20 of 20 rows have a response to another prompt (fingerprint {OLD['fingerprint']}, ${cost}) and will be "
    (warning,) = [it for it in caplog.records if it.levelno == logging.WARNING]
    assert warning.getMessage() == f"{said}sent again"
    lease, first, second, *_ = caplog.messages
    assert lease.endswith(" is locked: one task at a time writes it (exclusive lease)")
    assert first == warning.getMessage()
    assert second.startswith("20 rows, 20 requests to send")
    assert manifest(tmp_path)["prompt"] == NEW
    assert len(responses_sandbox.ledger) == 40


def test_each_response_has_the_fingerprint_of_its_prompt(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(2), prompt=OLD)
    assert {line["_prompt"] for part in parts(tmp_path) for line in lines(part)} == {OLD["fingerprint"]}
    assert "_prompt" not in result(tmp_path)[0]


def test_a_changed_request_fails_the_task_with_on_changed_request_fail(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(4), prompt=OLD)
    before = (tmp_path / "result.jsonl").read_bytes()
    with pytest.raises(RequestValidationError) as caught:
        enrich(responses_sandbox, tmp_path, table(4), prompt=NEW, row_fields=new, on_changed_request="fail")
    assert "4 of 4 rows have a response to another prompt" in str(caught.value)
    assert OLD["fingerprint"] in str(caught.value)
    assert NEW["fingerprint"] in str(caught.value)
    assert not caught.value.retryable
    assert len(responses_sandbox.ledger) == 4
    assert (tmp_path / "result.jsonl").read_bytes() == before


@pytest.mark.parametrize("on_changed_request", ["fail", "send"])
def test_a_response_of_a_larger_model_that_cannot_be_used_is_a_changed_request(on_changed_request, tmp_path, caplog):
    """The small model's response can be used, and the larger model would be paid again."""
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda row: NO_JSON if row else None})
    given: dict[str, Any] = {"escalate": to_large(), "limits": Limits(max_failures=2), "prompt": OLD}
    request = TaskRequest(fields={}, output_type=Label, stream=False, cache=False, result="response", output_retries=0)
    models.enrich(tmp_path, 3, request=request, **given)
    assert models.paid == {SMALL: 3, LARGE: 3}
    given |= {"request": replace(request, on_invalid_output="return"), "on_changed_request": on_changed_request}
    found = (
        f"2 of 3 rows have a response to another request of the same prompt (fingerprint {OLD['fingerprint']}, $0.04)"
    )
    caplog.clear()
    if on_changed_request == "fail":
        with pytest.raises(RequestValidationError) as caught:
            models.enrich(tmp_path, 3, **given)
        assert f"on_changed_request is 'fail', and {found} and will be sent again" in str(caught.value)
        assert models.paid == {SMALL: 3, LARGE: 3}
        return
    with caplog.at_level(logging.INFO):
        models.enrich(tmp_path, 3, **given)
    assert f"{found} and will be sent again" in caplog.messages
    assert models.paid == {SMALL: 3, LARGE: 5}
    given["on_changed_request"] = "fail"  # nothing more is sent
    assert models.enrich(tmp_path, 3, **given)["requests_sent"] == 0


@pytest.mark.parametrize("changed", ["escalate", "judge"])
def test_a_step_that_is_new_or_was_not_sent_yet_is_no_changed_request(changed, tmp_path):
    models = Models({SMALL: lambda _: NO_JSON, LARGE: lambda _: {"http": 402}, JUDGE: lambda _: score(4)})
    with pytest.raises(Exception, match="402"):
        models.enrich(tmp_path, 3, escalate=to_large(), prompt=OLD, limits=Limits(concurrency=1))
    del models.rules[LARGE]
    judge = Judge(model=JUDGE, rubric="1 to 5") if changed == "judge" else None
    told = models.enrich(tmp_path, 3, escalate=to_large(), judge=judge, prompt=OLD, on_changed_request="fail")
    assert (told["counts"], models.paid[SMALL]) == ({"ok": 3}, 3)


def test_new_and_failed_rows_are_not_changed_requests(responses_sandbox, tmp_path):
    responses_sandbox.script({"status": 400})
    with pytest.raises(TooManyFailuresError):
        enrich(responses_sandbox, tmp_path, table(3), limits=Limits(concurrency=1), prompt=OLD)
    told = enrich(responses_sandbox, tmp_path, table(5), on_changed_request="fail", prompt=OLD)
    assert told["counts"] == {"ok": 5}


def test_a_changed_row_of_the_same_prompt_is_logged_as_info(responses_sandbox, tmp_path, caplog):
    enrich(responses_sandbox, tmp_path, table(4), prompt=OLD)
    rows = [*table(3), {"id": "r3", "text": "changed"}]
    with caplog.at_level(logging.INFO):
        enrich(responses_sandbox, tmp_path, rows, prompt=OLD)
    said = f"1 of 4 rows have a response to another request of the same prompt (fingerprint {OLD['fingerprint']}, $"
    (record,) = [it for it in caplog.records if it.getMessage().startswith(said)]
    assert record.levelno == logging.INFO
    assert len(responses_sandbox.ledger) == 5


def test_returning_to_an_earlier_prompt_is_free_and_not_refused(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(4), prompt=OLD)
    enrich(responses_sandbox, tmp_path, table(4), prompt=NEW, row_fields=new)
    told = enrich(responses_sandbox, tmp_path, table(4), prompt=OLD, on_changed_request="fail")
    assert (told["requests_sent"], told["prompt"]) == (0, OLD)


def test_each_row_with_a_shared_request_is_counted(responses_sandbox, tmp_path, caplog):
    rows = [{"id": number, "text": f"hello {number % 3}"} for number in range(30)]
    enrich(responses_sandbox, tmp_path, rows)
    with caplog.at_level(logging.INFO):
        enrich(responses_sandbox, tmp_path, rows, row_fields=new, prompt=NEW)
    assert "30 of 30 rows have a response to another prompt (fingerprint unknown, $" in caplog.text


def test_another_result_argument_is_a_changed_request(responses_sandbox, tmp_path):
    from dataclasses import replace

    from airflow_provider_responses.task.request import TaskRequest

    text = TaskRequest(fields={}, stream=False)
    enrich(responses_sandbox, tmp_path, table(2), request=text)
    with pytest.raises(RequestValidationError, match="2 of 2 rows have a response to another prompt"):
        enrich(
            responses_sandbox, tmp_path, table(2), request=replace(text, result="response"), on_changed_request="fail"
        )


class TestOwnership:
    mine, other = Writer(owner="dag.task run=1 map_index=-1"), Writer(owner="dag.other run=1 map_index=-1")

    def test_the_result_of_another_task_is_not_replaced(self, responses_sandbox, tmp_path):
        enrich(responses_sandbox, tmp_path, table(2), writer=self.other)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(ConfigurationError) as caught:
            enrich(responses_sandbox, tmp_path, table(2), writer=self.mine)
        said = str(caught.value)
        assert "holds the result of 'dag.other' (see its manifest.json), which 'dag.task' would replace" in said
        assert f"delete '{tmp_path / 'manifest.json'}'" in said
        assert not caught.value.retryable
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    def test_a_result_written_while_this_task_starts_is_not_replaced(self, responses_sandbox, tmp_path):
        class Beside(OutputStore):
            def acquire(self, *, resume: bool) -> None:
                enrich(responses_sandbox, tmp_path, table(2), writer=TestOwnership.other)
                super().acquire(resume=resume)

        with pytest.raises(ConfigurationError, match=r"holds the result of 'dag\.other'"):
            enrich(responses_sandbox, tmp_path, table(2), Environment(open_output=Beside), writer=self.mine)
        enrich(responses_sandbox, tmp_path, table(2), writer=self.other)

    def test_a_task_takes_over_an_output_whose_manifest_was_deleted(self, responses_sandbox, tmp_path):
        enrich(responses_sandbox, tmp_path, table(2), writer=self.other)
        (tmp_path / "manifest.json").unlink()
        told = enrich(responses_sandbox, tmp_path, table(2), writer=self.mine)
        assert told["requests_sent"] == 0
        assert told["written_by"] == {"task": "dag.task", "task_instance": self.mine.owner, "try_number": 1}

    def test_another_dag_run_of_the_same_task_replaces_the_result(self, responses_sandbox, tmp_path):
        enrich(responses_sandbox, tmp_path, table(2), writer=self.mine)
        enrich(responses_sandbox, tmp_path, table(2), writer=Writer(owner="dag.task run=2 map_index=-1"))
        assert len(responses_sandbox.ledger) == 2

    @pytest.mark.parametrize("text", ["{torn", "[]", '{"output": "x", "written_by": "somebody"}', "{}"])
    def test_a_manifest_without_a_task_is_replaced(self, text, responses_sandbox, tmp_path):
        (tmp_path / "manifest.json").write_text(text)
        assert enrich(responses_sandbox, tmp_path, table(1), writer=self.mine)["complete"]

    def test_a_task_without_a_result_does_not_block_others(self, responses_sandbox, tmp_path):
        (tmp_path / "manifest.json").write_text(json.dumps({"output": None, "written_by": {"task": "dag.other"}}))
        assert enrich(responses_sandbox, tmp_path, table(1), writer=self.mine)["complete"]

    def test_the_result_of_a_merge_is_not_replaced(self, responses_sandbox, tmp_path):
        for number in range(2):
            folder = tmp_path / f"shard-{number:04d}-of-0002"
            enrich(responses_sandbox, folder, table(4), shard=(number, 2), prompt=OLD, writer=self.mine)
        merged = merge_shards(tmp_path)
        assert (merged["written_by"], merged["prompt"]) == ({"task": "merge_shards"}, OLD)
        merge_shards(tmp_path)
        with pytest.raises(ConfigurationError, match="holds the result of 'merge_shards'"):
            enrich(responses_sandbox, tmp_path, table(4), writer=self.mine)

    def test_a_merge_that_replaces_a_tasks_result_logs_a_warning(self, responses_sandbox, tmp_path, caplog):
        enrich(responses_sandbox, tmp_path, table(2), writer=self.mine)
        enrich(responses_sandbox, tmp_path / "shard-0000-of-0001", table(2), writer=self.mine)
        merge_shards(tmp_path)
        assert "The result of dag.task in " in caplog.text


def test_the_merged_cost_is_a_minimum_if_a_shard_has_no_cost(responses_sandbox, tmp_path):
    for number in range(2):
        enrich(responses_sandbox, tmp_path / f"shard-{number:04d}-of-0002", table(4), shard=(number, 2))
    path = tmp_path / "shard-0001-of-0002" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"cost": None, "tokens": None}))
    merged = merge_shards(tmp_path)
    first = manifest(tmp_path / "shard-0000-of-0002")
    assert (merged["cost"], merged["tokens"], merged["cost_is_minimum"]) == (first["cost"], first["tokens"], True)


def test_unchanged_rows_are_not_sent_again_with_on_changed_request_fail(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path, table(4), prompt=OLD)
    assert (
        enrich(responses_sandbox, tmp_path, table(4), row_fields=row_fields, prompt=OLD, on_changed_request="fail")[
            "rows"
        ]
        == 4
    )
