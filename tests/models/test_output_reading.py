"""Text around JSON is removed; broken JSON is repaired only if nothing is lost or invented."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, field_validator

from airflow_provider_responses.exceptions import OutputValidationError
from airflow_provider_responses.models.output import parse_output, read_output
from airflow_provider_responses.models.output_text import LONGEST_REPAIR, bare_json, repaired_json
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.request import TaskRequest


class Inner(BaseModel):
    words: list[str]
    share: float


class Report(BaseModel):
    text: str
    number: int
    inner: Inner | None = None
    flags: list[bool] = []


class Loose(BaseModel):
    """Every field has a default, so that no loss causes an error."""

    text: str = ""
    words: list[str] = []
    number: int = 0
    inner: Report | None = None


LIKE_MARKUP = st.sampled_from(
    ["```", "```json\n", "<think>", "</think>", "\ufeff", '"', "\\", "{", "}", "[", "'", "//", " "]
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.lists(LIKE_MARKUP | st.text(max_size=4), max_size=5).map("".join),
    st.sampled_from(["it's", 'say "hi"', "None", "True", "1.50", "http://x.y/z", "C:\\Users", "a, b", "{}"]),
).filter(lambda text: "\x00" not in text)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(Inner, words=st.lists(TEXTS, max_size=3), share=FINITE)
REPORTS = st.builds(
    Report,
    text=TEXTS,
    number=st.integers(),
    inner=st.none() | INNER,
    flags=st.lists(st.booleans(), max_size=2),
)
LOOSE = st.builds(
    Loose,
    text=TEXTS,
    words=st.lists(TEXTS, max_size=3),
    number=st.integers(-5, 1000),
    inner=st.none() | st.builds(Report, text=TEXTS, number=st.integers(0, 99)),
)
INDENTS = st.sampled_from([None, 2])
THOUGHTS = st.sampled_from(
    [
        "",
        "Hmm.",
        'They want JSON: {"text": 1',
        "```json\n{}\n```",
        "an <tag> and a } {",
        '{"text": "draft", "number": 1}',
    ]
)
OUTSIDE = st.sampled_from(["", " ", "\n\n", "\ufeff", "\r\n\t"])


@st.composite
def wrapped(draw: st.DrawFn, instances: st.SearchStrategy[Any] = REPORTS) -> tuple[Any, str, str]:
    """Draw an instance, its JSON, and the JSON with text around it."""
    instance = draw(instances)
    text = json.dumps(instance.model_dump(mode="json"), ensure_ascii=draw(st.booleans()), indent=draw(INDENTS))
    whole = draw(OUTSIDE) + text + draw(OUTSIDE)
    if draw(st.booleans()):
        fence = draw(st.sampled_from(["```", "````", "~~~"]))
        word = draw(st.sampled_from(["json", "JSON", "", "json5", " json"]))
        whole = f"{fence}{word}\n{whole}\n{fence}"
    if draw(st.booleans()):
        opening = draw(st.sampled_from(["<think>", "", "<think>\n", "<thinking>", "\ufeff<THINK>"]))
        whole = (
            f"{opening}{draw(THOUGHTS)}{'</thinking>' if 'thinking' in opening else '</think>'}{draw(OUTSIDE)}{whole}"
        )
    return instance, text, draw(OUTSIDE) + whole + draw(OUTSIDE)


@given(wrapped())
def test_text_around_the_json_is_removed(drawn: tuple[Report, str, str]) -> None:
    instance, _, whole = drawn
    assert parse_output(Report, whole) == instance
    for repair in (False, True):
        read = read_output(Report, [whole], repair=repair)
        assert read.value == instance.model_dump(mode="json")
        assert not read.repaired


@given(REPORTS)
def test_json_is_not_changed(instance: Report) -> None:
    text = json.dumps(instance.model_dump(mode="json"), ensure_ascii=False)
    assert bare_json(text) is text


@pytest.mark.parametrize(
    "text", ["```json\n{}\n```", "<think>no</think>{}", "\ufeff", "</think>", "~~~", "Here: {'a': 1}"]
)
def test_a_string_keeps_text_that_looks_like_a_wrapper(text: str) -> None:
    written = json.dumps({"text": text, "number": 1})
    assert parse_output(Report, written).text == text
    assert parse_output(Report, f"```\n{written}\n```").text == text
    assert parse_output(Report, f"</think>{written}").text == text


@pytest.mark.parametrize(
    "text",
    [
        "<think>{'text': 'x', 'number': 1}",
        '<think>{"text": "x", "number": 1}',
        '<think>Perhaps {"text": "x", "number": 1}',
        '{"text": "x", "number": 1}<think>No.</think>',
        'First {"text": "x", "number": 1} then {"text": "y", "number": 2}',
        '```json\n{"text": "x", "number": 1}\n```\n```json\n{"text": "y", "number": 2}\n```',
        '[{"text": "x", "number": 1}]',
        "",
        "\ufeff",
        "```",
        "I cannot do this.",
        'x' * 400 + ' {"text": "x", "number": 1}',
        '{"text": "x", "number": 1} ' + "x" * 400,
    ],
)  # fmt: skip
def test_an_ambiguous_text_is_not_read(text: str) -> None:
    with pytest.raises(OutputValidationError):
        read_output(Report, [text], repair=True)


@pytest.mark.parametrize(
    "text",
    [
        '{"text": "x y", "number": 1,}',
        '{"text": "x y" "number": 1}',
        "{'text': 'x y', 'number': 1}",
        "{text: 'x y', number: 1}",
        "{“text”: “x y”, “number”: 1}",
        '{"text": "x y", "number": 1, "inner": None, "flags": [True, False]}',
        '{"text": "x y", "number": 1, "inner": {"words": [], "share": 1} "flags": []}',
        '{"text": "x y", "number": 1, "note": [{"a": 1} {"b": 2}]}',
        '{"text": "x\ny", "number": 1}',
        '{"text": "x y", "number": 1, "inner": {"words": ["a",], "share": 1.50}}',
        'Here is the JSON: {"text": "x y", "number": 1}',
        'Sure!\n```json\n{"text": "x y", "number": 1}\n```\nAnything else?',
        "<think>Easy.</think>```json\n{'text': 'x y', 'number': 1}\n```",
        "\ufeff{'text': 'x y', 'number': 1}",
    ],
)
def test_a_small_error_is_repaired_and_reported(text: str) -> None:
    with pytest.raises(OutputValidationError):
        read_output(Report, [text])
    read = read_output(Report, [text], repair=True)
    assert read.repaired
    assert (" ".join(read.value["text"].split()), read.value["number"]) == ("x y", 1)


@pytest.mark.parametrize(
    "text",
    [
        '{"text": "x", "number": 1',  # truncated, and the following ones
        '{"text": "x", "number": 1, "inner": {"words": [], "share": 1}',
        '{"text": "x", "number": 1, "flags": [true',
        '{"number": 1, "text": "x',
        '{"number": 1, "text": "x}',
        '{"number": 1, "text": "x"',
        "{'number': 1, 'text': 'x",
        "{'number': 1, 'text': 'x}",
        "{number: 1, text: x",
        '```json\n{"text": "x", "number": 1\n```',
        '{"text": "x", "number": 1, "flags": [true}',  # brackets that do not match
        '{"text": "x, "number": 1}',  # a quote is missing somewhere
        '{"text": "x", "number": 1, ...}',  # something left out
        '{"text": , "number": 1}',
        '{"text": "x", "number": 1, "number": 2,}',  # two values
        '{"text": "x", "number": 1.,}',
        '{"text": "x", "number": 01}',
        '{"text": "x", "number": 0x1F}',
        '{"text": "x", "number": 1}}',
        '{"text": "x", "number": 1} {',
        '{"text": "x", "nummer": 1,}',  # the repaired JSON is not valid
        '{"text": "x", "number": 1, "flags": [true,, false]}',  # an empty entry
        '{"text": "x", "number": 1, "flags": [, true]}',
        '{"text": "x", "number": 1, "flags": [true,,]}',
        '{"text": "x", "number": 1, "flags": [,]}',
        '{"text": "x",, "number": 1}',
        '{, "text": "x", "number": 1}',
        '{"text": "x", "number":: 1}',
        '{"text" "x", "number": 1}',
        '{"text": "x", "number": 1 234}',
        '{"text": "x", "number": 1, "note": [1 234]}',  # one number or two
        '{"text": "x", "number": 1, "inner": {"words": ["a" "b"], "share": 1}}',  # one text or two
        '{"text": "a" + "b", "number": 1}',  # an expression
        '{"text": "a " + "b", "number": 1}',
        '{"text": "" + "b", "number": 1}',
        '{"text": "a "+n+" b", "number": 1}',
        '{"text": "a "+" b", "number": 1}',
        '{"text": "a" "b", "number": 1}',
        '{"text": "a" . "b", "number": 1}',
        '{"text": "a" or "b", "number": 1}',
        '{"text": "a" if n else "b", "number": 1}',
        "{'text': 'a' + 'b', 'number': 1}",
        "{'text': 'a'+'b', 'number': 1}",
        "{“text”: “a” + “b”, “number”: 1}",
        '{"text": "x".upper(), "number": 1}',
        '{"text": "x", "number": 1 + 2}',
        '{"text": "x", "number": 1, "flags": ["..."],}',
        "{'text': '…', 'number': 1}",
        '{"text": "x", "number": 1} // and so on',
        '{"text": "x", "number": 1} /* and so on */',
        '{"text": "x", "number": 1}\n... and so on',
        '{"text": "x", "number": 1}\n…',
        "{'text': 'x', 'number': 1, 'note': NaN}",
        "{'text': 'x', 'number': 1, 'note': Infinity}",
        "{'text': 'x', 'number': 1, 'note': 1e999}",
        "{'text': 'x', 'number': 1, 'note': -1e999}",
    ],
)
def test_a_text_is_not_repaired_by_guessing(text: str) -> None:
    with pytest.raises(OutputValidationError):
        read_output(Report, [text], repair=True)


HINTS = ["// so\n", "/* so */", "/* ... */", "# so\n", "...", "…", ", ...", "... ,", "[...]", "...]"]
BROKEN = "{'text': 'x', 'number': 1, 'inner': {'words': ['a', 'b'], 'share': 0.5,}, 'flags': [True],}"


@pytest.mark.parametrize("hint", HINTS)
def test_a_text_that_leaves_something_out_is_not_repaired(hint: str) -> None:
    assert read_output(Report, [BROKEN], repair=True).repaired
    outside = [place for place in range(1, len(BROKEN)) if BROKEN[:place].count("'") % 2 == 0]
    assert len(outside) > 30
    for place in outside:
        with pytest.raises(OutputValidationError):
            read_output(Report, [BROKEN[:place] + hint + BROKEN[place:]], repair=True)


class Measured(BaseModel):
    share: float
    shares: list[float] = []
    limit: float | None = None


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", '"NaN"', '"1e999"'])
@pytest.mark.parametrize("text", ['{{"share": {}}}', '{{"share": 1, "shares": [1, {}]}}', "{{'share': {},}}"])
def test_a_number_that_is_not_finite_is_refused_where_null_is_not_allowed(text: str, number: str) -> None:
    with pytest.raises(OutputValidationError) as caught:
        read_output(Measured, [text.format(number)], repair=True)
    assert "must be a finite number" in str(caught.value) or "Invalid JSON" in str(caught.value)
    with pytest.raises(OutputValidationError):
        TaskRequest(fields={}, output_type=Measured).read(complete(text.format(number)))


def test_a_number_that_is_not_finite_is_null_where_null_is_allowed() -> None:
    assert read_output(Measured, ['{"share": 1, "limit": NaN}']).value == {"share": 1.0, "shares": [], "limit": None}


def test_the_error_names_the_field_with_the_number() -> None:
    with pytest.raises(OutputValidationError, match=r"does not match Measured: shares\.1 must be a finite number"):
        read_output(Measured, ['{"share": 1, "shares": [1, Infinity], "limit": NaN}'])


def test_the_error_names_the_number_also_if_a_validator_fails_on_null() -> None:
    class Picky(BaseModel):
        limit: float | None

        @field_validator("limit")
        @classmethod
        def fails(cls, value: float) -> float:
            return value.real

    with pytest.raises(OutputValidationError, match="does not match Picky: limit must be a finite number"):
        read_output(Picky, ['{"limit": 1e999}'])


def complete(text: str) -> Response:
    part = {"type": "output_text", "text": text}
    item = {"type": "message", "role": "assistant", "content": [part]}
    return Response(raw={"status": "completed", "output": [item]})


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(wrapped(LOOSE), st.data())
def test_a_truncated_text_is_never_repaired(drawn: tuple[Loose, str, str], data: st.DataObject) -> None:
    instance, _, whole = drawn
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        read = read_output(Loose, [cut], repair=True)
    except OutputValidationError:
        return
    # Thoughts without an opening tag that are truncated right after JSON look like a response.
    drafted = "think" not in cut.lower() and "</think>" in whole
    assert read.value == instance.model_dump(mode="json") or drafted


def test_quotes_inside_a_string_are_repaired_if_they_cannot_end_it() -> None:
    assert repaired("""{"text": "so "it" is", "number": 1}""") == {"text": 'so "it" is', "number": 1}
    assert repaired("""{"text": "it's "so", or not", "number": 1}""") is None


def repaired(text: str) -> Any:
    made = repaired_json(text)
    return None if made is None else json.loads(made)


def unquoted(text: str) -> str:
    for name in ("text", "number", "inner", "words", "flags"):
        text = text.replace(f'"{name}": ', f"{name}: ")
    return text


SLIPS: dict[str, Callable[[str], str]] = {
    "a comma too many": lambda text: text[:-1] + ",}",
    "no commas": lambda text: json.dumps(json.loads(text), separators=(" ", ": ")),
    "Python": lambda text: repr(json.loads(text)),
    "Python's words": lambda text: text.replace("null", "None").replace("true", "True"),
    "no quotes": unquoted,
    "a comment": lambda text: text.replace("{", "{ // so\n", 1),
    "one bracket less": lambda text: text[:-1],
    "one quote less": lambda text: text.replace('"', "", 1),
    "line ends": lambda text: text.replace("\\n", "\n").replace("\\t", "\t"),
}


@pytest.mark.parametrize("slip", SLIPS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(instance=LOOSE, indent=INDENTS, cut=st.integers(0, 10_000))
def test_a_repair_is_correct_or_not_made(slip: str, instance: Loose, indent: int | None, cut: int) -> None:
    value = instance.model_dump(mode="json")
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    broken = SLIPS[slip](text)
    assume(broken != text)
    assume(slip not in {"Python's words", "no quotes"} or no_text_looks_like_a_slip(value))
    for given_text, whole in ((broken, True), (broken[: cut % len(broken)], False)):
        try:
            read = read_output(Loose, [given_text], repair=True)
        except OutputValidationError:
            continue
        if read.repaired:
            assert read.value == value
            assert whole or given_text.rstrip() == broken.rstrip(), "truncated, but repaired"


def no_text_looks_like_a_slip(value: Any) -> bool:
    return not re.search(
        r"null|true|: ", " ".join([value["text"], *value["words"], (value["inner"] or {}).get("text", "")])
    )


def test_texts_are_tried_in_their_order_and_repaired_only_if_none_is_valid() -> None:
    good, broken, wrong = '{"text": "good", "number": 1}', "{'text': 'broken', 'number': 1}", '{"text": 3}'
    assert read_output(Report, [broken, good], repair=True).value["text"] == "good"
    assert read_output(Report, [wrong, broken], repair=True).value["text"] == "broken"
    with pytest.raises(OutputValidationError, match=r"text: .*number: Field required"):
        read_output(Report, [wrong, broken])
    with pytest.raises(OutputValidationError, match="has no text"):
        read_output(Report, [])


@pytest.mark.parametrize("kind", [Report, int, {"type": "object"}, {"type": "array"}])
@pytest.mark.parametrize("text", ["", " \n"])
def test_the_error_of_an_empty_text_does_not_speak_of_json(kind: Any, text: str) -> None:
    with pytest.raises(OutputValidationError, match=r"^the response has no text that could match ") as caught:
        parse_output(kind, text)
    assert "JSON" not in str(caught.value)
    assert caught.value.feedback is None


@pytest.mark.parametrize(
    ("status", "maybe_truncated", "is_repaired"),
    [("completed", False, True), ("completed", True, False), ("incomplete", False, False), (None, False, False)],
)
def test_only_a_complete_response_is_repaired(status: str | None, maybe_truncated: bool, is_repaired: bool) -> None:
    part = {"type": "output_text", "text": "{'text': 'x', 'number': 1}"}
    raw = {"status": status, "output": [{"type": "message", "role": "assistant", "content": [part]}]}
    response = Response(raw=raw, maybe_truncated=maybe_truncated)
    request = TaskRequest(fields={}, output_type=Report)
    if is_repaired:
        assert request.read(response).value["text"] == "x"
    else:
        with pytest.raises(OutputValidationError):
            request.read(response)


@pytest.mark.parametrize(
    "text",
    [
        "{" * 200_000,
        '{"text": [' * 20_000,
        '{"text": "' + '"' * 190_000,
        "</think>" * 30_000,
        "```" * 60_000,
        '{"a": \'' + "\\'" * 60_000 + "'}",
        "{" + "'a': 'b', " * 15_000 + "}",
        "// " * 60_000 + "{'a': 1}",
        "{'a': " + "[" * 5_000 + "]" * 5_000 + "}",
        "{'a': 1}" + " " * LONGEST_REPAIR,
        "{'text': 'half a pair \ud800', 'number': 1}",
    ],
    ids=range(11),
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    with pytest.raises(OutputValidationError):
        read_output(Report, [text], repair=True)
    assert time.process_time() - began < 20


def test_a_failure_of_json_repair_does_not_replace_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise IndexError

    monkeypatch.setattr("json_repair.loads", fails)
    with pytest.raises(OutputValidationError, match="Invalid JSON"):
        read_output(Report, ["{'text': 'x', 'number': 1}"], repair=True)


def test_a_long_text_is_not_repaired() -> None:
    assert repaired_json("{'a': 1}" + " " * LONGEST_REPAIR) is None
