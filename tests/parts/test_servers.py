"""
Typed output, tools, files and tables on servers that others have written, each in a DAG that Airflow runs.

The model behind them is the tests' own. The limits of a server that the guide on servers lists are tested, too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.content.samples import PDF, PNG, WAV
from tests.parts import chat_model, servers
from tests.parts.chat_model import ChatModel, Reply
from tests.parts.servers import Server

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]

DAG = """
import datetime
from typing import Literal

from airflow.providers.common.compat.sdk import DAG
from pydantic import BaseModel

from airflow_provider_responses.content import InputAudio, InputFile, InputImage
from airflow_provider_responses.operators.enrich import Limits, ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator


class Label(BaseModel):
    topic: Literal["good", "bad"]
    why: str


def price(item: str) -> int:
    \"\"\"Return the price of an item.

    :param item: its name.
    \"\"\"
    return {"bolt": 3, "nut": 4}[item]


with DAG("on_a_server", schedule=None, start_date=datetime.datetime(2026, 1, 1)):
"""
GOOD = {"topic": "good", "why": "it works"}
MODES = {"streamed": "", "unstreamed": "stream=False, ", "deferred": "deferrable=True, "}
in_every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@pytest.fixture(scope="module")
def running_model() -> Iterator[ChatModel]:
    with chat_model.running() as model:
        yield model


@pytest.fixture
def model(running_model: ChatModel) -> ChatModel:
    """The model behind the servers, without requests so far."""
    running_model.reset()
    return running_model


@pytest.fixture(scope="module", params=servers.SERVERS)
def server(request: pytest.FixtureRequest, running_model: ChatModel) -> Iterator[Server]:
    """Each server; ``on("litellm")`` is one of them."""
    with servers.SERVERS[request.param](running_model.base_url) as base_url:
        yield Server(request.param, base_url)


@pytest.fixture
def run(run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, model: ChatModel) -> Callable[..., Any]:
    """Return a function that runs tasks on a server, and returns the DAG run."""

    def run_tasks(server: Server, *tasks: str) -> Any:
        monkeypatch.setenv("AIRFLOW_CONN_RESPONSES_DEFAULT", server.connection)
        return run_dag(DAG + "".join(f"    {task}\n" for task in tasks), "on_a_server")

    return run_tasks


def on(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("server", [name], indirect=True)


def ask(arguments: str, task_id: str = "ask") -> str:
    return f"{task_id} = ResponsesOperator(task_id='{task_id}', {arguments})"


def message(part: str, path: Path | str = "") -> str:
    """Return an input with a part, or with one of this class and path."""
    part = f"{part}.from_path('{path}')" if path else part
    return f"[{{'role': 'user', 'content': [{{'type': 'input_text', 'text': 'What is it?'}}, {part}]}}]"


def texts(body: dict[str, Any]) -> list[tuple[str, str]]:
    """Return role and text of each message that a model got."""
    found = []
    for sent in body["messages"]:
        content = sent.get("content")
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())
        found.append((sent["role"], text))
    return found


def data_of(body: dict[str, Any], kind: str) -> tuple[str, bytes]:
    """Return media type and content of the only part of a kind that a model got."""
    (part,) = [part for part in body["messages"][-1]["content"] if part["type"] == kind]
    url = part["image_url"]["url"] if kind == "image_url" else part["file"]["file_data"]
    media_type, data = re.fullmatch("data:(.*?);base64,(.*)", url).groups()
    return media_type, base64.b64decode(data)


@in_every_mode
def test_typed_output(server, run, model, mode):
    model.script(Reply(json.dumps(GOOD)))

    result = run(server, ask(f"{mode}input='Is it good?', output_type=Label"))

    assert result.xcom("ask") == GOOD
    usage = result.xcom("ask", "usage")
    assert (usage["input_tokens"], usage["output_tokens"], usage["status"]) == (11, 7, "completed")
    (body,) = model.bodies
    sent = body["response_format"]["json_schema"]
    assert (sent["strict"], sent["schema"]["required"]) == (True, ["topic", "why"])
    assert sent["schema"]["properties"]["topic"]["enum"] == ["good", "bad"]


@in_every_mode
def test_an_invalid_output_is_requested_again_with_the_reason(server, run, model, mode):
    model.script(Reply('{"topic": "great", "why": "it works"}'), Reply(json.dumps(GOOD)))

    result = run(server, ask(f"{mode}input='Is it good?', output_type=Label"))

    assert result.xcom("ask") == GOOD
    first, second = map(texts, model.bodies)
    assert second[0] == first[0] == ("user", "Is it good?")
    assert "topic: Input should be 'good' or 'bad', got 'great'" in second[-1][1]
    assert len(result.xcom("ask", "usage")["sends"]) == 2


@in_every_mode
def test_the_model_gets_the_results_of_its_calls(server, run, model, mode):
    def respond(body: dict[str, Any]) -> Reply:
        results = [text for role, text in texts(body) if role == "tool"]
        if not results:
            return Reply("Let me look.", calls=(("price", {"item": "bolt"}), ("price", {"item": "nut"})))
        if len(results) == 2:
            return Reply(calls=(("price", {"item": "screw"}),))
        return Reply(f"A bolt and a nut are {int(results[0]) + int(results[1])}. {results[2]}")

    model.respond = respond

    result = run(server, ask(f"{mode}input='How much are they?', tools=[price]"))

    assert result.xcom("ask") == "A bolt and a nut are 7. Error: KeyError: 'screw'"
    steps = result.xcom("ask", "usage")["steps"]
    assert [[call["status"] for call in step["calls"]] for step in steps] == [["succeeded"] * 2, ["failed"], []]
    assert result.xcom("ask", "usage")["output_tokens"] == 21
    first, second, third = model.bodies
    function = first["tools"][0]["function"]
    assert (function["name"], function["strict"]) == ("price", True)
    assert function["parameters"]["properties"]["item"]["type"] == "string"
    assert ("assistant", "Let me look.") in texts(second)
    called = [call["id"] for sent in third["messages"] for call in sent.get("tool_calls", ())]
    returned = [sent["tool_call_id"] for sent in third["messages"] if sent["role"] == "tool"]
    assert called == returned
    assert len(set(called)) == 3


def test_typed_output_after_calls(server, run, model):
    model.script(Reply(calls=(("price", {"item": "nut"}),)), Reply(json.dumps(GOOD)))

    result = run(server, ask("input='Is 4 its price?', tools=[price], output_type=Label"))

    assert result.xcom("ask") == GOOD
    assert texts(model.bodies[1])[-1] == ("tool", "4")


@in_every_mode
def test_an_image_arrives_byte_for_byte(server, run, model, mode, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)

    result = run(server, ask(f"{mode}input={message('InputImage', tmp_path / 'a.png')}"))

    assert result.xcom("ask") == "Hello"
    (body,) = model.bodies
    assert data_of(body, "image_url") == ("image/png", PNG)
    assert texts(body) == [("user", "What is it?")]


@on("litellm")
@in_every_mode
def test_litellm_passes_a_document_byte_for_byte(server, run, model, mode, tmp_path):
    (tmp_path / "a.pdf").write_bytes(PDF)

    result = run(server, ask(f"{mode}input={message('InputFile', tmp_path / 'a.pdf')}"))

    assert result.xcom("ask") == "Hello"
    (body,) = model.bodies
    assert data_of(body, "file") == ("application/pdf", PDF)
    assert body["messages"][0]["content"][1]["file"]["filename"] == "a.pdf"


@on("fastresponses")
def test_fastresponses_garbles_a_document_unless_it_is_base64_alone(server, run, model, tmp_path):
    """It decodes the data URL as if all of it were base64."""
    (tmp_path / "a.pdf").write_bytes(PDF)
    alone = {"type": "input_file", "filename": "a.pdf", "file_data": base64.b64encode(PDF).decode()}

    result = run(
        server,
        ask(f"input={message('InputFile', tmp_path / 'a.pdf')}", "by_path"),
        ask(f"input={message(repr(alone))}", "by_hand"),
    )

    assert result.state == "success"
    garbled, whole = sorted((data_of(body, "file")[1] for body in model.bodies), key=lambda data: data == PDF)
    assert whole == PDF
    assert PDF[:20] not in garbled


@on("litellm")
def test_litellm_leaves_out_sounds_and_the_previous_response(server, run, model, tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)

    result = run(
        server,
        ask(f"input={message('InputAudio', tmp_path / 'a.wav')}", "sound"),
        ask("input='What is my name?', request={'previous_response_id': 'resp_unknown'}", "continued"),
    )

    assert result.state == "success"
    found = [sent["content"] for body in model.bodies for sent in body["messages"]]
    assert sorted(found, key=repr) == ["What is my name?", [{"type": "text", "text": "What is it?"}]]


@on("fastresponses")
def test_fastresponses_refuses_a_message_with_a_sound(server, run, model, tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)

    result = run(server, ask(f"input={message('InputAudio', tmp_path / 'a.wav')}"))

    assert result.states == {("ask", -1): "failed"}
    assert model.bodies == []


@on("fastresponses")
def test_fastresponses_loses_typed_output_that_its_model_returns_by_a_call(server, run, model, running_model, task_log):
    """Pydantic AI asks for it so unless the agent's profile has another ``default_structured_output_mode``."""
    model.respond = lambda body: Reply(calls=((body["tools"][0]["function"]["name"], GOOD),))

    with servers.fastresponses(running_model.base_url, agent="agent") as base_url:
        result = run(Server("fastresponses", base_url), ask("input='Is it good?', output_type=Label"))

    assert result.states == {("ask", -1): "failed"}
    assert "the response has no text that could match Label" in task_log.text
    assert result.xcom("ask", "usage")["output_tokens"] == 7
    assert len(model.bodies) == 2


