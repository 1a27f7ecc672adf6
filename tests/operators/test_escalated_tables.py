"""``escalate=`` and ``judge=`` of an enrichment as a DAG: columns, manifest, ``usage`` and the bill of the sandbox."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.operators.sql import SqlTable
from tests.airflow_fakes import TaskInstance, context
from tests.operators.escalated_tables import JUDGE, LARGE, ROWS, SMALL, UNSURE, bill, dag_file, paid, result

RUBRIC = "Is the mood right? From 1 (wrong) to 5 (right)."
BY_CHECK = "escalate=[Escalation(model=LARGE, when=is_unsure)]"


def check_costs(found, folder, sandbox):
    """Compare the cost of all models in the manifest, in ``usage`` and in the rows with the ledger."""
    manifest, usage = found.xcom("label"), found.xcom("label", "usage")
    rows = result(folder)
    assert manifest["cost"] == pytest.approx(paid(sandbox))
    assert usage["cost"] == usage["cost_this_attempt"] == pytest.approx(paid(sandbox))
    assert sum(row["_cost"] for row in rows) == pytest.approx(paid(sandbox))
    by_model = {it["model"]: (it["requests"], pytest.approx(it["cost"])) for it in usage["models"]}
    assert by_model == {model: (count, paid(sandbox, model)) for model, count in bill(sandbox).items()}
    return manifest, usage, rows


def test_the_bill_is_the_small_model_for_all_rows_and_the_large_one_for_those_that_fail(
    run_dag, responses_sandbox, tmp_path
):
    found = run_dag(dag_file(tmp_path, BY_CHECK), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE}
    manifest, usage, rows = check_costs(found, tmp_path, responses_sandbox)
    assert manifest["counts"] == {"ok": ROWS}
    assert manifest["tiers"] == [
        {"model": SMALL, "requests": ROWS, "escalated": UNSURE, "cost": pytest.approx(paid(responses_sandbox, SMALL))},
        {"model": LARGE, "requests": UNSURE, "escalated": 0, "cost": pytest.approx(paid(responses_sandbox, LARGE))},
    ]
    assert "judge" not in manifest
    assert [row["id"] for row in rows if row["_escalated"]] == list(range(0, ROWS, 5))
    assert {(row["_escalated"], row["_model"]) for row in rows} == {(True, LARGE), (False, SMALL)}
    assert {row["_status"] for row in rows} == {"ok"}
    assert {"_score", "_score_reason"}.isdisjoint(rows[0])
    assert usage["requests"] == ROWS + UNSURE


@pytest.mark.parametrize(
    ("condition", "model"),
    [("invalid", "sandbox/invalid"), ("refused", "sandbox/refusal"), ("incomplete", "sandbox/incomplete")],
)
def test_a_response_that_is_not_accepted_is_paid_once_and_then_the_larger_models(
    run_dag, responses_sandbox, tmp_path, condition, model
):
    given = f"input=each_fifth_to({model!r}), model=None, escalate=[Escalation(model=LARGE, when={condition!r})]"
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS - UNSURE, model: UNSURE, LARGE: UNSURE}
    manifest, _, rows = check_costs(found, tmp_path, responses_sandbox)
    assert manifest["counts"] == {"ok": ROWS}
    assert [tier["requests"] for tier in manifest["tiers"]] == [ROWS, UNSURE]
    assert {row["_sends"] for row in rows if row["_escalated"]} == {2}
    assert {row["_model"] for row in rows if row["_escalated"]} == {LARGE}


def test_rows_go_on_to_a_third_model_and_end_with_its_response(run_dag, responses_sandbox, tmp_path):
    given = 'escalate=[Escalation(model=LARGE, when=is_unsure), Escalation(model=JUDGE, when=["invalid", is_unsure])]'
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE, JUDGE: UNSURE}
    manifest, _, rows = check_costs(found, tmp_path, responses_sandbox)
    assert [(it["model"], it["requests"], it["escalated"]) for it in manifest["tiers"]] == [
        (SMALL, ROWS, UNSURE),
        (LARGE, UNSURE, UNSURE),
        (JUDGE, UNSURE, 0),
    ]
    assert {row["_model"] for row in rows if row["_escalated"]} == {JUDGE}


def test_each_row_has_the_score_and_the_reason_of_the_judge(run_dag, responses_sandbox, tmp_path):
    found = run_dag(dag_file(tmp_path, "judge=Judge(model=JUDGE, rubric=RUBRIC)"), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, JUDGE: ROWS}
    manifest, _, rows = check_costs(found, tmp_path, responses_sandbox)
    scores = [row["_score"] for row in rows]
    assert {type(score) for score in scores} == {int}
    assert 1 <= min(scores) <= max(scores) <= 5
    assert all(row["_score_reason"] and "_escalated" not in row for row in rows)
    assert manifest["judge"] == {
        "model": JUDGE,
        "requests": ROWS,
        "scored": ROWS,
        "failed": 0,
        "below_min_score": 0,
        "mean_score": pytest.approx(sum(scores) / ROWS),
        "cost": pytest.approx(paid(responses_sandbox, JUDGE)),
    }
    assert "tiers" not in manifest
    judged = [entry.body for entry in responses_sandbox.ledger if entry.model == JUDGE]
    assert all("From 1 (wrong) to 5 (right)." in body["instructions"] for body in judged)
    assert all("Review" in body["input"] and '"mood"' in body["input"] for body in judged)


def test_the_same_sample_of_rows_is_judged_by_each_dag_run(run_dag, responses_sandbox, tmp_path):
    given, count = "judge=Judge(model=JUDGE, rubric=RUBRIC, sample=0.05)", 400
    found = run_dag(dag_file(tmp_path, given, count=count), "table")
    judged = {row["id"] for row in result(tmp_path) if row["_score"] is not None}
    assert found.state == "success"
    assert 0 < len(judged) < count * 0.15
    assert bill(responses_sandbox) == {SMALL: count, JUDGE: len(judged)}
    manifest, _, rows = check_costs(found, tmp_path, responses_sandbox)
    assert (manifest["counts"], manifest["judge"]["scored"]) == ({"ok": count}, len(judged))
    assert all((row["_score"] is None) == (row["_score_reason"] is None) for row in rows)

    again = run_dag(dag_file(tmp_path, given, count=count), "table").xcom("label")
    assert (again["requests_sent"], again["cost_this_attempt"]) == (0, 0.0)
    assert result(tmp_path) == rows
    assert again["judge"] == manifest["judge"]
    run_dag(dag_file(tmp_path, given.replace("0.05", "0.2"), count=count), "table")
    larger = [row for row in result(tmp_path) if row["_score"] is not None]
    assert {row["id"] for row in larger} > judged
    assert bill(responses_sandbox) == {SMALL: count, JUDGE: len(larger)}


def test_a_score_below_min_score_fails_its_row(run_dag, responses_sandbox, tmp_path):
    given = "judge=Judge(model=JUDGE, rubric=RUBRIC, min_score=4), limits=Limits(max_failures=ROWS_ALLOWED)"
    found = run_dag(dag_file(tmp_path, given.replace("ROWS_ALLOWED", str(ROWS - 1))), "table")
    rows = result(tmp_path)
    low = [row for row in rows if row["_score"] < 4]
    assert 0 < len(low) < ROWS
    assert found.state == "success"
    manifest, _, rows = check_costs(found, tmp_path, responses_sandbox)
    assert manifest["counts"] == {"ok": ROWS - len(low), "low_score": len(low)}
    assert manifest["judge"]["below_min_score"] == len(low)
    assert {row["_status"] for row in low} == {"low_score"}
    assert all("min_score" in row["_error"] for row in low)
    assert bill(responses_sandbox) == {SMALL: ROWS, JUDGE: ROWS}

    strict = run_dag(dag_file(tmp_path, "judge=Judge(model=JUDGE, rubric=RUBRIC, min_score=4)"), "table")
    assert strict.state == "failed"
    assert len(responses_sandbox.ledger) == 2 * ROWS  # the same requests would get the same scores
    assert strict.xcom("label")["counts"] == manifest["counts"]


LOW = f"judge=Judge(model=JUDGE, rubric=RUBRIC, min_score=4), limits=Limits(max_failures={ROWS - 1})"


def test_a_score_below_min_score_goes_to_the_larger_model_and_its_response_is_judged_too(
    run_dag, responses_sandbox, tmp_path
):
    other = "sandbox/invalid"  # whose text differs from that of the small model
    given = f"{LOW}, output_type=None, escalate=[Escalation(model={other!r}, when='low_score')]"
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "success"
    manifest, _, rows = check_costs(found, tmp_path, responses_sandbox)
    escalated = [row for row in rows if row["_escalated"]]
    assert 0 < len(escalated) < ROWS
    assert bill(responses_sandbox) == {SMALL: ROWS, other: len(escalated), JUDGE: ROWS + len(escalated)}
    assert all(row["_score"] >= 4 for row in rows if not row["_escalated"])
    assert {(row["_model"], row["output"]) for row in escalated} == {(other, "I am not sure.")}
    failed = sum(row["_score"] < 4 for row in escalated)
    assert manifest["counts"] == {"ok": ROWS - failed, "low_score": failed}
    assert manifest["tiers"][0]["escalated"] == len(escalated)
    assert {name: manifest["judge"][name] for name in ("requests", "scored", "below_min_score")} == {
        "requests": ROWS + len(escalated),
        "scored": ROWS,
        "below_min_score": failed,
    }


@pytest.mark.parametrize("is_added_later", [False, True])
def test_the_same_response_of_the_larger_model_has_its_score_from_the_cache_and_costs_nothing_more(
    run_dag, responses_sandbox, tmp_path, is_added_later
):
    given = f"{LOW}, escalate=[Escalation(model=LARGE, when='low_score')]"
    if is_added_later:
        run_dag(dag_file(tmp_path, LOW), "table")
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "success"
    manifest, usage, rows = found.xcom("label"), found.xcom("label", "usage"), result(tmp_path)
    escalated = sum(row["_escalated"] for row in rows)
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: escalated, JUDGE: ROWS}
    assert len(responses_sandbox.ledger) == 2 * ROWS + 2 * escalated
    assert manifest["cost"] == pytest.approx(paid(responses_sandbox))
    assert usage["cost"] == pytest.approx(paid(responses_sandbox, *([LARGE] if is_added_later else [])))
    assert sum(row["_cost"] for row in rows) == pytest.approx(paid(responses_sandbox))
    assert manifest["judge"]["cost"] == pytest.approx(paid(responses_sandbox, JUDGE))
    assert manifest["counts"]["low_score"] == escalated


def test_a_judge_that_is_added_later_sends_its_own_requests_alone(run_dag, responses_sandbox, tmp_path):
    yesterday = run_dag(dag_file(tmp_path), "table").xcom("label")
    assert bill(responses_sandbox) == {SMALL: ROWS}
    given = 'judge=Judge(model=JUDGE, rubric=RUBRIC), on_changed_request="fail"'
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, JUDGE: ROWS}
    assert len(responses_sandbox.ledger) == 2 * ROWS
    today, rows = found.xcom("label"), result(tmp_path)
    assert today["prompt"]["fingerprint"] == yesterday["prompt"]["fingerprint"]
    assert today["prompt"]["judge"]["rubric"].startswith("Is the mood right?")
    assert today["cost"] == pytest.approx(paid(responses_sandbox)) == pytest.approx(sum(row["_cost"] for row in rows))
    assert today["cost_this_attempt"] == pytest.approx(paid(responses_sandbox, JUDGE))
    assert all(row["_score"] is not None and row["_model"] == SMALL for row in rows)


def test_another_rubric_scores_all_rows_again_and_another_min_score_none(run_dag, responses_sandbox, tmp_path):
    run_dag(dag_file(tmp_path, "judge=Judge(model=JUDGE, rubric=RUBRIC)"), "table")
    before = [row["_score"] for row in result(tmp_path)]
    loose = f"judge=Judge(model=JUDGE, rubric=RUBRIC, min_score=3), limits=Limits(max_failures={ROWS - 1})"
    assert run_dag(dag_file(tmp_path, loose), "table").state == "success"
    rows = result(tmp_path)
    assert bill(responses_sandbox) == {SMALL: ROWS, JUDGE: ROWS}
    assert [row["_score"] for row in rows] == before
    assert {row["_status"] for row in rows if row["_score"] < 3} == {"low_score"}
    run_dag(dag_file(tmp_path, 'judge=Judge(model=JUDGE, rubric="Is it polite? From 1 to 10.")'), "table")
    assert bill(responses_sandbox) == {SMALL: ROWS, JUDGE: 2 * ROWS}
    assert max(row["_score"] for row in result(tmp_path)) > 5


def test_mapped_tasks_have_a_judge_each(run_dag, responses_sandbox, tmp_path):
    folder = str(tmp_path / "{{ ti.map_index }}" / "out")
    task = (
        'ResponsesEnrichOperator.partial(**(GIVEN | dict(task_id="label", output_path=OUTPUT, escalate=Escalation('
        "model=LARGE, when=is_unsure)))).expand(judge=[Judge(model=JUDGE, rubric=RUBRIC), Judge(model=LARGE, "
        'rubric={0: "wrong", 1: "right"})])'
    )
    found = run_dag(dag_file(tmp_path, task=task.replace("OUTPUT", repr(folder)), count=10), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: 20, LARGE: 4 + 10, JUDGE: 10}
    scores = [{row["_score"] for row in result(tmp_path / str(number))} for number in range(2)]
    assert scores[0] <= {1, 2, 3, 4, 5}
    assert scores[1] <= {0, 1}
    assert [found.xcom("label", map_index=n)["judge"]["model"] for n in range(2)] == [JUDGE, LARGE]


def test_a_larger_model_that_is_added_later_gets_only_what_fails_its_check(run_dag, responses_sandbox, tmp_path):
    run_dag(dag_file(tmp_path), "table")
    found = run_dag(dag_file(tmp_path, f'{BY_CHECK}, on_changed_request="fail"'), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE}
    assert len(responses_sandbox.ledger) == ROWS + UNSURE
    assert [row["id"] for row in result(tmp_path) if row["_escalated"]] == list(range(0, ROWS, 5))
    without = run_dag(dag_file(tmp_path), "table")
    assert without.xcom("label")["requests_sent"] == 0
    assert "_escalated" not in result(tmp_path)[0]


def test_a_judge_that_fails_leaves_the_row_without_a_score(run_dag, responses_sandbox, tmp_path):
    found = run_dag(dag_file(tmp_path, 'judge=Judge(model="sandbox/error-400", rubric=RUBRIC)'), "table")
    assert found.state == "success"
    manifest, rows = found.xcom("label"), result(tmp_path)
    assert (manifest["counts"], manifest["judge"]["failed"]) == ({"ok": ROWS}, ROWS)
    assert {(row["_status"], row["_score"]) for row in rows} == {("ok", None)}
    assert all(row["_error"].startswith("judge: BadRequestResponseError") for row in rows)
    run_dag(dag_file(tmp_path, "judge=Judge(model=JUDGE, rubric=RUBRIC)"), "table")
    assert bill(responses_sandbox) == {SMALL: ROWS, JUDGE: ROWS}
    assert {(row["_error"], row["_score"] is None) for row in result(tmp_path)} == {(None, False)}


def test_a_table_by_create_table_sql_has_the_columns_of_the_result(run_dag, responses_sandbox, tmp_path, database):
    table = SqlTable("warehouse", "judged")
    statement = table.create_table_sql(
        [{"id": 1, "text": "x"}],
        output_type=killed_task(tmp_path).output_type,
        key="id",
        escalate=[Escalation(model=LARGE)],
        judge=Judge(model=JUDGE, rubric=RUBRIC),
    )
    with sqlite3.connect(database) as connection:
        connection.execute(statement)
    assert [line.split()[0].strip('"') for line in statement.splitlines()[-4:-1]] == [
        *("_escalated", "_score", "_score_reason")
    ]
    given = f'{BY_CHECK}, judge=Judge(model=JUDGE, rubric=RUBRIC, sample=0.5), load_to=SqlTable("warehouse", "judged")'
    assert run_dag(dag_file(tmp_path, given), "table").state == "success"
    with sqlite3.connect(database) as connection:
        loaded = connection.execute("SELECT id, _escalated, _score, _score_reason FROM judged ORDER BY id").fetchall()
    rows = result(tmp_path)
    assert loaded == [(row["id"], row["_escalated"], row["_score"], row["_score_reason"]) for row in rows]
    assert sum(row["_escalated"] for row in rows) == UNSURE
    assert 0 < sum(row["_score"] is None for row in rows) < ROWS


def test_max_cost_counts_larger_models_and_the_judge(run_dag, responses_sandbox, tmp_path):
    given = f"{BY_CHECK}, judge=Judge(model=JUDGE, rubric=RUBRIC), limits=Limits(max_cost=MOST, concurrency=4)"
    stopped = run_dag(dag_file(tmp_path, given.replace("MOST", "0.01")), "table")
    assert stopped.state == "failed"
    assert 0.005 < paid(responses_sandbox) <= 0.01
    assert stopped.xcom("label", "usage")["cost"] == pytest.approx(paid(responses_sandbox))
    assert bill(responses_sandbox)[JUDGE] < ROWS
    found = run_dag(dag_file(tmp_path, given.replace("MOST", "1.0")), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE, JUDGE: ROWS}
    assert found.xcom("label")["cost"] == pytest.approx(paid(responses_sandbox))


@pytest.mark.parametrize(
    ("column", "judge", "message"),
    [
        ("_score INTEGER", 'rubric="0.0 to 1.0"', r"a response: '_score' may be the number 0\.5, which does not fit"),
        ("_score INTEGER NOT NULL", "rubric=RUBRIC", "a response: '_score' may be null, which does not fit"),
        ("_score_reason INTEGER", "rubric=RUBRIC", "a response: '_score_reason' may be a text of 4 characters, which"),
        ("_escalated BLOB", "rubric=RUBRIC", "a response: '_escalated' may be true, which does not fit"),
    ],
)
def test_a_column_that_does_not_fit_is_refused_before_anything_is_sent(
    run_dag, responses_sandbox, tmp_path, database, task_log, column, judge, message
):
    with sqlite3.connect(database) as connection:
        connection.execute(f"CREATE TABLE strict_labels (id INTEGER PRIMARY KEY, mood TEXT, why TEXT, {column}) STRICT")
    given = f'{BY_CHECK}, judge=Judge(model=JUDGE, {judge}), load_to=SqlTable("warehouse", "strict_labels")'
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "failed"
    assert not responses_sandbox.ledger
    assert message.replace("\\", "") in task_log.text


def test_a_judge_that_scores_each_row_or_fails_it_needs_no_column_that_allows_null(
    run_dag, responses_sandbox, tmp_path, database
):
    with sqlite3.connect(database) as connection:
        connection.execute(
            "CREATE TABLE strict_labels (id INTEGER PRIMARY KEY, mood TEXT, why TEXT, _score REAL NOT NULL)"
        )
    given = (
        "judge=Judge(model=JUDGE, rubric=RUBRIC, min_score=4), limits=Limits(max_failures=49), "
        'load_to=SqlTable("warehouse", "strict_labels")'
    )
    assert run_dag(dag_file(tmp_path, given), "table").state == "success"
    with sqlite3.connect(database) as connection:
        loaded = connection.execute("SELECT id, _score FROM strict_labels ORDER BY id").fetchall()
    assert loaded == [(row["id"], row["_score"]) for row in result(tmp_path) if row["_status"] == "ok"]
    assert 0 < len(loaded) < ROWS


def test_the_columns_have_types_in_parquet(run_dag, responses_sandbox, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    given = f'{BY_CHECK}, judge=Judge(model=JUDGE, rubric=RUBRIC, sample=1e-9), output_format="parquet"'
    assert run_dag(dag_file(tmp_path, given), "table").state == "success"
    table = parquet.read_table(tmp_path / "out" / "result.parquet")
    types = {name: str(table.schema.field(name).type) for name in ("_escalated", "_score", "_score_reason")}
    assert types == {"_escalated": "bool", "_score": "double", "_score_reason": "string"}
    assert table.column("_score").null_count == ROWS


def test_shards_have_the_columns_and_their_merged_manifest_the_sums(run_dag, responses_sandbox, tmp_path):
    from airflow_provider_responses.enrich import merge_shards

    given = f"{BY_CHECK}, judge=Judge(model=JUDGE, rubric=RUBRIC)"
    task = (
        'ResponsesEnrichOperator.partial(**(GIVEN | dict(task_id="label", '
        + given
        + "))).expand(shard=[(0, 2), (1, 2)])"
    )
    found = run_dag(dag_file(tmp_path, task=task), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE, JUDGE: ROWS}
    merged, parts = merge_shards(tmp_path / "out"), [found.xcom("label", map_index=n) for n in range(2)]
    rows = result(tmp_path)
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert sum(row["_escalated"] for row in rows) == UNSURE
    assert merged["cost"] == pytest.approx(paid(responses_sandbox))
    assert [(it["model"], it["requests"], it["escalated"]) for it in merged["tiers"]] == [
        (SMALL, ROWS, UNSURE),
        (LARGE, UNSURE, 0),
    ]
    assert merged["judge"]["scored"] == ROWS == sum(part["judge"]["scored"] for part in parts)
    assert merged["judge"]["mean_score"] == pytest.approx(sum(row["_score"] for row in rows) / ROWS)


def test_a_decorated_function_takes_both(run_dag, responses_sandbox, tmp_path):
    task = (
        "from airflow.providers.common.compat.sdk import task\n"
        "    @task.responses_enrich(source=ROWS, model=SMALL, output_type=Label, output_path=GIVEN['output_path'],\n"
        f"        {BY_CHECK}, judge=Judge(model=JUDGE, rubric=RUBRIC))\n"
        "    def label(row):\n"
        "        return 'Mood: ' + row['text']\n"
        "    label()"
    )
    found = run_dag(dag_file(tmp_path, task=task), "table")
    assert found.state == "success"
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE, JUDGE: ROWS}
    check_costs(found, tmp_path, responses_sandbox)


KILLED = """
import sys
from pathlib import Path

