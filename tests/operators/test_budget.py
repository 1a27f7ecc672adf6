"""``max_cost`` of a task and the ``Budget`` of a DAG run: a send that no longer fits is refused."""

from __future__ import annotations

import contextlib
import json
import math
import threading

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import RequestValidationError, ResponsesError
from airflow_provider_responses.operators.budget import Budget, RunCosts, SpendingCheck, shares_budget
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.xcom import UsageXCom
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import MODES, performer
from tests.operators.one_request import MODEL, Label, ask, sent

OUTPUT = 100  # tokens, at most
DEAR = OUTPUT * 0.6e-6  # US dollars, without the input


@pytest.fixture(params=[mode for mode in MODES if mode != "started_in_triggerer"])
def perform(request, monkeypatch):
    """Run a task with a context, in each execution mode that a task with a limit can have."""
    return performer(request.param, monkeypatch)


def limited(**kwargs):
    return ask(request={"max_output_tokens": OUTPUT}, **kwargs)


def refused(perform, task, ctx):
    with pytest.raises(AirflowFailException) as caught:
        perform(task, ctx)
    return str(caught.value)


class TestMaxCost:
    def test_a_request_that_fits_is_sent(self, perform, responses_sandbox):
        ti = TaskInstance()
        perform(limited(max_cost=3 * DEAR), context(ti))
        assert len(sent(responses_sandbox)) == 1
        assert 0 < ti.xcoms["usage"]["cost"] < DEAR

    def test_one_whose_highest_price_does_not_fit_is_refused_before_it_is_sent(self, perform, responses_sandbox):
        ti = TaskInstance()
        error = refused(perform, limited(max_cost=DEAR / 2), context(ti))
        assert error.startswith("max_cost of $0.00003 leaves no room: the task has spent $0.00, and the next request")
        assert "Task: ask" in error
        assert sent(responses_sandbox) == []
        assert ti.xcoms["usage"]["status"] == "failed"
        assert ti.xcoms["usage"]["sends"] == []
        assert ti.xcoms["usage"]["cost"] == 0

    def test_an_invalid_output_is_not_requested_again_if_that_does_not_fit(self, perform, responses_sandbox):
        wrong = json.dumps({"topic": "x", "why": "y" * 320})
        responses_sandbox.script({"text": wrong}, {"text": wrong}, {"text": wrong})
        highest = 500 / 1.5 * 0.15e-6 + DEAR
        ti = TaskInstance()
        error = refused(perform, limited(output_type=Label, output_retries=5, max_cost=2 * highest), context(ti))
        assert "leaves no room" in error
        paid = [entry.cost for entry in responses_sandbox.ledger]
        assert 0 < len(paid) < 6
        assert sum(paid) <= 2 * highest
        usage = ti.xcoms["usage"]
        assert usage["cost"] == pytest.approx(sum(paid))
        assert usage["status"] == "invalid_output"
        assert len(usage["sends"]) == len(paid)

    def test_the_reason_that_is_added_counts_before_it_is_sent(self, perform, responses_sandbox, monkeypatch):
        seen = []
        read = SpendingCheck.read_prices

        def read_prices(self, request, config, *larger):
            read(self, request, config)
            seen.append((len(request.to_bytes()), self._worst_case))

        monkeypatch.setattr(SpendingCheck, "read_prices", read_prices)
        wrong = json.dumps({"topic": "x" * 99, "why": "y"})
        responses_sandbox.script({"text": wrong}, {"text": '{"topic": "good", "why": "y"}'})
        perform(limited(output_type=Label, max_cost=1.0), context())
        assert len(responses_sandbox.ledger) == 2
        (first, price), (last, highest) = seen[0], seen[-1]
        assert last > first + 300
        assert highest > price

    def test_the_costs_of_earlier_attempts_count(self, responses_sandbox):
        store, first = TaskStateStore(), TaskInstance()
        responses_sandbox.script({"text": "no JSON " + "x" * 300}, {"status": 503})
        given = {"output_type": Label, "options": {"max_retries": 0}}
        with pytest.raises(ResponsesError):
            limited(max_cost=0.001, **given).execute(context(first, task_state_store=store))
        spent = responses_sandbox.ledger[0].cost
        assert spent > 0
        second = context(TaskInstance(try_number=2), task_state_store=store)
        with pytest.raises(AirflowFailException, match=r"the task has spent \$0\.0000"):
            limited(max_cost=DEAR + spent / 2, **given).execute(second)
        assert len(responses_sandbox.billed) == 1
        cleared = context(TaskInstance(try_number=3, max_tries=5), task_state_store=store)
        limited(max_cost=3 * DEAR).execute(cleared)
        assert len(responses_sandbox.billed) == 2

    def test_a_send_that_may_have_been_billed_counts_as_its_highest_price(self, responses_sandbox):
        store = TaskStateStore()
        responses_sandbox.script({"drop": "after"}, {})
        with pytest.raises(ResponsesError):
            limited(max_cost=2 * DEAR, stream=False, cache=False).execute(context(task_state_store=store))
        assert len(responses_sandbox.ledger) == 1  # it is not sent again within the attempt
        second = context(TaskInstance(try_number=2), task_state_store=store)
        with pytest.raises(AirflowFailException, match=r"max_cost of .* leaves no room"):
            limited(max_cost=2 * DEAR, stream=False, cache=False).execute(second)
        assert len(responses_sandbox.ledger) == 1

    def test_a_request_in_flight_counts_if_its_worker_is_killed(self, responses_sandbox):
        class Killed(BaseException):
            pass

        class Task(ResponsesOperator):
            def _send(self, *_):
                raise Killed

        store = TaskStateStore()
        given = {"task_id": "ask", "model": MODEL, "input": "Is it good?", "max_cost": 2 * DEAR}
        with pytest.raises(Killed):
            Task(request={"max_output_tokens": OUTPUT}, **given).execute(context(task_state_store=store))
        second = context(TaskInstance(try_number=2), task_state_store=store)
        with pytest.raises(AirflowFailException, match="leaves no room"):
            limited(max_cost=2 * DEAR).execute(second)

    def test_a_task_without_a_limit_of_its_output_is_refused(self, perform, responses_sandbox):
        error = refused(perform, ask(max_cost=1.0), context())
        assert error.startswith("max_output_tokens is missing, without which the price of a response has no limit")
        assert sent(responses_sandbox) == []

    def test_a_model_without_a_price_is_refused(self, perform, responses_sandbox):
        error = refused(perform, limited(model="acme/secret", max_cost=1.0), context())
        assert error.startswith("max_cost cannot be checked: /models lists no price of acme/secret. Nothing was sent")
        assert sent(responses_sandbox) == []

    def test_the_most_expensive_of_its_models_counts(self, responses_sandbox):
        models = {"max_output_tokens": OUTPUT, "models": [MODEL, "anthropic/claude-sonnet-4.5"]}
        with pytest.raises(AirflowFailException, match=r"the next request may cost \$0\.001[5-9]"):
            ask(model=None, request=models, max_cost=3 * DEAR).execute(context())

    def test_a_server_without_prices_is_refused(self, tmp_path, monkeypatch, closed_port):
        connection = {"conn_type": "responses", "host": f"http://127.0.0.1:{closed_port}/v1", "password": "sandbox-key"}
        extra = {"dialect": "open", "max_retries": 0}
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", json.dumps({**connection, "extra": extra}))
        with pytest.raises(AirflowFailException, match="max_cost cannot be checked: the server's /models cannot be"):
            limited(max_cost=1.0).execute(context())

    @pytest.mark.parametrize("wrong", [{"max_cost": 0}, {"max_cost": "1"}, {"max_cost": True}, {"budget": 1.0}])
    def test_wrong_arguments_are_refused_when_the_dag_is_parsed(self, wrong):
        with pytest.raises(RequestValidationError, match=next(iter(wrong))):
            ask(**wrong)

    @pytest.mark.parametrize("wrong", [0, -1, "1", None, float("nan")])
    def test_a_budget_must_be_positive(self, wrong):
        with pytest.raises(RequestValidationError, match=r"budget: dag_run must be a number of US dollars > 0, got"):
            Budget(dag_run=wrong)


