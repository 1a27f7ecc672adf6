"""``input`` and ``instructions`` may name a prompt file, and only text of the DAG's author does."""

from __future__ import annotations

import datetime
import json

import pytest
from airflow.providers.common.compat.sdk import DAG
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.prompt_files import EXTENSIONS, PromptText, is_file_name
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import context
from tests.conftest import load_dag

START = datetime.datetime(2026, 1, 1)

DAG_FILE = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

KNOWN = dict(model="vendor/m", retries=0)

with DAG(
    "prompt_files",
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    params=dict(word="tides"),
    template_searchpath=[FOLDER],
    render_template_as_native_obj=NATIVE,
):

    @task
    def names():
        return ["question.md"]

    ResponsesOperator(task_id="plain", input="question.md", instructions="system.txt", **KNOWN)
    ResponsesOperator(task_id="deferred", input="question.md", deferrable=True, **KNOWN)
    ResponsesOperator(task_id="started", input="question.md", start_from_trigger=True, **KNOWN)
    named = names()
    named >> ResponsesOperator(task_id="of_data", input="{{ ti.xcom_pull('names')[0] }}", **KNOWN)
    ResponsesOperator.partial(task_id="shared", instructions="system.txt", **KNOWN).expand(input=["one", "question.md"])
    ResponsesOperator.partial(task_id="mapped_data", **KNOWN).expand(input=named)
    ResponsesEnrichOperator(
        task_id="rows", source=[dict(text="calm")], input="row.j2", instructions="system.txt",
        output_path=FOLDER + "/rows", **KNOWN
    )
    ResponsesEnrichOperator.partial(task_id="mapped_rows", input="row.j2", **KNOWN).expand_kwargs(
        [dict(source=[dict(text="stormy")], output_path=FOLDER + "/mapped")]
    )

    @task.responses(instructions="system.txt", **KNOWN)
    def decorated():
        return "question.md"

    decorated()
