"""The template of a prompt, rendered for each row."""

from __future__ import annotations

import datetime
import decimal
import enum

import jinja2
import pytest
from airflow.providers.common.compat.sdk import DAG

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.operators.templates import RowTemplate


class Mood(str, enum.Enum):  # noqa: UP042  a StrEnum has no text of its own
    GOOD = "good"


def environment(**arguments):
    dag = DAG("d", schedule=None, start_date=datetime.datetime(2026, 1, 1), **arguments)
    return dag.get_template_env(force_sandboxed=True)


def render(text, row, env=None, **context):
    return RowTemplate(text, env or environment(), context).render(row)


@pytest.mark.parametrize(
    ("text", "row", "rendered"),
    [
        ("{{ row.keys }} {{ row.get }} {{ row.items }}", {"keys": 1, "get": 2, "items": [3]}, "1 2 [3]"),
        ("{{ row.order.items }}", {"order": {"items": "ham"}}, "ham"),
        ("{{ row['first name'] }} {{ row._x }} {{ row.__y }}", {"first name": 1, "_x": 2, "__y": 3}, "1 2 3"),
        ("{% for name, value in row.items() %}{{ name }}={{ value }};{% endfor %}", {"a": 1, "b": None}, "a=1;b=;"),
        ("{% for name, value in row | items %}{{ name }}={{ value }};{% endfor %}", {"items": 1}, "items=1;"),
        ("{% for tag in row.tags %}{{ tag.name }} {% endfor %}", {"tags": [{"name": "a"}, {"name": "b"}]}, "a b "),
        ("{% set tags = row.tags %}{{ tags | map(attribute='name') | join }}", {"tags": [{"name": "a"}]}, "a"),
        ("{{ row | tojson }}", {"items": 1, "text": "é <b> 'x'"}, '{"items": 1, "text": "é <b> \'x\'"}'),
        ("{{ row | tojson }}", {"n": decimal.Decimal("1.10")}, '{"n": "1.10"}'),
        ("{{ row.d | tojson(indent=1) }}", {"d": [datetime.date(2026, 1, 2)]}, '[\n "2026-01-02"\n]'),
        ("{{ row.rare | default('-') }}", {"text": "x"}, "-"),
        ("{{ row.n }}", {"n": 5}, "5"),
        ("{{ row.m }} {{ row.m ~ '' }} {{ row.m | upper }}", {"m": Mood.GOOD}, "good good GOOD"),
        ("{{ row.at }} {{ row.at[0] ~ '' }}", {"at": (1, 2)}, "(1, 2) 1"),
    ],
)
def test_a_template_is_rendered_with_the_columns_of_a_row(text, row, rendered):
    assert render(text, row) == rendered


def test_macros_and_filters_of_the_dag_work_and_values_are_text():
    env = environment(
        render_template_as_native_obj=True,
        user_defined_macros={"quoted": "<{}>".format},
        user_defined_filters={"loud": str.upper},
    )
    assert (
        render("{{ quoted(row.n) }} {{ row.t | loud }} {{ ds }}", {"n": 5, "t": "a"}, env, ds="today") == "<5> A today"
    )
    assert render("{{ row.n }}", {"n": 5}, env) == "5"


def test_an_included_template_can_use_the_row():
    env = environment().overlay(loader=jinja2.DictLoader({"ask.j2": "About {{ row.text }}"}))
    assert render("{% include 'ask.j2' %}", {"text": "x"}, env) == "About x"


@pytest.mark.parametrize("text", ["{{ row.items }}", "{{ row.text.strip }}", "{{ helper }}{{ row.text }}"])
def test_a_function_is_refused_and_not_rendered_as_its_address(text):
    with pytest.raises(RequestValidationError, match="is a function or a method, not a column; call it"):
        render(text, {"text": "x"}, environment(user_defined_macros={"helper": lambda: 1}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ row.text | loud }}", "the template is not valid: No filter named 'loud'"),
        ("{{ row.text is loud }}", "the template is not valid: No test named 'loud'"),
        ("{{ row.text", "the template is not valid: unexpected end of template"),
        ("prompt.txt", "the template uses no column, so all rows would have the same prompt"),
        ("{% for row in [1] %}{{ row }}{% endfor %}", "the template uses no column"),
        ("{{ row.text }} {{ text }}", "the template uses 'text', which is neither `row` nor in the task's context"),
    ],
)
def test_a_template_that_is_not_valid_is_refused(text, message):
    with pytest.raises(RequestValidationError) as caught:
        RowTemplate(text, environment(), {})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("{{ row.a }} {{ row['b c'] }} {{ row.get('d') }} {{ row.items() }}", {"a", "b c"}),
        ("{{ row.a }}{% for row in row.children %}{{ row.b }}{% endfor %}", set()),
    ],
)
def test_required_columns(text, columns):
    assert RowTemplate(text, environment(), {}).required_columns == columns


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("{{ row.a }} {{ row['b c'] }} {{ ds }}", {"a", "b c"}),
        ("{{ row.rare | default('-') }}{% if row.x is defined %}{{ row.y.z }}{% endif %}", {"rare", "x", "y"}),
        ("{% macro m(t) %}{{ t ~ row.c }}{% endmacro %}{{ m(row.a) }}", {"a", "c"}),
        ("{{ row.a }} {{ row.items() }}", None),
        ("{{ row.get('d') }}", None),
        ("{{ row.items }}", None),
        ("{{ row }}", None),
        ("{{ row | tojson }} {{ row.a }}", None),
        ("{% for name in row %}{{ row[name] }}{% endfor %}", None),
        ("{% set name = 'a' %}{{ row[name] }}", None),
        ("{% set other = row %}{{ other.a }}", None),
        ("{% macro m(r) %}{{ r.a }}{% endmacro %}{{ m(row) }}", None),
        ("{{ row.a }}{% for row in row.children %}{{ row.b }}{% endfor %}", None),
        ("{{ row.a }}{% include 'x' %}", None),
        ("{{ row['a' 'b'] }}{{ row[0] }}", None),
    ],
)
def test_columns_read(text, columns):
    assert RowTemplate(text, environment(), {"ds": "today"}).columns_read == columns


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize(
    "text",
    [
        *(
            "{{ row.b }}",
            "{{ row.b ~ '' }}",
            "{{ row.b | string }}",
            "{{ row.b | upper }}",
            "{{ '%s' | format(row.b) }}",
        ),
        *("{{ row }}", "{{ row.deep }}", "{{ row.deep.x[0] }}", "{{ [row.b] }}", "{{ row.b | trim }}"),
        *("{{ row.b | join(',') if false else row.b }}", "{{ 'x'.join([row.b | string]) }}", "{{ row.b | e }}"),
        "{{ row.b[:2] ~ 'x' }}",
        "{{ row.b[1:] }}",
        "{{ row.b.strip() }}",
    ],
)
def test_bytes_are_not_rendered_as_text(text, kind):
    with pytest.raises(RequestValidationError, match=r"a column must be text, got \d bytes; decode it"):
        render(text, {"b": kind(b"\x00ab"), "deep": {"x": [kind(b"\x00ab")]}})


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_may_be_decoded_and_encoded_explicitly(kind):
    row = {"b": kind("é".encode())}
    assert render("{{ row.b.decode() }} {{ row.b | tojson }} {{ row.b | length }}", row) == 'é "w6k=" 2'
