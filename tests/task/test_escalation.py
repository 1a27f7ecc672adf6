"""Escalation: which response is sent to which larger model, and which arguments are refused."""

import asyncio
import copy
import enum
import functools
import sys
import threading

import pytest

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.task.escalation import (
    CONDITIONS,
    Escalation,
    check_escalations,
    fields_of_tier,
    next_tier,
)


def is_unsure(value):
    return value["confidence"] < 0.5


class Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def check(self, value):
        return False


class Checker:
    def __call__(self, value):
        return False


class AsyncChecker:
    async def __call__(self, value):
        return True


def yields(value):
    yield True


async def yields_later(value):
    yield True


MEDIUM = Escalation(model="medium", when="invalid")
LARGE = Escalation(model="large", when=["refused", "invalid", is_unsure])


@pytest.mark.parametrize(
    ("tier", "problem", "value", "expected"),
    [
        (0, "invalid", None, 1),
        (1, "invalid", None, 2),
        (2, "invalid", None, None),
        (0, "refused", None, 2),
        (0, "incomplete", None, None),
        (0, "low_score", {"confidence": 0.1}, None),
        (0, None, {"confidence": 0.1}, 2),
        (0, None, {"confidence": 0.9}, None),
        (2, None, {"confidence": 0.1}, None),
    ],
)
def test_a_response_goes_to_the_first_larger_model_whose_condition_it_meets(tier, problem, value, expected):
    assert next_tier([MEDIUM, LARGE], tier, problem, value) == expected


def test_every_problem_escalates_by_default_and_an_accepted_response_does_not():
    by_default = Escalation(model="large")
    assert [by_default.applies(problem, None) for problem in CONDITIONS] == [True] * 4
    assert by_default.applies(None, "a text") is False


class bool_:  # noqa: N801  as numpy's before its version 2
    def __bool__(self):
        return True


def test_a_function_may_return_the_bool_of_numpy():
    assert Escalation(model="large", when=lambda _: bool_()).applies(None, 0.5) is True