def test_a_conversation_continues(server, run, model):
    model.script(Reply("Nice to meet you, Bo."), Reply("You are Bo."))

    result = run(
        server,
        ask("input='I am Bo.', result='response'", "first"),
        ask("input='Who am I?', history=first.output", "second"),
    )

    assert result.xcom("second") == "You are Bo."
    assert texts(model.bodies[1]) == [
        ("user", "I am Bo."),
        ("assistant", "Nice to meet you, Bo."),
        ("user", "Who am I?"),
    ]


@on("fastresponses")
def test_fastresponses_continues_a_stored_response(server, run, model):
    model.script(Reply("Nice to meet you, Bo."), Reply("You are Bo."))
    template = "{{ ti.xcom_pull('first')['id'] }}"

    result = run(
        server,
        ask("input='I am Bo.', result='response'", "first"),
        ask(f"input='Who am I?', request={{'previous_response_id': {template!r}}}", "second"),
        "first >> second",
    )

    assert result.xcom("second") == "You are Bo."
    assert [text for _, text in texts(model.bodies[1])] == ["I am Bo.", "Nice to meet you, Bo.", "Who am I?"]


def test_the_rows_of_a_table(server, run, model, tmp_path):
    def respond(body: dict[str, Any]) -> Reply:
        number = int(re.search(r"row (\d+)", texts(body)[0][1])[1])
        if number == 3:
            return Reply(refused="this row is not for me")
        again = len(texts(body)) > 1
        return Reply(json.dumps({"topic": "odd" if number % 2 and not again else "good", "why": f"row {number}"}))

    model.respond = respond
    rows = [{"id": n, "text": f"row {n}"} for n in range(20)]

    result = run(
        server,
        f"ResponsesEnrichOperator(task_id='label', source={rows}, key='id', input='Label {{{{ row.text }}}}',"
        f" output_type=Label, output_path='{tmp_path}/out', limits=Limits(max_failures=1))",
    )

    manifest = result.xcom("label")
    assert manifest["counts"] == {"ok": 19, "failed": 1}
    written = [json.loads(line) for line in (tmp_path / "out" / "result.jsonl").read_text().splitlines()]
    assert [row["id"] for row in written] == list(range(20))
    assert {row["why"] for row in written if row["topic"]} == {f"row {n}" for n in range(20) if n != 3}
    assert "this row is not for me" in written[3]["_error"]
    # Each odd row twice: its first output does not match. A request that the model refuses is not sent again.
    assert len(model.bodies) == 10 + 9 * 2 + 1
    assert sum("row 3" in texts(body)[0][1] for body in model.bodies) == 1