"""


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "question.md").write_text("About {{ params.word }}.\n{% include 'rest.txt' %}\nSee notes.md")
    (tmp_path / "rest.txt").write_text("In one line.")
    (tmp_path / "system.txt").write_text("Write like {{ task.task_id }}")
    (tmp_path / "row.j2").write_text("Mood of: {{ row.text }}, {{ params.word }}")
    return tmp_path


def in_dag(folder, cls=ResponsesOperator, **kwargs):
    with DAG("files", schedule=None, start_date=START, template_searchpath=[str(folder)]) as dag:
        task = cls(task_id="ask", **({"model": "vendor/m", "input": "hi"} | kwargs))
    dag.resolve_template_files()
    return task


@pytest.mark.parametrize("native", [False, True])
def test_prompts_in_files_are_rendered_and_sent_in_every_execution_mode(run_dag, responses_sandbox, prompts, native):
    source = DAG_FILE.replace("FOLDER", repr(str(prompts))).replace("NATIVE", str(native))
    result = run_dag(source, "prompt_files")
    assert set(result.states.values()) == {"success"}
    question = "About tides.\nIn one line.\nSee notes.md"
    sent = sorted((entry.body["input"], entry.body.get("instructions") or "") for entry in responses_sandbox.billed)
    assert sent == sorted(
        [
            (question, "Write like plain"),
            (question, ""),
            (question, ""),
            (question, "Write like shared"),
            ("one", "Write like shared"),
            ("question.md", ""),
            ("question.md", ""),
            ("question.md", "Write like decorated"),
            ("Mood of: calm, tides", "Write like rows"),
            ("Mood of: stormy, tides", ""),
        ]
    )
    manifest = result.xcom("rows")
    assert manifest["prompt"]["input"] == "Mood of: {{ row.text }}, {{ params.word }}"


@pytest.mark.parametrize("field", ["input", "instructions"])
@pytest.mark.parametrize("cls", [ResponsesOperator, ResponsesEnrichOperator])
def test_a_missing_file_fails_when_the_dag_is_parsed(tmp_path, field, cls):
    more = {"source": [{"text": "x"}], "output_path": str(tmp_path)} if cls is ResponsesEnrichOperator else {}
    with pytest.raises(RequestValidationError) as caught:
        in_dag(tmp_path, cls, **more, **{field: "prompts/mood.md"})
    message = str(caught.value)
    assert f"{field} names the prompt file 'prompts/mood.md', which is not in " in message
    assert f" or {tmp_path}. Correct the name, or add its folder to the DAG's template_searchpath" in message
    assert "To send this text itself, end it with a space. Task: ask" in message


def test_a_missing_file_of_a_mapped_task_fails_when_the_dag_is_parsed(tmp_path):
    with DAG("files", schedule=None, start_date=START, template_searchpath=[str(tmp_path)]):
        with pytest.raises(RequestValidationError, match=r"instructions names the prompt file 'a\.md'"):
            ResponsesOperator.partial(task_id="ask", model="vendor/m", instructions="a.md").expand(input=["x"])
        with pytest.raises(RequestValidationError, match=r"input names the prompt file 'b\.txt'"):
            ResponsesOperator.partial(task_id="more", model="vendor/m").expand(input=["x", "b.txt"])


def test_the_import_error_of_the_dag_names_the_file(airflow_db, tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(
        "import datetime\nfrom airflow.providers.common.compat.sdk import DAG\n"
        "from airflow_provider_responses.operators.responses import ResponsesOperator\n"
        "with DAG('broken', schedule=None, start_date=datetime.datetime(2026, 1, 1)):\n"
        "    ResponsesOperator(task_id='ask', model='vendor/m', input='gone.md')\n"
    )
    with pytest.raises(AssertionError, match=r"input names the prompt file 'gone\.md'"):
        load_dag(path, "broken")


def test_a_file_beside_the_dag_is_found(airflow_db, tmp_path):
    (tmp_path / "mood.md").write_text("Mood?")
    path = tmp_path / "beside.py"
    path.write_text(
        "import datetime\nfrom airflow.providers.common.compat.sdk import DAG\n"
        "from airflow_provider_responses.operators.responses import ResponsesOperator\n"
        "with DAG('beside', schedule=None, start_date=datetime.datetime(2026, 1, 1)):\n"
        "    ResponsesOperator(task_id='ask', model='vendor/m', input='mood.md')\n"
    )
    assert load_dag(path, "beside").get_task("ask").input == "Mood?"


def test_a_name_with_a_template_is_an_error_before_anything_is_sent(tmp_path):
    with pytest.raises(RequestValidationError, match="such a name cannot hold a template"):
        in_dag(tmp_path, input="prompts/{{ params.kind }}.md")


def test_a_name_without_a_dag_is_an_error_before_anything_is_sent(responses_sandbox):
    task = ResponsesOperator(task_id="ask", model="vendor/m", input="mood.md")
    with pytest.raises(RequestValidationError, match="the task has no DAG whose folder could hold the file"):
        task.render_template_fields(context())
    assert responses_sandbox.ledger == []


@pytest.mark.parametrize(
    ("content", "cause"), [(b" \n", "is empty"), (b"\xff\xfe\x00", "cannot be read as UTF-8"), (None, "is not in")]
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, content, cause):
    if content is None:
        (tmp_path / "mood.md").mkdir()
    else:
        (tmp_path / "mood.md").write_bytes(content)
    with pytest.raises(RequestValidationError, match=cause):
        in_dag(tmp_path, input="mood.md")


@pytest.mark.parametrize("name", ["../outside.md", "/outside.md", "a/../../outside.md"])
def test_a_file_outside_the_folders_of_the_dag_is_not_read(tmp_path, name):
    (tmp_path / "dag").mkdir()
    (tmp_path / "outside.md").write_text("secret")
    with pytest.raises(RequestValidationError, match="is not in"):
        in_dag(tmp_path / "dag", input=name)


@pytest.mark.parametrize(
    "text", ["Summarize README.md", "hi\nREADME.md", "README.md ", "notes.pdf", "", "{{ row.a }} x.md", "md", "a\tb.md"]
)
def test_other_texts_are_texts(tmp_path, text):
    assert not is_file_name(text, EXTENSIONS)
    assert in_dag(tmp_path, input=text or "x", instructions=text or None).instructions == (text or None)


@given(st.text(), st.sampled_from(EXTENSIONS))
def test_a_text_with_white_space_is_never_a_name_and_a_files_text_never_is(text, extension):
    assert not is_file_name(f"{text} {extension}", EXTENSIONS)
    assert not is_file_name(f"{text}\n{extension}", EXTENSIONS)
    assert not is_file_name(PromptText(f"{text}{extension}"), EXTENSIONS)
    assert is_file_name("".join(text.split()).replace("{", "") + extension, EXTENSIONS)


def test_a_file_that_holds_only_a_name_is_sent_as_it_is(responses_sandbox, tmp_path):
    (tmp_path / "mood.md").write_text("other.md")
    task = in_dag(tmp_path, input="mood.md")
    task.render_template_fields(context())
    task.execute(context())
    assert [entry.body["input"] for entry in responses_sandbox.billed] == ["other.md"]


def test_other_fields_that_end_in_an_extension_are_texts(responses_sandbox, tmp_path):
    task = in_dag(tmp_path, request={"metadata": {"source": "README.md"}}, model="vendor/model.md")
    task.render_template_fields(context())
    task.execute(context())
    (entry,) = responses_sandbox.billed
    assert (entry.body["model"], entry.body["metadata"]["source"]) == ("vendor/model.md", "README.md")


def test_the_stored_dag_shows_the_text_of_the_file(tmp_path):
    (tmp_path / "mood.md").write_text("Mood of {{ row.text }}")
    task = in_dag(
        tmp_path, ResponsesEnrichOperator, input="mood.md", source=[{"text": "x"}], output_path=str(tmp_path / "out")
    )
    assert task.prompt_template["input"] == "Mood of {{ row.text }}"
    assert json.loads(json.dumps(task.input)) == "Mood of {{ row.text }}"