def test_a_larger_model_gets_the_same_request_with_its_own_model_and_fields():
    fields = {"model": "small", "models": ["a", "b"], "input": "Hi", "max_output_tokens": 10}
    large = Escalation(model="large", request={"max_output_tokens": 400, "reasoning": {"effort": "high"}})
    assert fields_of_tier([large], 0, fields) is fields
    assert fields_of_tier([large], 1, fields) == {
        "model": "large",
        "input": "Hi",
        "max_output_tokens": 400,
        "reasoning": {"effort": "high"},
    }


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": ""}, "escalate: model must be the name of a model, not a template, got ''"),
        ({"model": "{{ var.value.m }}"}, "escalate: model must be the name of a model, not a template"),
        ({"model": 5}, "escalate: model must be str, got 5"),
        ({"model": "m", "when": "wrong"}, "escalate: when must be 'invalid', 'refused', 'incomplete' or 'low_score'"),
        ({"model": "m", "when": []}, "escalate: when must be 'invalid'"),
        ({"model": "m", "when": {"invalid": 1}}, "escalate: when must be 'invalid'"),
        ({"model": "m", "when": ["invalid", 3]}, "escalate: when must be 'invalid'"),
        ({"model": "m", "when": lambda: True}, "escalate: when must be a function that one argument suffices for"),
        ({"model": "m", "when": asyncio.sleep}, "escalate: when must be a function that is not async"),
        ({"model": "m", "when": AsyncChecker()}, "escalate: when must be a function that is not async"),
        (
            {"model": "m", "when": functools.partial(yields_later)},
            "escalate: when must be a function that is not async",
        ),
        ({"model": "m", "when": yields}, "escalate: when must be a function that returns True or False, without yield"),
        ({"model": "m", "when": Checker}, "escalate: when must be a function, not a class"),
        ({"model": "m", "when": functools.partial(Checker)}, "escalate: when must be a function, not a class"),
        ({"model": "m", "request": {"input": "x"}}, "escalate: request.input is not allowed"),
        ({"model": "m", "request": {"extra_body": {"input": "x"}}}, "escalate: request.input is not allowed"),
        ({"model": "m", "request": {"extra_body": {"model": "x"}}}, "escalate: request.model is not allowed"),
        (
            {"model": "m", "request": {"models": ["x"]}},
            "escalate: request.models is not allowed: the larger model has no",
        ),
        ({"model": "m", "request": {"temprature": 0}}, "escalate: request.temprature is not a field of a request"),
        ({"model": "m", "request": "x"}, "escalate: request must be dict, got str"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_allowed(arguments, error):
    with pytest.raises(RequestValidationError) as raised:
        Escalation(**arguments)
    assert str(raised.value).startswith(error)


@pytest.mark.parametrize("value", ["large", {"model": "large"}, ["large"], [MEDIUM, "large"], 3])
def test_escalate_must_be_a_list_of_escalations(value):
    with pytest.raises(RequestValidationError, match=r"^escalate must be a list of Escalation\(model=\.\.\.\), got "):
        check_escalations(value)


def test_one_escalation_needs_no_list():
    assert check_escalations(None) == ()
    assert check_escalations(LARGE) == (LARGE,)
    assert check_escalations([MEDIUM, LARGE]) == (MEDIUM, LARGE)


def test_a_function_that_raises_is_named_with_its_error():
    with pytest.raises(ConfigurationError, match=r"the function is_unsure of `when` raised KeyError: 'confidence'"):
        LARGE.applies(None, {"mood": "glad"})


def test_a_function_that_ends_the_process_ends_only_its_task():
    with pytest.raises(ConfigurationError, match="of `when` raised SystemExit"):
        Escalation(model="m", when=lambda _: sys.exit("bye")).applies(None, "text")


@pytest.mark.parametrize(("when", "expected"), [(bool, True), ("Checker()", False)])
def test_a_callable_object_and_bool_are_functions(when, expected):
    given = Checker() if when == "Checker()" else when
    assert Escalation(model="m", when=given).applies(None, "text") is expected


@pytest.mark.parametrize(("returned", "shown"), [(None, "None"), (1, "int"), ("text of a response", "str")])
def test_a_function_must_return_a_bool_and_another_value_is_not_shown(returned, shown):
    with pytest.raises(ConfigurationError, match=f"must return True or False, got {shown}$"):
        Escalation(model="m", when=lambda _: returned).applies(None, "text")


class Model(str, enum.Enum):  # noqa: UP042  a StrEnum prints as its value
    LARGE = "large"


def test_models_are_compared_and_sent_by_their_names():
    given = Escalation(model=Model.LARGE, request={"service_tier": Model.LARGE})
    assert given == Escalation(model=" large ", request={"service_tier": "large"})
    assert type(given.model) is type(given.request["service_tier"]) is str


@pytest.mark.parametrize(
    ("escalate", "known", "index"),
    [
        ([Escalation(model="small")], {"model": "small"}, 0),
        ([Escalation(model="small", request={"top_p": 0.5})], {"model": "small", "request": {"top_p": 0.5}}, 0),
        ([Escalation(model="large"), Escalation(model="large", when="refused")], {}, 1),
    ],
)
def test_a_model_that_would_get_the_same_request_again_is_refused(escalate, known, index):
    with pytest.raises(RequestValidationError, match=rf"^escalate\[{index}\] must have another model or other fields"):
        check_escalations(escalate, **known)


def test_the_same_model_may_get_other_fields():
    given = [Escalation(model="small", request={"max_output_tokens": 900})]
    assert check_escalations(given, model="small", request={"max_output_tokens": 90}) == tuple(given)


def test_text_and_include_of_the_task_and_of_the_larger_model_are_merged():
    fields = {"text": {"format": {"type": "json_object"}, "verbosity": "low"}, "include": ["a"]}
    large = Escalation(model="large", request={"text": {"verbosity": "high"}, "include": ["b", "a"]})
    assert large.fields(fields) == {
        "model": "large",
        "text": {"format": {"type": "json_object"}, "verbosity": "high"},
        "include": ["a", "b"],
    }


def test_models_in_extra_body_of_the_task_are_those_of_its_own_model():
    fields = {"extra_body": {"model": "a", "models": ["b"], "new_field": 1}}
    assert Escalation(model="large").fields(fields) == {"model": "large", "extra_body": {"new_field": 1}}


def test_a_copy_of_an_escalation_is_the_same_object():
    assert copy.deepcopy(given := Escalation(model="m", when=Locked().check)) is given
