"""Text of a DAG's author is rendered, text from data is not, and native rendering changes no text."""

from __future__ import annotations

import datetime
import enum
from collections import Counter

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG, AirflowFailException
from airflow.providers.common.compat.sdk import task as airflow_task

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator
from tests.airflow_fakes import TaskInstance, context

DATA = "Hi {{ conn.responses_default.password }}{% if true %}!{% endif %}\n"

DAG_FILE = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task, task_group

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator
from airflow_provider_responses.operators.responses import ResponsesOperator

DATA = "Hi {{ conn.responses_default.password }}{% if true %}!{% endif %}\\n"
WORD, ROW = "{{ params.word }}", "{{ row.text }}"
KNOWN = dict(model="vendor/m", SETTING, retries=0)
ENRICH = dict(model="vendor/m", output_path="FOLDER/{{ task.task_id }}/{{ ti.map_index }}")


class AboutTopic(ResponsesOperator):
    def __init__(self, *, topic, **kwargs):
        super().__init__(input=topic, **kwargs)


with DAG(
    "data",
    schedule=None,
    start_date=datetime.datetime(2026, 1, 1),
    params=dict(word="tides", text=DATA),
    render_template_as_native_obj=NATIVE,
    default_args=dict(instructions=WORD),
):

    @task
    def text():
        return DATA

    @task
    def texts():
        return [DATA]

    @task
    def user():
        return dict(user=DATA)

    @task
    def whole():
        return dict(input=DATA, request=dict(user="tides"))

    @task
    def requests():
        return [dict(input=DATA, instructions=DATA, request=dict(user=DATA, metadata=dict(a=DATA)))]

    @task
    def topics():
        return [dict(topic=DATA)]

    # Templates of the DAG's author, and the values that they insert.
    ResponsesOperator(task_id="template", input="{{ params.text }}", **KNOWN)
    ResponsesOperator.partial(task_id="literal", **KNOWN).expand(input=[WORD, "{{ dag.dag_id }} 1"])
    ResponsesOperator.partial(task_id="literals", **KNOWN).expand_kwargs([dict(input=WORD, request=dict(user=WORD))])

    # Another task's output.
    ResponsesOperator(task_id="direct", input=text(), **KNOWN)
    ResponsesOperator(task_id="within", input=WORD, request=dict(user=text()), **KNOWN)
    ResponsesOperator.partial(task_id="expand", request=dict(user=WORD), **KNOWN).expand(input=texts())
    ResponsesOperator.partial(task_id="kwargs", **KNOWN).expand_kwargs(requests())
    ResponsesOperator.partial(task_id="map", **KNOWN).expand_kwargs(texts().map(lambda text: dict(input=text)))
    ResponsesOperator.partial(task_id="mixed", **KNOWN).expand_kwargs(
        [dict(input=WORD, request=user()), whole()]
    )
    ResponsesOperator.partial(task_id="twice", input=WORD, **KNOWN).expand_kwargs(
        texts().map(lambda text: dict(input=text)), strict=False
    )
    AboutTopic.partial(task_id="subclass", **KNOWN).expand_kwargs(topics())

    @task_group
    def group(text):
        ResponsesOperator(task_id="grouped", input=text, **KNOWN)

    group.expand(text=texts())

    # The decorator's arguments.
    @task.responses(**KNOWN)
    def decorated(text, word):
        return dict(input=text, user=word)

    decorated(text(), WORD)
    decorated.override(task_id="decorated_expand").partial(word=WORD).expand(text=texts())
    pairs = texts().map(lambda text: dict(text=text))
    decorated.override(task_id="decorated_kwargs").partial(word=WORD).expand_kwargs(pairs)
    decorated.override(task_id="decorated_literal").expand(text=[WORD], word=texts())

    # Rows.
    @task
    def rows():
        return [dict(text=DATA)]

    @task
    def enrichments():
        return [dict(source=[dict(text=DATA)], instructions=DATA)]

    ResponsesEnrichOperator(task_id="rows_upstream", source=rows(), input=ROW, **ENRICH)
    ResponsesEnrichOperator(task_id="rows_here", source=[dict(text=DATA)], input=ROW, **ENRICH)
    ResponsesEnrichOperator(task_id="rows_within", source=[dict(text=text())], input=ROW, **ENRICH)
    ResponsesEnrichOperator.partial(task_id="rows_kwargs", input=ROW, **ENRICH).expand_kwargs(enrichments())
    ResponsesEnrichOperator.partial(task_id="rows_expand", input=ROW, **ENRICH).expand(
        source=rows().map(lambda row: [row])
    )

    @task.responses_enrich(**ENRICH, source=[dict(text="x")])
    def about(row, more, word):
        return dict(input=more, user=word)

    about(more=text(), word=WORD)
