"""``ResponsesEnrichOperator(preview=20)``: a sample is sent, and the cost of all is extrapolated."""

from __future__ import annotations

import collections
import json
import logging
import typing

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.enrich import Judge, Limits
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.sandbox import Sandbox
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import enrich

MANY = [{"id": f"r{n}", "text": f"review {n}, which is " + "rather long, " * (n % 29)} for n in range(300)]


def preview(folder, count=20, **kwargs):
    return enrich(folder, **({"source": MANY, "key": "id", "preview": count} | kwargs)).execute(context())


def files(folder):
    return sorted(path.name for path in (folder / "out").iterdir())


def test_a_preview_sends_its_rows_and_the_full_run_reuses_their_responses(responses_sandbox, tmp_path):
    found = preview(tmp_path)
    assert len(responses_sandbox.ledger) == 20
    assert (found["kind"], found["rows"], found["requests"], found["sent"]) == ("preview", 300, 300, 20)
    assert "manifest.json" not in files(tmp_path)
    assert "result.jsonl" not in files(tmp_path)
    manifest = enrich(tmp_path, source=MANY, key="id").execute(context())
    assert (manifest["requests_reused"], manifest["requests_sent"]) == (20, 280)
    assert len(responses_sandbox.ledger) == 300
    paid = sum(entry.cost for entry in responses_sandbox.ledger)
    assert found["cost_low"] <= paid <= found["cost_high"]
    assert found["cost"] == pytest.approx(paid, rel=0.2)
    assert found["cost_of_preview"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger[:20]))


@pytest.mark.parametrize(
    "more",
    [
        {"escalate": [Escalation(model="openai/gpt-4o", when=lambda _: True)]},
        {"judge": Judge(model="openai/gpt-4o", rubric="1-5.")},
    ],
)
def test_a_preview_keeps_to_max_cost_with_larger_models_and_a_judge(more, responses_sandbox, tmp_path):
    equal = [{"id": f"r{n}", "text": f"review {n:03}"} for n in range(100)]
    with pytest.raises(AirflowFailException, match="the most expensive response of openai/gpt-4o was"):
        preview(
            tmp_path, 60, source=equal, limits=Limits(max_cost=0.002, concurrency=64, initial_concurrency=64), **more
        )
    highest = max(entry.cost for entry in responses_sandbox.billed)
    assert 0.002 - highest < sum(entry.cost for entry in responses_sandbox.billed) <= 0.002 + highest


def test_the_rows_are_spread_over_the_table_and_the_sizes(responses_sandbox, tmp_path):
    sample = preview(tmp_path)["sample"]
    assert [row["row"] for row in sample] == sorted({row["row"] for row in sample})
    assert min(row["row"] for row in sample) < 75
    assert max(row["row"] for row in sample) > 225
    sizes = sorted(row["bytes"] for row in sample)
    assert sizes[0] < 120
    assert sizes[-1] > 350


def test_the_sample_is_logged_as_a_table_without_prompts_and_responses(responses_sandbox, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = preview(tmp_path, 4)
    assert "  key   " in caplog.text
    for row in found["sample"]:
        assert row["key"] in caplog.text
        assert f"${row['cost']:.6f}" in caplog.text
        assert row["seconds"] >= 0
    assert "4 of 300 requests were sent, 0 failed; all cost about $0.0" in caplog.text
    assert "rather long" not in caplog.text
    assert json.loads(json.dumps(found)) == found


def test_a_preview_of_batches_is_sent_live_and_estimated_at_their_price(responses_sandbox, tmp_path):
    live, batch = preview(tmp_path / "live"), preview(tmp_path / "batch", mode="batch")
    assert responses_sandbox.batches == []
    assert len(responses_sandbox.billed) == 40
    paid = batch["cost_of_preview"]
    assert batch["seconds"] is None
    assert live["seconds"] is not None
    assert [it["row"] for it in batch["sample"]] == [it["row"] for it in live["sample"]]
    assert batch["cost"] - paid == pytest.approx((live["cost"] - live["cost_of_preview"]) / 2)


def test_a_preview_of_fewer_rows_than_asked_for_sends_each_once(responses_sandbox, tmp_path):
    found = preview(tmp_path, source=MANY[:3])
    assert found["sent"] == len(responses_sandbox.ledger) == 3
    assert found["cost"] == found["cost_low"] == found["cost_high"] == found["cost_so_far"]
    again = preview(tmp_path, source=MANY[:3])
    assert (again["sent"], again["requests"], again["requests_reused"]) == (0, 0, 3)
    assert len(responses_sandbox.ledger) == 3


def test_a_finished_output_stays_as_it_is(responses_sandbox, tmp_path):
    enrich(tmp_path, source=MANY[:50], key="id").execute(context())
    before = {name: (tmp_path / "out" / name).read_bytes() for name in ("result.jsonl", "manifest.json")}
    found = preview(tmp_path, 10, resume=False)
    assert found["sent"] == 10
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before


def test_a_preview_by_another_task_uses_the_same_responses_before_and_after_the_full_run(responses_sandbox, tmp_path):
    def run(task_id, rows, **kwargs):
        task = enrich(tmp_path, source=MANY[:rows], key="id", **kwargs)
        return task.execute(context(TaskInstance(task_id=task_id)))

    run("preview", 50, preview=10)
    assert run("full", 50)["requests_reused"] == 10
    found = run("preview", 60, preview=4)
    assert (found["requests_reused"], found["requests"], found["sent"]) == (50, 10, 4)
    assert run("estimate", 60, estimate_only=True)["requests"] == 6
    assert run("full", 60)["requests_reused"] == 54
    assert len(responses_sandbox.ledger) == 60


def test_a_preview_of_which_all_requests_fail_fails(responses_sandbox, tmp_path):
    with pytest.raises(AirflowFailException, match=r"all 5 requests of the preview failed. The first, for row \d+"):
        preview(tmp_path, 5, model="sandbox/refusal")


def test_the_cost_on_a_server_without_prices_is_unknown(tmp_path, monkeypatch, caplog):
    with Sandbox(dialect="open") as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(sandbox.connection))
        with caplog.at_level(logging.INFO):
            found = preview(tmp_path, 4, model="some-model")
    assert found["cost"] is None
    assert found["cost_unknown_because"] == "the server sends no price with a response"
    assert "the cost of all is unknown: the server sends no price with a response" in caplog.text