USAGE = {"version": 1, "sends": [], "cost": 0.25}


@pytest.fixture
def dag():
    from airflow.providers.common.compat.sdk import DAG

    with DAG("nightly", schedule=None) as found:
        ask()
        ResponsesOperator.partial(task_id="many", model=MODEL).expand(input=["a", "b"])
        ResponsesEnrichOperator(task_id="label", source=[], input="x", output_path="/nowhere")
        from airflow.providers.common.compat.sdk import BaseOperator

        BaseOperator(task_id="other")
    return found


@pytest.fixture
def xcoms(monkeypatch):
    """A store of XComs by task and key, in place of Airflow's, with all of its map indexes."""
    found = {}

    def read(_dag_id, _run_id, task_ids, key, _own):
        return [value for task_id in task_ids for value in found.get((task_id, key), [])]

    monkeypatch.setattr("airflow_provider_responses.operators.budget._read_xcoms", read)
    return found


class TestRunCosts:
    def test_the_costs_of_all_tasks_and_map_indexes_are_added(self, dag, xcoms):
        xcoms["ask", "usage"] = [USAGE]
        xcoms["many", "usage"] = [USAGE | {"cost": 0.5}, USAGE | {"cost": 1}]
        xcoms["label", "usage"] = [USAGE | {"kind": "enrichment", "cost": 2.0}]
        assert RunCosts("nightly", "run", dag).total(100.0) == pytest.approx(3.75)

    def test_the_manifest_of_an_enrichment_does_not_count_beside_its_usage(self, dag, xcoms):
        xcoms["label", "usage"] = [USAGE | {"kind": "enrichment", "cost": 2.0}]
        xcoms["label", "return_value"] = [{"cost": 9.0, "cost_this_attempt": 2.0}]
        assert RunCosts("nightly", "run", dag).total(100.0) == 2.0

    def test_usage_xcoms_of_other_tasks_do_not_count(self, dag, xcoms):
        xcoms["other", "usage"] = [USAGE]
        xcoms["ask", "return_value"] = [{"cost_this_attempt": 1.0}]
        assert RunCosts("nightly", "run", dag).total(100.0) == 0

    @pytest.mark.parametrize("value", ["text", 3, None, [1], {"cost": 1.0}, {"version": 2, "sends": [], "cost": 1.0}])
    def test_a_usage_of_another_form_does_not_count_and_is_logged(self, dag, xcoms, caplog, value):
        xcoms["ask", "usage"] = [value]
        assert RunCosts("nightly", "run", dag).total(100.0) == 0
        assert "XComs `usage` of another form" in caplog.text

    @pytest.mark.parametrize("cost", [None, -1.0, "0.1", float("nan"), float("inf"), 10**400, True, {}])
    def test_an_unknown_cost_counts_as_the_highest_price(self, dag, xcoms, cost):
        xcoms["ask", "usage"] = [USAGE | {"cost": cost}]
        assert RunCosts("nightly", "run", dag).total(0.125) == 0.125

    @pytest.mark.parametrize(
        ("usage", "dollars"),
        [
            ({"cost": None, "models": [{"cost": None, "unpriced": 40}]}, 40 * 0.125),
            ({"cost": 2.0, "models": [{"cost": 2.0, "unpriced": 3}, {"cost": None, "unpriced": 1}]}, 2 + 4 * 0.125),
            ({"cost": None, "models": [{"cost": 2.0, "unpriced": 0}, {"cost": None, "unpriced": 1}]}, 2 + 0.125),
            ({"cost": None, "models": []}, 0.125),
            ({"cost": None, "cost_this_attempt": None, "sends": [{}, {}, {}]}, 3 * 0.125),
            ({"cost": None, "cost_this_attempt": 0.5, "sends": [{}]}, 0.5 + 0.125),
            ({"cost": 1.0, "models": [{"cost": 1.0, "unpriced": "many"}, 3, None]}, 1.0),
        ],
    )
    def test_each_request_without_a_price_counts_as_the_highest_price(self, dag, xcoms, usage, dollars):
        xcoms["label", "usage"] = [USAGE | usage]
        assert RunCosts("nightly", "run", dag).total(0.125) == pytest.approx(dollars)

    @given(
        st.lists(
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.fixed_dictionaries({"version": st.just(1), "sends": st.just([]), "cost": inner})
                    | st.dictionaries(st.sampled_from(["version", "sends", "cost", "kind"]), inner)
                ),
                max_leaves=6,
            ),
            max_size=4,
        )
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_xcom_is_counted_as_an_amount(self, dag, xcoms, values):
        for where in [("ask", "usage"), ("label", "usage")]:
            xcoms[where] = values
        total = RunCosts("nightly", "run", dag).total(0.5)
        assert 0 <= total <= math.inf  # and so no NaN

    def test_a_warning_states_that_airflow_before_3_3_counts_one_attempt(self, responses_sandbox, caplog):
        limited(max_cost=1.0).execute(context(TaskInstance(try_number=2)))
        assert "max_cost counts this attempt alone" in caplog.text