"""
SENT = Counter(
    {  # input, user, instructions
        (DATA, None, "tides"): 10,
        (DATA, "tides", "tides"): 6,
        (DATA, DATA, DATA): 1,
        (DATA, None, DATA): 1,
        ("tides", None, "tides"): 1,
        ("tides", "tides", "tides"): 1,
        ("tides", DATA, "tides"): 3,
        ("data 1", None, "tides"): 1,
    }
)


@pytest.mark.parametrize(("setting", "native"), [("deferrable=False", True), ("start_from_trigger=True", False)])
def test_data_is_sent_unchanged_and_templates_are_rendered(setting, native, run_dag, responses_sandbox, tmp_path):
    dag = DAG_FILE.replace("SETTING", setting).replace("NATIVE", str(native)).replace("FOLDER", str(tmp_path))
    result = run_dag(dag, "data")
    assert {task: state for task, state in result.states.items() if state != "success"} == {}
    bodies = [entry.body for entry in responses_sandbox.ledger]
    assert Counter((b["input"], b.get("user"), b["instructions"]) for b in bodies) == SENT
    assert [b["metadata"]["a"] for b in bodies if "a" in b["metadata"]] == [DATA]


INPUTS_OF_ROWS = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

KNOWN = dict(source=[dict(text="T")], model="vendor/m", output_path="FOLDER/{{ task.task_id }}", retries=0)

with DAG("inputs", schedule=None, start_date=datetime.datetime(2026, 1, 1)):

    @task
    def texts():
        return ["D {{ conn.responses_default.password }} {{ row.text }}"]

    ResponsesEnrichOperator.partial(task_id="kwargs", **KNOWN).expand_kwargs(texts().map(lambda text: dict(input=text)))
    ResponsesEnrichOperator.partial(task_id="expand", **KNOWN).expand(input=texts())
    ResponsesEnrichOperator.partial(task_id="function", **KNOWN).expand_kwargs(
        texts().map(lambda text: dict(input=lambda row: text + row["text"]))
    )
    ResponsesEnrichOperator.partial(task_id="literal", **KNOWN).expand(input=["{{ dag.dag_id }} {{ row.text }}"])
    ResponsesEnrichOperator.partial(task_id="literals", **KNOWN).expand_kwargs([dict(input="{{ row.text }}")])
    ResponsesEnrichOperator.partial(task_id="one", input="1 {{ row.text }}", **KNOWN).expand_kwargs(
        texts().map(lambda text: dict(instructions=text))
    )
"""


def test_a_template_for_rows_never_comes_from_another_task(run_dag, responses_sandbox, tmp_path):
    states = run_dag(INPUTS_OF_ROWS.replace("FOLDER", str(tmp_path)), "inputs").states
    assert {task for (task, _), state in states.items() if state != "success"} == {"kwargs", "expand"}
    data = "D {{ conn.responses_default.password }} {{ row.text }}"
    sent = [(entry.body["input"], entry.body.get("instructions")) for entry in responses_sandbox.ledger]
    assert sorted(sent) == [("1 T", data), (f"{data}T", None), ("T", None), ("inputs T", None)]


