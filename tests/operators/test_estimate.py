"""``ResponsesEnrichOperator(estimate_only=True)``: the price of a table before anything is sent."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import typing

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich import Judge
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.escalation import Escalation
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.task.prices import OUTPUT_TOKENS, read_prices
from tests.airflow_fakes import TaskInstance, context
from tests.operators.enrichments import MODEL, ROWS, Label, enrich

MANY = [{"id": f"r{n}", "text": f"review {n} " + "word " * (n % 7)} for n in range(60)]


def estimate(folder, **kwargs):
    return enrich(folder, estimate_only=True, **kwargs).execute(context())


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_an_estimate_sends_nothing_and_writes_nothing(responses_sandbox, tmp_path):
    found = estimate(tmp_path, request={"max_output_tokens": 100})
    assert responses_sandbox.ledger == []
    assert tree(tmp_path) == []
    assert (found["rows"], found["requests"], found["requests_reused"], found["duplicate_rows"]) == (5, 5, 0, 0)
    size = sum(len(f"Mood of: {row['text']}") for row in ROWS)
    assert size / 4 <= found["input_tokens"] <= size / 4 + 5
    assert found["output_tokens"] == 500
    assert found["output_tokens_from"] == ["max_output_tokens"]
    price = found["input_tokens"] * 0.15e-6 + 500 * 0.6e-6
    assert found["cost"] == pytest.approx(price)
    assert found["cost_low"] < found["cost"] < found["cost_high"]
    assert json.loads(json.dumps(found)) == found


def test_rows_with_a_response_and_duplicates_are_not_counted_again(responses_sandbox, tmp_path):
    enrich(tmp_path, source=MANY[:20], key="id").execute(context())
    before = tree(tmp_path)
    twice = [*MANY, {"id": "again", "text": MANY[-1]["text"]}]
    found = estimate(tmp_path, source=twice, key="id")
    assert (found["rows"], found["requests"], found["requests_reused"], found["duplicate_rows"]) == (61, 40, 20, 1)
    assert found["cost_so_far"] == pytest.approx(sum(entry.cost for entry in responses_sandbox.ledger))
    assert tree(tmp_path) == before
    assert len(responses_sandbox.ledger) == 20


def test_output_tokens_are_learned_from_the_responses_that_are_there(responses_sandbox, tmp_path):
    enrich(tmp_path, source=MANY[:30], key="id").execute(context())
    found = estimate(tmp_path, source=MANY, key="id")
    assert found["output_tokens_from"] == ["responses"]
    sent = len(responses_sandbox.ledger)
    enrich(tmp_path, source=MANY, key="id").execute(context())
    paid = sum(entry.cost for entry in responses_sandbox.ledger[sent:])
    assert found["cost"] == pytest.approx(paid, rel=0.15)


def test_without_limit_and_responses_the_output_has_the_stated_default(responses_sandbox, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = estimate(tmp_path)
    assert found["output_tokens"] == 5 * OUTPUT_TOKENS
    assert found["output_tokens_from"] == ["default"]
    assert found["cost_high"] is None
    assert "5 rows: 5 requests to send, 0 with a response from before" in caplog.text
    assert "no limit without max_output_tokens" in caplog.text


def test_an_output_type_is_part_of_the_input(responses_sandbox, tmp_path):
    assert estimate(tmp_path, output_type=Label)["input_tokens"] > 2 * estimate(tmp_path)["input_tokens"]


def test_a_batch_is_estimated_at_its_own_price(responses_sandbox, tmp_path):
    live, batch = (estimate(tmp_path, mode=mode) for mode in ("live", "batch"))
    assert batch["cost"] == pytest.approx(live["cost"] / 2)
    assert batch["mode"] == "batch"


def test_the_models_of_rows_are_estimated_each_by_its_price(responses_sandbox, tmp_path):
    models = [MODEL, "openai/gpt-4o"]
    found = estimate(
        tmp_path,
        source=[row | {"model": models[n % 2]} for n, row in enumerate(ROWS)],
        input=lambda row: {"input": row["text"], "model": row["model"], "max_output_tokens": 50},
        model=None,
    )
    assert {name: share["requests"] for name, share in found["models"].items()} == {MODEL: 3, "openai/gpt-4o": 2}
    assert found["cost"] == pytest.approx(sum(share["cost"] for share in found["models"].values()))


def test_the_cost_of_a_model_without_a_price_is_unknown(responses_sandbox, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        found = estimate(tmp_path, model="acme/secret")
    assert found["cost"] is found["cost_low"] is found["cost_high"] is None
    assert found["cost_unknown_because"] == "/models lists no price of acme/secret"
    assert found["requests"] == 5
    assert "Cost (live): unknown, /models lists no price of acme/secret" in caplog.text


def test_the_cost_on_a_server_without_models_is_unknown(tmp_path, monkeypatch, closed_port):
    url = f"http://127.0.0.1:{closed_port}/v1"
    connection = {
        "conn_type": "responses",
        "host": url,
        "password": "sandbox-key",
        "extra": {"dialect": "open", "max_retries": 0},
    }
    monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(connection))
    found = estimate(tmp_path)
    assert found["cost"] is None
    assert "/models cannot be read" in found["cost_unknown_because"]


def test_the_argument_can_be_a_template(responses_sandbox, tmp_path):
    task = enrich(tmp_path, estimate_only="{{ params.dry }}")
    task.estimate_only = "True"  # as it is rendered
    assert task.execute(context())["kind"] == "estimate"
    task.estimate_only = "False"
    assert task.execute(context())["counts"] == {"ok": 5}


@pytest.mark.parametrize("wrong", [{"estimate_only": "perhaps"}, {"preview": 1}, {"preview": 2.5}, {"preview": True}])
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(tmp_path, wrong):
    with pytest.raises(RequestValidationError, match=next(iter(wrong))):
        enrich(tmp_path, **wrong)


def test_requests_in_batches_that_have_not_ended_are_not_counted_and_not_sent_by_a_preview(
    responses_sandbox, tmp_path, monkeypatch
):
    monkeypatch.setenv("AIRFLOW__RESPONSES__MIN_DEFERRAL", "0")
    responses_sandbox.batch_settings = {"seconds": 3600}
    with pytest.raises(TaskDeferred):
        enrich(tmp_path, source=MANY[:40], key="id", mode="batch").execute(context())
    found = estimate(tmp_path, source=MANY, key="id", mode="batch")
    assert (found["requests"], found["requests_in_batches"], found["duplicate_rows"]) == (20, 40, 0)
    preview = enrich(tmp_path, source=MANY, key="id", mode="batch", preview=20).execute(context())
    assert (preview["requests"], preview["requests_in_batches"], preview["duplicate_rows"]) == (20, 40, 0)
    assert len(responses_sandbox.ledger) == 20
    assert {entry.body["input"] for entry in responses_sandbox.ledger} == {f"Mood of: {it['text']}" for it in MANY[40:]}


class TestTheLimitOfTheKey:
    def test_an_enrichment_that_surely_exceeds_it_is_refused_before_anything_is_sent(self, responses_sandbox, tmp_path):
        responses_sandbox.key = {"limit": 1.0, "limit_remaining": 0.0000001}
        with pytest.raises(
            AirflowFailException, match=r"the key's limit leaves <\$0.000001, and the 5 requests cost about"
        ):
            enrich(tmp_path).execute(context(TaskInstance()))
        assert responses_sandbox.ledger == []

    def test_one_that_may_exceed_it_is_warned_about_and_sent(self, responses_sandbox, tmp_path, caplog):
        responses_sandbox.key = {"limit": 1.0, "limit_remaining": 0.001}
        with caplog.at_level(logging.WARNING):
            enrich(tmp_path).execute(context())
        assert "The key's limit leaves $0.001, and the 5 requests cost about" in caplog.text
        assert len(responses_sandbox.ledger) == 5

    @pytest.mark.parametrize(
        "key", [{"limit": 1.0, "limit_remaining": 0.9}, {"limit": None}, {"limit": 1.0, "limit_remaining": None}]
    )
    def test_others_are_sent_without_a_word(self, responses_sandbox, tmp_path, caplog, key):
        responses_sandbox.key = key
        with caplog.at_level(logging.WARNING):
            enrich(tmp_path).execute(context())
        assert "key's limit" not in caplog.text
        assert len(responses_sandbox.ledger) == 5

    def test_a_server_without_keys_is_not_asked(self, tmp_path, monkeypatch):
        with Sandbox(dialect="open") as sandbox:
            monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps(sandbox.connection))
            enrich(tmp_path, model="some-model").execute(context())
            assert len(sandbox.ledger) == 5


@pytest.mark.parametrize(
    "pricing",
    [
        None,
        {},
        {"prompt": "x", "completion": "1"},
        {"prompt": "-1", "completion": "-1"},
        {"prompt": "nan", "completion": 1},
    ],
)
def test_a_price_that_cannot_be_read_is_unknown(pricing):
    assert read_prices([{"id": "a/b", "pricing": pricing}, {"pricing": {}}, {"id": 3}]) == {}


def test_prices_have_the_fee_of_a_request_and_the_limit_of_the_model():
    entry = {
        "id": "a/b",
        "pricing": {"prompt": "0.001", "completion": "0.002", "request": "0.5"},
        "top_provider": {"max_completion_tokens": 4096},
    }
    (price,) = read_prices([entry]).values()
    assert dataclasses.astuple(price) == (0.001, 0.002, 0.5, 4096)
    assert price.of(10, 100) == pytest.approx(0.71)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON | st.just("a/b"),
        "pricing": JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(["prompt", "completion", "request"], JSON)),
        "top_provider": JSON | st.fixed_dictionaries({"max_completion_tokens": JSON}),
    },
)


@given(st.lists(ENTRIES, max_size=4))
def test_any_list_of_models_is_read(entries):
    for price in read_prices(entries).values():
        assert 0 <= price.input < math.inf
        assert 0 <= price.output < math.inf
        assert 0 <= price.request < math.inf
        assert price.max_output_tokens is None or price.max_output_tokens > 0


class TestLaterModels:
    """The models of ``escalate`` and ``judge``: those that have rows to do are counted, the others listed."""

    LARGE, JUDGE = "openai/gpt-4o", "anthropic/claude-sonnet-4.5"
    GIVEN: typing.ClassVar = {
        "escalate": [Escalation(model=LARGE, when=lambda value: value.endswith(("0.", "5.")))],
        "judge": Judge(model=JUDGE, rubric="From 1 (bad) to 5 (good)."),
    }

    def test_they_are_listed_with_their_prices_and_no_highest_price_is_stated(
        self, responses_sandbox, tmp_path, caplog
    ):
        limit = {"max_output_tokens": 100}
        with caplog.at_level(logging.INFO):
            plain, found = estimate(tmp_path, request=limit), estimate(tmp_path, request=limit, **self.GIVEN)
        assert {"without", "later_requests", "later_models"}.isdisjoint(plain)
        assert (found["without"], found["later_requests"]) == (["escalate", "judge"], 0)
        assert found["later_models"] == [
            {"argument": "escalate", "model": self.LARGE, "input_price": 2.5e-6, "output_price": 10e-6},
            {"argument": "judge", "model": self.JUDGE, "input_price": 3e-6, "output_price": 15e-6},
        ]
        assert (found["cost"], found["cost_low"]) == (plain["cost"], plain["cost_low"])
        assert (plain["cost_high"] is None, found["cost_high"]) == (False, None)
        assert "without the larger models and the judge" in caplog.text
        assert "  escalate openai/gpt-4o: $2.50 per million tokens of input, $10.00 of output" in caplog.text

    def test_a_model_without_a_price_is_listed_too(self, responses_sandbox, tmp_path, caplog):
        with caplog.at_level(logging.INFO):
            found = estimate(tmp_path, escalate=[Escalation(model="acme/secret")])
        assert found["later_models"] == [
            {"argument": "escalate", "model": "acme/secret", "input_price": None, "output_price": None}
        ]
        assert "escalate acme/secret: price unknown" in caplog.text

    def test_a_key_whose_limit_is_too_low_for_the_small_model_is_refused(self, responses_sandbox, tmp_path):
        responses_sandbox.key = {"limit": 1.0, "limit_remaining": 1e-9}
        with pytest.raises(AirflowFailException, match=r"the 5 requests cost about \$[\d.]+, at least"):
            enrich(tmp_path, **self.GIVEN).execute(context())
        assert responses_sandbox.ledger == []

    def test_a_key_whose_limit_is_too_low_for_a_judge_that_is_added_later_is_refused(self, responses_sandbox, tmp_path):
        enrich(tmp_path).execute(context())
        responses_sandbox.key = {"limit": 1.0, "limit_remaining": 1e-9}
        with pytest.raises(AirflowFailException, match=r"the 5 requests cost about \$[\d.]+, at least"):
            enrich(tmp_path, judge=self.GIVEN["judge"]).execute(context())
        assert len(responses_sandbox.ledger) == 5

    def test_requests_that_wait_for_the_judge_are_counted_at_its_price(self, responses_sandbox, tmp_path):
        enrich(tmp_path).execute(context())
        found = estimate(tmp_path, judge=self.GIVEN["judge"])
        assert {name: share["requests"] for name, share in found["models"].items()} == {self.JUDGE: 5}
        assert (found["requests"], found["later_requests"], found["requests_reused"]) == (0, 5, 0)
        enrich(tmp_path, judge=self.GIVEN["judge"]).execute(context())
        paid = sum(entry.cost for entry in responses_sandbox.billed if entry.model == self.JUDGE)
        assert found["cost_low"] <= paid
        assert found["cost"] == pytest.approx(paid, rel=0.6)

    def test_requests_that_wait_for_the_larger_model_are_counted_at_its_price(self, responses_sandbox, tmp_path):
        rows = [{"text": f"Sum it up. It is number {n}."} for n in range(10)]
        escalate = [Escalation(model=self.LARGE, when=bool)]
        enrich(tmp_path, source=rows).execute(context())
        found = estimate(tmp_path, source=rows, escalate=escalate)
        assert {name: share["requests"] for name, share in found["models"].items()} == {self.LARGE: 10}
        assert (found["requests"], found["later_requests"]) == (0, 10)