class TestBudget:
    def test_a_request_is_refused_if_the_run_has_no_room(self, dag, xcoms, perform, responses_sandbox):
        xcoms["many", "usage"] = [USAGE, USAGE]
        task = limited(budget=Budget(dag_run=0.5 + DEAR / 2))
        task.get_dag = lambda: dag
        error = refused(perform, task, context())
        assert error.startswith("budget.dag_run of $0.50003 leaves no room: the DAG run has spent $0.50, and the next")
        assert sent(responses_sandbox) == []

    def test_one_that_fits_is_sent(self, dag, xcoms, perform, responses_sandbox):
        xcoms["many", "usage"] = [USAGE, USAGE]
        task = limited(budget=Budget(dag_run=0.5 + 2 * DEAR))
        task.get_dag = lambda: dag
        perform(task, context())
        assert len(sent(responses_sandbox)) == 1

    @pytest.mark.skipif(not AIRFLOW_V_3_3_PLUS, reason="from Airflow 3.3.1 on tasks start in the triggerer")
    def test_a_task_with_a_budget_or_a_limit_never_starts_in_the_triggerer(self, responses_sandbox):
        from airflow.providers.common.compat.sdk import DAG

        with DAG("nightly", schedule=None):
            free, *others = (
                ResponsesOperator(
                    task_id=f"ask_{number}", model=MODEL, input="x", deferrable=True, start_from_trigger=True, **limits
                )
                for number, limits in enumerate([{}, {"max_cost": 1.0}, {"budget": Budget(dag_run=1.0)}])
            )
        assert free.start_trigger_args is not None
        for task in others:
            assert task.start_trigger_args is None
            assert (
                task._reason_to_start_on_worker() == "its max_cost or budget is checked on a worker, before each send"
            )


