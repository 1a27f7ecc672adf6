"""Every example DAG succeeds against the sandbox."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "dags_examples"


@pytest.fixture(autouse=True)
def _batches_end_soon(responses_sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    responses_sandbox.batch_settings = {"seconds": 0.2}


# `approve_first` waits for a person: tests/e2e/test_approval.py.
@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"approve_first"}))
def test_example_succeeds(name, run_dag, responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # files of an earlier DAG run would be used

    result = run_dag(EXAMPLES / f"{name}.py", name)

    assert result.state == "success"
    assert responses_sandbox.billed or [batch for batch in responses_sandbox.batches if batch.billed]
    assert set(result.states.values()) == {"success"}


def test_the_demo_prints_an_output_that_fits_each_ticket_and_its_cost(run_dag, responses_sandbox, capfd):
    result = run_dag(EXAMPLES / "support_tickets.py", "support_tickets")

    tickets = result.xcom("read_tickets")
    outputs = [result.xcom("triage", map_index=i) for i in range(len(tickets))]
    usages = [result.xcom("triage", "usage", i) for i in range(len(tickets))]
    assert [output["team"] for output in outputs] == ["export", "billing", "login", "export", "billing", "other"]
    assert all(ticket.startswith(output["summary"]) for ticket, output in zip(tickets, outputs, strict=True))
    assert sum(usage["cost"] for usage in usages) == pytest.approx(
        sum(entry.cost for entry in responses_sandbox.billed)
    )
    assert {usage["model"] for usage in usages} == {"openai/gpt-4o-mini"}
    printed = capfd.readouterr().out
    assert "summary  My login fails with error 403." in printed
    assert "6 tickets, $" in printed


def test_a_dag_run_with_few_rows_is_live_and_the_next_one_sends_the_others_in_a_batch(
    run_dag, responses_sandbox, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = EXAMPLES / "overnight_batches.py"

    few = run_dag(path, "overnight_batches", conf={"rows": 20})
    assert few.state == "success"
    assert len(responses_sandbox.billed) == 20
    assert responses_sandbox.batches == []

    rest = run_dag(path, "overnight_batches")
    manifest = rest.xcom("describe")
    (batch,) = responses_sandbox.batches
    assert rest.state == "success"
    assert len(responses_sandbox.billed) == 20
    assert (manifest["counts"], manifest["requests_reused"]) == ({"ok": 249}, 20)
    assert (len(batch.custom_ids), batch.billed) == (229, True)
    assert manifest["cost_this_attempt"] == pytest.approx(batch.cost)
    assert f"{batch.id}: completed, 229 requests, ${batch.cost:.6f}" in capfd.readouterr().out


def test_each_kind_of_output_is_plain_json_in_xcom(run_dag, responses_sandbox, capfd):
    result = run_dag(EXAMPLES / "typed_outputs.py", "typed_outputs")

    assert result.state == "success"
    items, category, delivery = (result.xcom(name) for name in ("items", "category", "delivery"))
    assert isinstance(items, list)
    assert all(item.keys() == {"name", "count", "price"} and item["count"] >= 1 for item in items)
    assert category in {"furniture", "travel", "other"}
    assert delivery.keys() == {"sender", "day"}
    formats = {entry.body["text"]["format"]["name"]: entry.body["text"]["format"] for entry in responses_sandbox.ledger}
    assert formats.keys() == {"list_Item_", "Literal__furniture____travel____other__", "Delivery"}
    assert all(made["strict"] and made["schema"]["type"] == "object" for made in formats.values())
    assert f"category  {category}" in capfd.readouterr().out


def test_the_larger_model_gets_only_the_tickets_without_a_use_of_their_label(run_dag, responses_sandbox, capfd):
    result = run_dag(EXAMPLES / "escalate.py", "escalate")

    assert result.state == "success"
    usages = [result.xcom("label", "usage", n) for n in range(3)]
    assert [usage["escalated"] for usage in usages] == [0, 0, 1]
    models = [entry.model for entry in responses_sandbox.billed]
    assert (models.count("openai/gpt-4o-mini"), models.count("openai/gpt-4o")) == (3, 1)
    assert sum(usage["cost"] for usage in usages) == pytest.approx(sum(it.cost for it in responses_sandbox.billed))
    assert "escalated to openai/gpt-4o, $" in capfd.readouterr().out