def test_a_key_whose_limit_is_too_low_for_all_rows_does_not_refuse_a_preview(responses_sandbox, tmp_path):
    responses_sandbox.key = {"limit": 1.0, "limit_remaining": 0.00005}
    assert preview(tmp_path, 4)["sent"] == 4
    with pytest.raises(AirflowFailException, match="the key's limit leaves"):
        enrich(tmp_path, source=MANY, key="id").execute(context(TaskInstance()))


def test_max_cost_limits_a_preview_too(responses_sandbox, tmp_path):
    with pytest.raises(AirflowFailException, match=r"limits\.max_cost of"):
        preview(tmp_path, 20, limits={"max_cost": 1e-5})
    assert 0 < len(responses_sandbox.ledger) < 20


def test_a_killed_preview_sends_nothing_more(responses_sandbox, tmp_path):
    task = enrich(tmp_path, source=MANY, key="id", preview=20)
    task.on_kill()
    with pytest.raises(Exception, match="the task was ended"):
        task.execute(context(TaskInstance()))
    assert responses_sandbox.ledger == []


class TestLaterModels:
    """A preview sends its rows to the larger models and to the judge, too."""

    LARGE, JUDGE = "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
    ROWS: typing.ClassVar = [{"id": n, "text": f"It is {'strange' if n % 5 == 0 else 'good'}."} for n in range(300)]

    def given(self):
        return {
            "source": [row | {"text": f"{row['text'][:-1]}, number {row['id']}."} for row in self.ROWS],
            "input": "Sum up: {{ row.text }}",
            "escalate": [Escalation(model=self.LARGE, when=lambda value: "strange" in value)],
            "judge": Judge(model=self.JUDGE, rubric="From 1 (bad) to 5 (good)."),
        }

    def test_each_row_is_shown_once_with_the_cost_of_all_its_models(self, responses_sandbox, tmp_path):
        found = preview(tmp_path, 40, **self.given())
        models = collections.Counter(entry.model for entry in responses_sandbox.billed)
        large = models[self.LARGE]
        assert models == {"openai/gpt-4o-mini": 40, self.LARGE: large, self.JUDGE: 40}
        assert 0 < large < 20
        assert (found["sent"], found["requests"], found["failed"]) == (40, 300, 0)
        assert len({row["row"] for row in found["sample"]}) == len(found["sample"]) == 40
        assert {row["status"] for row in found["sample"]} == {"ok"}
        paid = sum(entry.cost for entry in responses_sandbox.billed)
        assert sum(row["cost"] for row in found["sample"]) == pytest.approx(paid)
        assert found["cost_of_preview"] == pytest.approx(paid)

    def test_the_full_run_pays_for_the_rest_alone_within_the_interval(self, responses_sandbox, tmp_path):
        found = preview(tmp_path, 60, **self.given())
        sent = len(responses_sandbox.ledger)
        manifest = enrich(tmp_path, key="id", **self.given()).execute(context())
        models = collections.Counter(entry.model for entry in responses_sandbox.billed)
        assert models == {"openai/gpt-4o-mini": 300, self.LARGE: 60, self.JUDGE: 300}
        assert manifest["requests_sent"] == len(responses_sandbox.ledger) - sent == 660 - sent
        paid = sum(entry.cost for entry in responses_sandbox.billed)
        assert manifest["cost"] == pytest.approx(paid)
        assert found["cost_low"] <= paid <= found["cost_high"]

    def test_the_share_of_the_price_of_batches_is_that_of_the_small_model_alone(self, responses_sandbox, tmp_path):
        live, batch = (preview(tmp_path / mode, 40, mode=mode, **self.given()) for mode in ("live", "batch"))
        small = "openai/gpt-4o-mini"
        spent = sum(entry.cost for entry in responses_sandbox.billed if entry.model == small) / 2
        rest = spent / 40 * 260  # of the small model, which are in batches
        assert live["cost"] - batch["cost"] == pytest.approx(rest / 2, rel=0.1)