class TestRunningCosts:
    """What a task has spent is visible to those that share its budget, before it ends."""

    @pytest.fixture
    def pushed(self):
        """Run a task of a DAG with a budget, and return each `usage` that it has pushed, with the bill at the time."""
        from airflow.providers.common.compat.sdk import DAG

        def run(task, sandbox, *, budget=True, store=None, try_number=1):
            found = []

            class Recorder(TaskInstance):
                def xcom_push(self, key, value):
                    super().xcom_push(key, value)
                    if key == "usage":
                        found.append((value, sum(entry.cost for entry in sandbox.billed)))

            with DAG("nightly", schedule=None) as found_dag:
                limited(budget=Budget(dag_run=1.0) if budget else None)
            task.get_dag = lambda: found_dag
            more = {} if store is None else {"task_state_store": store}
            with contextlib.suppress(ResponsesError):
                task.execute(context(Recorder(try_number=try_number), **more))
            return found

        return run

    def test_each_resend_of_an_invalid_output(self, pushed, responses_sandbox):
        responses_sandbox.script({"text": "no JSON"}, {"text": "none"}, {"text": '{"topic": "good", "why": "b"}'})
        found = pushed(limited(output_type=Label, output_retries=5), responses_sandbox)
        assert [usage["status"] for usage, _ in found] == ["in_progress", "in_progress", "completed"]
        assert all(usage["cost"] == pytest.approx(bill) for usage, bill in found)
        assert found[0][0]["cost"] < found[1][0]["cost"] < found[2][0]["cost"]

    def test_each_step_of_a_loop(self, pushed, responses_sandbox):
        def now() -> str:
            """Return the time."""
            return "noon"

        call = {"calls": [{"name": "now", "arguments": {}}]}
        responses_sandbox.script(call, call, {"text": "It is noon."})
        found = pushed(limited(tools=[now]), responses_sandbox)
        assert [usage["status"] for usage, _ in found] == ["in_progress", "in_progress", "completed"]
        assert all(usage["cost"] == pytest.approx(bill) for usage, bill in found)

    def test_earlier_attempts_at_the_start_of_a_retry(self, pushed, responses_sandbox):
        store = TaskStateStore()
        given = {"output_type": Label, "options": {"max_retries": 0}}
        responses_sandbox.script({"text": "no JSON"}, {"status": 503})
        pushed(limited(**given), responses_sandbox, store=store)
        (usage, bill), *_ = pushed(limited(**given), responses_sandbox, store=store, try_number=2)
        assert usage["status"] == "in_progress"
        assert usage["cost"] == pytest.approx(bill) == pytest.approx(responses_sandbox.ledger[0].cost)

    def test_nothing_is_pushed_before_the_end_if_no_task_has_a_budget(self, pushed, responses_sandbox):
        responses_sandbox.script({"text": "no JSON"}, {"text": '{"topic": "good", "why": "b"}'})
        found = pushed(limited(output_type=Label), responses_sandbox, budget=False)
        assert [usage["status"] for usage, _ in found] == ["completed"]

    @pytest.mark.parametrize("store", [None, TaskStateStore()])
    def test_an_enrichment_that_runs(self, pushed, tmp_path, responses_sandbox, monkeypatch, store):
        from tests.operators.enrichments import enrich, set_intervals

        monkeypatch.setattr("airflow_provider_responses.operators.enrichment_usage.PUSH_SECONDS", 0.0)
        set_intervals(monkeypatch, progress_seconds=0.0, tick=0.001)
        responses_sandbox.script(*[{"delay": 0.05}] * 5)
        found = pushed(enrich(tmp_path, limits={"concurrency": 1}), responses_sandbox, store=store)
        running = [usage["cost"] for usage, _ in found if usage["status"] == "in_progress"]
        assert found[-1][0]["status"] == "completed"
        assert any(0 < cost < found[-1][0]["cost"] for cost in running)
        assert all(usage["cost"] <= bill + 1e-12 for usage, bill in found)


