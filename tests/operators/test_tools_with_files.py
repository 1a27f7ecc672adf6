"""A model that gets a file and calls Python functions: the file is in the request of each step."""

from __future__ import annotations

import base64

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_responses.content import InputFile
from tests.airflow_fakes import TaskInstance, TaskStateStore, context
from tests.execution_modes import performer
from tests.operators.one_request import ask, sent

PDF = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n"


@pytest.fixture(params=["worker", "deferred"])
def perform(request, monkeypatch):
    """Run a task with a context, in each execution mode of a task with tools."""
    return performer(request.param, monkeypatch)


@pytest.fixture
def invoice(tmp_path):
    path = tmp_path / "invoice.pdf"
    path.write_bytes(PDF)
    return path


def question(path):
    parts = [{"type": "input_text", "text": "Book this invoice."}, InputFile.from_path(str(path))]
    return [{"type": "message", "role": "user", "content": parts}]


def files_in(body):
    content = body["input"][0]["content"]
    return [base64.b64decode(part["file_data"].partition(",")[2]) for part in content if part["type"] == "input_file"]


def test_the_request_of_each_step_has_the_file(perform, responses_sandbox, invoice):
    booked = []

    def book(amount: int) -> str:
        """Book an amount."""
        booked.append(amount)
        return "booked"

    call = {"calls": [{"name": "book", "arguments": {"amount": 7}}]}
    responses_sandbox.script(call, {"text": "Done."})
    ti = TaskInstance()

    value = perform(ask(input=question(invoice), tools=[book]), context(ti, task_state_store=TaskStateStore()))

    assert (value, booked) == ("Done.", [7])
    first, second = sent(responses_sandbox)
    assert files_in(first) == files_in(second) == [PDF]
    assert [item["output"] for item in second["input"] if item.get("type") == "function_call_output"] == ["booked"]
    assert "base64" not in str(ti.xcoms)
    assert "base64" not in str(responses_sandbox.ledger[0].body["metadata"])


def test_a_retry_repeats_no_call_and_pays_for_no_response_although_it_reads_the_file_again(
    perform, responses_sandbox, invoice
):
    calls = []

    def book(amount: int) -> str:
        """Book an amount."""
        calls.append(amount)
        return "booked"

    call = {"calls": [{"name": "book", "arguments": {"amount": 7}}]}
    responses_sandbox.script(call, {"status": 401}, {"text": "Done."})
    store = TaskStateStore()
    task = ask(input=question(invoice), tools=[book])
    with pytest.raises(AirflowFailException, match="401"):
        perform(task, context(TaskInstance(), task_state_store=store))

    value = perform(
        ask(input=question(invoice), tools=[book]), context(TaskInstance(try_number=2), task_state_store=store)
    )

    assert (value, calls) == ("Done.", [7])
    billed = [entry for entry in responses_sandbox.ledger if entry.cost]
    assert len(billed) == 2


def test_a_file_that_changes_between_attempts_is_another_request(perform, responses_sandbox, invoice):
    responses_sandbox.script({"text": "One."}, {"text": "Two."})
    assert perform(ask(input=question(invoice)), context(TaskInstance())) == "One."
    invoice.write_bytes(PDF + b"%")
    assert perform(ask(input=question(invoice)), context(TaskInstance(try_number=2))) == "Two."


def test_a_missing_file_fails_before_a_function_is_called_or_anything_is_paid(perform, responses_sandbox, tmp_path):
    def book(amount: int) -> str:
        """Book an amount."""
        raise AssertionError(amount)

    with pytest.raises(AirflowFailException, match=r"nothing\.pdf"):
        perform(
            ask(input=question(tmp_path / "nothing.pdf"), tools=[book]),
            context(TaskInstance(), task_state_store=TaskStateStore()),
        )
    assert not responses_sandbox.ledger
