"""The judge: its scale, its sample, its request, and the arguments that are refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.judge import Judge
from airflow_provider_responses.exceptions import OutputValidationError, RequestValidationError
from airflow_provider_responses.models.output import load_output


@pytest.mark.parametrize(
    ("rubric", "bounds"),
    [
        ("Is the label right? From 1 to 5.", (1, 5)),
        ("From 1 (wrong) to 5 (right).", (1, 5)),
        ("Score 0-10 by taste", (0, 10)),
        ("1\u20135, where 1-2 is bad", (1, 5)),
        ("0.0 to 1.0", (0.0, 1.0)),
        ("-2 .. 2", (-2, 2)),
        ("between 1 and 100, please", (1, 100)),
        ("1: wrong\n2: partly right\n3: right", (1, 3)),
        ("0 = no, 1 = yes", (0, 1)),
        ({1: "bad", 5: "good", 3: "so so"}, (1, 5)),
    ],
)
def test_the_scale_is_read_from_the_rubric(rubric, bounds):
    assert Judge(model="m", rubric=rubric).bounds == bounds


@given(
    st.integers(-50, 50),
    st.integers(1, 50),
    st.sampled_from(["{} to {}", "{}\u2013{}", "{} .. {}", "between {} and {}"]),
)
def test_each_way_to_write_a_scale_is_read(low, more, form):
    rubric = f"How good is it, {form.format(low, low + more)}?"
    assert Judge(model="m", rubric=rubric).bounds == (low, low + more)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            {"rubric": "Is it good?"},
            "judge: rubric states no scale, got 'Is it good?'.",
        ),
        ({"rubric": "Since 2020-01-02, is it good?"}, "judge: rubric states no scale"),
        ({"rubric": "10 to 20 words, 1 to 5"}, "judge: rubric states several scales (1 to 5, 10 to 20)"),
        ({"rubric": "  "}, "judge: rubric must be a text, or a dict of scores and their meanings"),
        ({"rubric": {1: "only one"}}, "judge: rubric must be a dict of at least two scores"),
        ({"rubric": {1: "a", "2": "b"}}, "judge: rubric must be a dict of at least two scores"),
        ({"rubric": {1: "a", 2: ""}}, "judge: rubric must be a dict of at least two scores"),
        ({"rubric": {1: "a", 2: "b"}, "scale": (1, 2)}, "judge: scale must not be set if rubric is a dict"),
        ({"rubric": "good", "scale": (5, 1)}, "judge: scale must be the lowest and the highest score"),
        ({"rubric": "good", "scale": 5}, "judge: scale must be the lowest and the highest score"),
        ({"rubric": "1 to 5", "sample": 0}, "judge: sample must be a number"),
        ({"rubric": "1 to 5", "sample": 5}, "judge: sample must be a number"),
        ({"rubric": "1 to 5", "min_score": 6}, "judge: min_score must be a number from 1 to 5, got 6"),
        ({"rubric": "1 to 5", "model": " "}, "judge: model must be the name of a model, not a template"),
        ({"rubric": "1 to 5", "request": {"text": {}}}, "judge: request.text is not allowed"),
        ({"rubric": "1 to 5", "request": {"tempo": 1}}, "judge: request.tempo is not a field of a request"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_allowed(arguments, error):
    with pytest.raises(RequestValidationError) as raised:
        Judge(**{"model": "m", **arguments})
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize(
    ("rubric", "scores", "wrong"),
    [
        ("1 to 5", [1, 3, 5], [0, 6, 2.5, "3"]),
        ("0.0 to 1.0", [0, 0.25, 1.0], [-0.1, 1.1]),
        ({1: "bad", 3: "good"}, [1, 3], [2]),
    ],
)
def test_only_scores_of_the_scale_are_accepted(rubric, scores, wrong):
    judge = Judge(model="m", rubric=rubric)
    for score in scores:
        text = json.dumps({"reason": "It is so.", "score": score})
        assert load_output(judge.output_type, text)["score"] == score
    for score in wrong:
        with pytest.raises(OutputValidationError, match="score"):
            load_output(judge.output_type, json.dumps({"reason": "It is so.", "score": score}))


def test_a_sample_is_the_share_of_all_rows_and_always_the_same_rows():
    judge = Judge(model="m", rubric="1 to 5", sample=0.05)
    prints = [number.to_bytes(16, "big") for number in range(10_000)]
    chosen = [it for it in prints if judge.samples(it)]
    assert 400 < len(chosen) < 600
    assert chosen == [it for it in prints if Judge(model="other", rubric="0-1", sample=0.05).samples(it)]
    assert all(Judge(model="m", rubric="1 to 5").samples(it) for it in prints[:100])


def test_a_larger_sample_contains_a_smaller_one():
    prints = [number.to_bytes(16, "big") for number in range(1000)]
    few, many = (Judge(model="m", rubric="1 to 5", sample=share) for share in (0.1, 0.3))
    assert all(many.samples(it) for it in prints if few.samples(it))


def test_the_judge_gets_the_request_the_response_and_the_rubric():
    judge = Judge(model="m", rubric={1: "wrong", 2: "right"}, request={"temperature": 0})
    fields = judge.fields({"model": "small", "input": "Mood of: great!", "instructions": "Be brief."}, {"mood": "glad"})
    assert fields["model"] == "m"
    assert fields["temperature"] == 0
    assert all(it in fields["input"] for it in ("Mood of: great!", "Be brief.", '{"mood": "glad"}'))
    assert all(it in fields["instructions"] for it in ("from 1 to 2", "1: wrong", "2: right"))


def test_the_judge_gets_the_characters_of_a_response_as_they_are():
    value = {"mood": "\u3068\u3066\u3082", "why": ["caf\u00e9 \U0001f600", "half \ud83d"]}
    judged = Judge(model="m", rubric="1 to 5").fields({"input": "Mood?"}, value)["input"]
    text = judged.partition("The response to judge:\n")[2]
    assert text == '{"mood": "\u3068\u3066\u3082", "why": ["caf\u00e9 \U0001f600", "half \\ud83d"]}'
    assert json.loads(text) == value
    assert judged.encode()


@pytest.mark.parametrize("given", [{}, {"input": "Be quick."}, {"input": [{"role": "user", "content": "Be quick."}]}])
def test_the_judge_gets_the_id_and_the_variables_of_a_stored_prompt(given):
    file = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    prompt = {"id": "pmpt_1", "variables": {"text": "gr\u00fcn", "picture": file}}
    fields = Judge(model="m", rubric="1 to 5").fields({**given, "prompt": prompt}, "glad")
    judged = json.dumps(fields["input"], ensure_ascii=False).replace('\\"', '"')
    assert '{"id": "pmpt_1", "variables": {"text": "gr\u00fcn", "picture": "(input_image)"}}' in judged
    assert ("Be quick." in judged) is bool(given)
    assert "prompt" not in fields
    assert "AAAA" not in judged


def test_the_judge_gets_the_items_of_an_input_with_files_as_they_are():
    image = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "https://x.test/a"}]}
    fields = Judge(model="m", rubric="1 to 5").fields({"input": [image]}, "a cat")
    assert fields["input"][0] is image
    assert "a cat" in fields["input"][1]["content"]


@pytest.mark.parametrize(("score", "accepted"), [(3, True), (2.9, False), (4, True)])
def test_a_score_below_the_lowest_accepted_one_is_not_accepted(score, accepted):
    assert Judge(model="m", rubric="1 to 5", min_score=3).accepts(score) is accepted
    assert Judge(model="m", rubric="1 to 5").accepts(score) is True
