"""The example DAGs run to their end against the sandbox."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "dags_examples"


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_example_succeeds(name, run_dag, responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what an earlier run has left would be used

    result = run_dag(EXAMPLES / f"{name}.py", name)

    assert result.state == "success"
    assert responses_sandbox.billed
    assert set(result.states.values()) == {"success"}


def test_describe_packages_gives_a_dozen_typed_labels_and_their_price(run_dag, responses_sandbox, capfd):
    result = run_dag(EXAMPLES / "describe_packages.py", "describe_packages")

    labels = [result.xcom("label", map_index=i) for i in range(12)]
    usages = [result.xcom("label", "usage", i) for i in range(12)]
    assert all(set(label) == {"topic", "summary"} for label in labels)
    assert sum(usage["cost"] for usage in usages) == pytest.approx(responses_sandbox_cost(responses_sandbox))
    assert {usage["model"] for usage in usages} == {"openai/gpt-4o-mini"}
    assert "12 packages, $" in capfd.readouterr().out


def responses_sandbox_cost(sandbox):
    return sum(entry.cost for entry in sandbox.billed)