class TestSharedBudget:
    @pytest.mark.parametrize(
        "given",
        [{"partial": {"budget": Budget(dag_run=1.0)}}, {"expand": {"budget": [Budget(dag_run=1.0)]}}],
    )
    def test_mapped_tasks_with_a_budget_share_it(self, given):
        from airflow.providers.common.compat.sdk import DAG

        with DAG("nightly", schedule=None):
            task = ask()
            assert not shares_budget(task)
            partial = ResponsesOperator.partial(task_id="many", model=MODEL, **given.get("partial", {}))
            partial.expand(input=["a"], **given.get("expand", {}))
            assert shares_budget(task)

    def test_tasks_that_run_see_all_but_the_request_in_flight_of_each_other(self, dag, monkeypatch):
        """Two tasks with many steps each, in turns: neither counts its own XCom, and each counts the other's."""
        from airflow_provider_responses.task.cost import CostLedger

        pushed = {}

        def check(name):
            own = TaskInstance(task_id=name)
            costs = RunCosts("nightly", "run", dag, own)
            found = SpendingCheck(None, Budget(dag_run=1.0), costs)
            found._worst_case = 0.05
            return found

        monkeypatch.setattr(
            "airflow_provider_responses.operators.budget._read_xcoms",
            lambda _dag, _run, _tasks, _key, own: [it for name, it in pushed.items() if name != own.task_id],
        )
        checks, ledgers = {it: check(it) for it in "ab"}, {it: CostLedger() for it in "ab"}
        refused = set()
        for number in range(100):
            free = [it for it in "ab" if checks[it].refusal(ledgers[it]) is None]
            refused |= {"a", "b"} - set(free)
            for it in free:  # both are checked before either has paid
                ledgers[it].spent[str(number)] = 0.05
                pushed[it] = ledgers[it].running_usage(Outcome())
        spent = sum(sum(it.spent.values()) for it in ledgers.values())
        assert refused == {"a", "b"}
        assert 0.95 < spent <= 1.05 + 1e-9


RUNNING = """
import datetime
from airflow.providers.common.compat.sdk import DAG
from airflow_provider_responses.operators.budget import Budget
from airflow_provider_responses.operators.responses import ResponsesOperator

def tool(text: str) -> str:
    \"\"\"Return a text.\"\"\"
    return "a"

with DAG("running", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    ResponsesOperator.partial(
        task_id="many", model="openai/gpt-4o-mini", request={{"max_output_tokens": 1000}}, tools=[tool],
        budget=Budget(dag_run={limit}),
    ).expand(input=["A."])
"""