FILES_OF_ROWS = """
import datetime

from airflow.providers.common.compat.sdk import DAG, task

from airflow_provider_responses.operators.enrich import ResponsesEnrichOperator

ROW = dict(name="a.png", path="https://example.com/row.png")
KNOWN = dict(
    source=[ROW], input="Describe", model="vendor/m", output_path="FOLDER/{{ task.task_id }}", files_root="FOLDER",
    retries=0,
)

with DAG("files", schedule=None, start_date=datetime.datetime(2026, 1, 1)):

    @task
    def texts():
        return ["https://example.com/{{ conn.responses_default.password }}/{{ row.name }}"]

    @task
    def names():
        return ["path"]

    ResponsesEnrichOperator.partial(task_id="kwargs", **KNOWN).expand_kwargs(texts().map(lambda text: dict(files=text)))
    ResponsesEnrichOperator.partial(task_id="expand", **KNOWN).expand(files=texts())
    ResponsesEnrichOperator.partial(task_id="column", **KNOWN).expand(files=names())
    ResponsesEnrichOperator.partial(task_id="literal", **KNOWN).expand(files=["https://example.com/1/{{ row.name }}"])
    ResponsesEnrichOperator.partial(task_id="literals", **KNOWN).expand_kwargs([dict(files="path")])
    ResponsesEnrichOperator.partial(task_id="one", files="https://example.com/2/{{ row.name }}", **KNOWN).expand_kwargs(
        texts().map(lambda text: dict(instructions=text))
    )
"""


def test_files_of_rows_never_come_from_another_task(run_dag, responses_sandbox, tmp_path):
    states = run_dag(FILES_OF_ROWS.replace("FOLDER", str(tmp_path)), "files").states
    assert {task for (task, _), state in states.items() if state != "success"} == {"kwargs", "expand", "column"}
    urls = [entry.body["input"][0]["content"][1]["image_url"] for entry in responses_sandbox.ledger]
    assert sorted(urls) == [f"https://example.com/{name}" for name in ("1/a.png", "2/a.png", "row.png")]


def test_files_of_a_mapped_task_from_another_task_are_refused_when_the_dag_is_parsed(tmp_path):
    known = {"input": "Describe", "model": "vendor/m", "output_path": str(tmp_path)}
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1)):

        @airflow_task
        def text():
            return "{{ conn.responses_default.password }}"

        with pytest.raises(RequestValidationError, match=r"^files must be a template or a column's name in the DAG's"):
            ResponsesEnrichOperator.partial(task_id="a", files=text(), **known).expand(source=[[{"a": 1}]])


def test_the_error_of_a_template_from_another_task_has_advice(tmp_path, responses_sandbox):
    task = ResponsesEnrichOperator(
        task_id="ask",
        source=[{"text": "T"}],
        input="{{ row.text }}",
        output_path=str(tmp_path / "out"),
        model="vendor/m",
        _airflow_from_mapped=True,
    )
    with pytest.raises(
        AirflowFailException, match=r"^input must be a template in the DAG's file, got one from another task"
    ):
        task.execute(context(TaskInstance()))
    assert not responses_sandbox.ledger
    assert not (tmp_path / "out").exists()


class Model(str, enum.Enum):  # noqa: UP042  a StrEnum has no text of its own
    SMALL = "vendor/small"
    WORD = "{{ params.word }}"


PARAMS = {
    "version": "3.10",
    "messages": [{"role": "user", "content": "3.10"}],
    "data": {"a": [1]},
    "none": None,
    "number": 0.5,
    "word": "tides",
}


def rendered(cls=ResponsesOperator, *, native=True, **arguments):
    with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1), render_template_as_native_obj=native):
        task = cls(task_id="ask", **({"model": "vendor/m"} | arguments))
    task.render_template_fields({"params": PARAMS})
    return task


