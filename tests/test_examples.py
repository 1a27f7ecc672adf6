"""Every example DAG succeeds against the sandbox."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "dags_examples"


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_succeeds(name, run_dag, responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # files of an earlier DAG run would be used

    result = run_dag(EXAMPLES / f"{name}.py", name)

    assert result.state == "success"
    assert responses_sandbox.billed
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