from tests.airflow_fakes import TaskInstance, context
from tests.operators.test_escalated_tables import killed_task

killed_task(Path(sys.argv[1])).execute(context(TaskInstance()))
"""


def is_unsure(value):
    return value["mood"] == "other"


def killed_task(folder):
    from typing import Literal

    from pydantic import create_model

    return ResponsesEnrichOperator(
        task_id="label",
        source=[{"id": n, "text": f"Review {n} is {'strange' if n % 5 == 0 else 'good'}."} for n in range(ROWS)],
        key="id",
        input="Mood: {{ row.text }}",
        model=SMALL,
        output_type=create_model("Label", mood=(Literal["good", "bad", "other"], ...), why=(str, ...)),
        output_path=str(folder / "out"),
        escalate=[Escalation(model=LARGE, when=is_unsure)],
        judge=Judge(model=JUDGE, rubric=RUBRIC),
        limits={"concurrency": 2},
    )


@pytest.mark.parametrize("before", [1, 2, 3, 4, 20, 57])
def test_a_retry_after_a_killed_attempt_pays_nothing_twice(responses_sandbox, tmp_path, before):
    responses_sandbox.script({"times": before}, {"hang": True, "times": 2})
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as process:
        limit = time.monotonic() + 100
        while len(responses_sandbox.ledger) < before + 2:
            assert process.poll() is None, process.stderr.read()[-2000:]
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    responses_sandbox.script()
    manifest = killed_task(tmp_path).execute(context(TaskInstance(try_number=2)))
    assert manifest["counts"] == {"ok": ROWS}
    assert bill(responses_sandbox) == {SMALL: ROWS, LARGE: UNSURE, JUDGE: ROWS}
    rows = result(tmp_path)
    assert manifest["cost"] == pytest.approx(paid(responses_sandbox)) == pytest.approx(sum(it["_cost"] for it in rows))
    assert [row["id"] for row in rows if row["_escalated"]] == list(range(0, ROWS, 5))


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_small_model_is_sent_in_batches_and_the_others_live_after_they_have_ended(
    run_dag, responses_sandbox, tmp_path, monkeypatch, deferrable
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__BATCH_POLL_INTERVAL", "0.1")
    responses_sandbox.batch_settings = {"seconds": 0.2}
    given = (
        f'{BY_CHECK}, judge=Judge(model=JUDGE, rubric=RUBRIC, sample=0.5), mode="batch", deferrable={deferrable}, '
        'limits={"max_batch_requests": 30}'
    )
    found = run_dag(dag_file(tmp_path, given), "table")
    assert found.state == "success"
    rows, manifest, usage = result(tmp_path), found.xcom("label"), found.xcom("label", "usage")
    judged = sum(row["_score"] is not None for row in rows)
    batches = responses_sandbox.batches
    assert [len(batch.custom_ids) for batch in batches] == [30, 20]
    assert bill(responses_sandbox) == {LARGE: UNSURE, JUDGE: judged}
    assert 0 < judged < ROWS
    live, batched = paid(responses_sandbox), sum(batch.cost for batch in batches)
    assert manifest["cost"] == pytest.approx(live + batched) == pytest.approx(usage["cost"])
    assert sum(row["_cost"] for row in rows) == pytest.approx(live + batched)
    assert [tier["cost"] for tier in manifest["tiers"]] == [
        pytest.approx(batched),
        pytest.approx(paid(responses_sandbox, LARGE)),
    ]
    assert manifest["counts"] == {"ok": ROWS}
    assert [row["id"] for row in rows if row["_escalated"]] == list(range(0, ROWS, 5))
    again = run_dag(dag_file(tmp_path, given), "table").xcom("label")
    assert (again["requests_sent"], len(responses_sandbox.batches)) == (0, 2)