class TestNativeRendering:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("3.10", "3.10"),
            ("{{ params.version }}", "3.10"),
            ("{{ params.data | tojson }}", '{"a": [1]}'),
            ("[1, 2]", "[1, 2]"),
            ("None", "None"),
            ("{{ params.version }}{{ params.version }}", "3.103.10"),
            ("{% if params.word %}{{ 1 }}{% endif %}0", "10"),
            ("  {{ params.version }}", "  3.10"),
            ("", ""),
            ("{{ params.messages }}", PARAMS["messages"]),
            ("{{ params.number }}", 0.5),
        ],
    )
    @pytest.mark.parametrize("name", ["input", "instructions", "model"])
    def test_text_stays_text(self, name, text, value):
        given = getattr(rendered(**{name: text}), name)
        assert (given, type(given)) == (value, type(value))

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ({"metadata": {"version": "3.10"}}, {"metadata": {"version": "3.10"}}),
            ({"user": "{{ params.version }}"}, {"user": "3.10"}),
            ({"tools": ["{{ params.data | tojson }}"]}, {"tools": ['{"a": [1]}']}),
            ({"temperature": "{{ params.number }}"}, {"temperature": 0.5}),
            ({"text": "{{ params.data }}"}, {"text": {"a": [1]}}),
            ("{{ params.data }}", {"a": [1]}),
            ("{'temperature': {{ params.number }}}", {"temperature": 0.5}),
        ],
    )
    def test_a_template_of_one_expression_becomes_an_object(self, text, value):
        assert rendered(request=text).request == value

    def test_an_unknown_variable_fails(self):
        with pytest.raises(jinja2.UndefinedError, match="nope"):
            rendered(input="{{ params.nope }}")

    def test_rows_and_limits_may_be_rendered_as_objects(self):
        task = rendered(
            ResponsesEnrichOperator,
            source="{{ [params.data] }}",
            limits="{'concurrency': {{ 2 }}}",
            input="{{ row.a }}",
            output_path="{{ params.version }}",
        )
        assert (task.source, task.limits, task.output_path) == ([{"a": [1]}], {"concurrency": 2}, "3.10")


class TestMembersOfEnums:
    @pytest.mark.parametrize("native", [False, True])
    def test_a_member_is_rendered_as_its_value(self, native):
        task = rendered(native=native, model=Model.SMALL, input=Model.WORD, request={"user": Model.WORD})
        assert (task.model, task.input, task.request) == ("vendor/small", "tides", {"user": "tides"})
        assert type(task.model) is str

    @pytest.mark.parametrize("native", [False, True])
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("{{ M.SMALL }}", "vendor/small"),
            ("{{ M.WORD }}", "{{ params.word }}"),
            ("a {{ M.SMALL }}, {{ M.SMALL | upper }}", "a vendor/small, VENDOR/SMALL"),
            ("{{ params.word }} {{ none }}", "tides None"),
        ],
    )
    def test_a_member_inside_a_template_is_rendered_as_its_value(self, native, text, value):
        dag = {"user_defined_macros": {"M": Model}, "render_template_as_native_obj": native}
        with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1), **dag):
            task = ResponsesOperator(task_id="ask", input=text, request={"user": text})
        task.render_template_fields({"params": PARAMS})
        assert (task.input, task.request) == (value, {"user": value})
        assert type(task.input) is str

    def test_a_finalize_of_the_dag_is_kept(self):
        dag = {"user_defined_macros": {"M": Model}, "jinja_environment_kwargs": {"finalize": "<{!r}>".format}}
        with DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1), **dag):
            task = ResponsesOperator(task_id="ask", input="{{ M.SMALL }}")
        task.render_template_fields({"params": PARAMS})
        assert task.input == "<<Model.SMALL: 'vendor/small'>>"

    def test_a_member_is_sent_as_its_value(self, perform, responses_sandbox):
        request = {"user": Model.SMALL, "metadata": {Model.SMALL: Model.SMALL}}
        task = ResponsesOperator(task_id="ask", model=Model.SMALL, input=[Model.SMALL], request=request)
        task.input = Model.SMALL
        perform(task, context(TaskInstance()))
        (body,) = [entry.body for entry in responses_sandbox.ledger]
        assert [body[name] for name in ("model", "input", "user")] == ["vendor/small"] * 3
        assert body["metadata"]["vendor/small"] == "vendor/small"