def test_a_mapped_task_does_not_count_its_own_usage_twice_in_a_real_dag_run(run_dag, responses_sandbox):
    """Its steps push `usage` while it runs; a limit that their sum fits into twice would refuse the last one."""
    call = {"calls": [{"name": "tool", "arguments": {"text": "word " * 500}}]}
    responses_sandbox.script(call, call, {"text": "done"})
    run = run_dag(RUNNING.format(limit=0.0022), "running")
    assert run.states["many", 0] == "success"
    assert len(responses_sandbox.ledger) == 3


DAG = """
import datetime
from airflow.providers.common.compat.sdk import DAG, task
from airflow_provider_responses.operators.budget import Budget
from airflow_provider_responses.operators.responses import ResponsesOperator

LIMITS = {{"model": "openai/gpt-4o-mini", "request": {{"max_output_tokens": 1000}}}}

with DAG("budgeted", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
    @task
    def impostor(ti=None):
        ti.xcom_push(key="usage", value={usage!r})

    one = ResponsesOperator(task_id="one", input="A first sentence.", **LIMITS)
    many = ResponsesOperator.partial(task_id="many", **LIMITS).expand(input=["A.", "B."])
    last = ResponsesOperator(task_id="last", input="C.", budget=Budget(dag_run={limit}), **LIMITS)
    impostor() >> one >> many >> last
"""


FULL_USAGE = {
    **dict.fromkeys(UsageXCom.__required_keys__ - {"version", "sends"}),
    "version": 1,
    "kind": "request",
    "sends": [],
    "ambiguous_sends": 0,
    "cost": 1000.0,
}


@pytest.mark.parametrize(("room", "state"), [(1.0, "success"), (-1e-7, "failed")])
def test_the_budget_of_a_real_dag_run(run_dag, responses_sandbox, room, state):
    sent_before = 3
    limit = 0.0007 + room
    if room < 0:  # the highest price of the last request alone fits: the run has spent too much
        limit = highest_of_last() + costs_of_others() + room
    run = run_dag(DAG.format(limit=limit, usage=FULL_USAGE), "budgeted")
    assert run.states["last", -1] == state
    assert len(responses_sandbox.ledger) == sent_before + (state == "success")
    spent = sum(entry.cost for entry in responses_sandbox.ledger[:3])
    assert spent == pytest.approx(costs_of_others())


def costs_of_others():
    from airflow_provider_responses.sandbox.state.prices import make_bill

    bills = [make_bill(MODEL, 5, 5), make_bill(MODEL, 1, 1), make_bill(MODEL, 1, 1)]
    return sum(bill.cost for bill in bills)


def highest_of_last():
    from airflow_provider_responses.task.prices import TokenPrice, highest_price

    body = {"model": MODEL, "input": "C.", "max_output_tokens": 1000, "metadata": {"airflow": "0" * 32}}
    body["stream"] = True
    return highest_price(json.dumps(body, separators=(",", ":")).encode(), {MODEL: TokenPrice(0.15e-6, 0.6e-6)})


def test_two_hundred_tasks_in_sixteen_threads_exceed_the_budget_by_their_requests_in_flight_at_most(
    dag, monkeypatch, responses_sandbox
):
    """As mapped tasks do: each reads the XComs of the others, sends, and pushes its own."""
    lock, usages, refusals = threading.Lock(), [], []

    def read(_dag_id, _run_id, _task_ids, key, _own):
        with lock:
            return list(usages) if key == "usage" else []

    monkeypatch.setattr("airflow_provider_responses.operators.budget._read_xcoms", read)
    todo = iter(range(200))
    budget = 40 * 3e-5  # of about 40 responses

    def work():
        while True:
            with lock:
                number = next(todo, None)
            if number is None:
                return
            task = ask(
                input=f"Number {number}. " * 40, request={"max_output_tokens": 200}, budget=Budget(dag_run=budget)
            )
            task.get_dag = lambda: dag
            ti = TaskInstance(map_index=number)
            try:
                task.execute(context(ti))
            except AirflowFailException as error:
                refusals.append(str(error))
            with lock:
                usages.append(ti.xcoms["usage"])

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worst = 200 * 0.6e-6 + 800 / 1.5 * 0.15e-6
    spent = sum(entry.cost for entry in responses_sandbox.ledger)
    assert refusals
    assert all("budget.dag_run of $0.0012 leaves no room" in it for it in refusals)
    assert len(responses_sandbox.ledger) + len(refusals) == 200
    assert budget - worst < spent <= budget + 15 * worst
