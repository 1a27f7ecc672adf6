"""
Escalation: a request that a small model has no acceptable response to is sent to a larger one. No I/O and no Airflow.

The models of a task are numbered: tier 0 is the task's own model, tier 1 the first of ``escalate``, and so on.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final, Literal

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
)
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, unknown_field
from airflow_provider_responses.validation import check_type, either, show_exception, type_name, wrong_value

Condition = Literal["invalid", "refused", "incomplete", "low_score"]
Check = Callable[[Any], bool]

INVALID: Final = "invalid"  # the output does not match output_type
REFUSED: Final = "refused"
INCOMPLETE: Final = "incomplete"
LOW_SCORE: Final = "low_score"  # below the judge's min_score
CONDITIONS: Final[tuple[Condition, ...]] = ("invalid", "refused", "incomplete", "low_score")

# What all models get alike, and what is an argument of its own.
_FIXED: Final = frozenset({"input", "model", "models", "prompt", "stream"})


# What functions of the task's decide for its whole loop.
_OF_TOOLS: Final = ("tools", "tool_choice")
_PROBLEMS: Final[tuple[tuple[type[Exception], Condition], ...]] = (
    (OutputValidationError, INVALID),
    (RefusalError, REFUSED),
    (IncompleteResponseError, INCOMPLETE),
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Escalation:
    """
    A larger model, for requests whose response does not pass a check.

    :param model: the name of the larger model.
    :param when: the responses that are not accepted: ``invalid`` (the output does not match ``output_type``),
        ``refused``, ``incomplete`` (truncated), ``low_score`` (of an enrichment's ``judge``), or a function that takes
        the value, plain JSON types, of a response without these problems, and returns whether to ask the larger model.
        Several are a list. By default all four.
    :param request: fields of the request that the larger model gets in place of the task's, such as
        ``{"max_output_tokens": 4000}``.
    :raises RequestValidationError: naming the argument, what was expected and what was given.
    """

    model: str
    when: Condition | Check | Sequence[Condition | Check] = CONDITIONS
    request: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = check_type("escalate: model", self.model, str)
        if not model.strip() or "{{" in model or "{%" in model:
            raise wrong_value("escalate: model", "the name of a model, not a template", model)
        if not self.conditions:
            raise wrong_value("escalate: when", _EXPECTED, self.when)
        for condition in self.conditions:
            _check_condition(condition)
        check_type("escalate: request", self.request, Mapping, type_only=True)
        for name in self.request:
            if name in _FIXED:
                raise RequestValidationError(
                    f"escalate: request.{name} is not allowed: all models get the same {name}, or it is an argument",
                    fields=(f"escalate.request.{name}",),
                )
            if name not in REQUEST_FIELDS and name != "extra_body":
                wrong = unknown_field(str(name), REQUEST_FIELDS)
                raise RequestValidationError(f"escalate: request.{name} {wrong}. {NEWER}", fields=(str(name),))

    def __repr__(self) -> str:
        # A mapped task's is in its serialized DAG: with the address of a function, each parse would make a new version.
        when = ", ".join(name_of(it) if callable(it) else repr(it) for it in self.conditions)
        return f"Escalation(model={self.model!r}, when=[{when}], request={dict(self.request)!r})"

    @property
    def conditions(self) -> tuple[Condition | Check, ...]:
        """The conditions of ``when``."""
        when: Any = self.when
        if isinstance(when, str) or callable(when):
            return (when,)
        return tuple(when) if isinstance(when, Sequence) else ()

    @property
    def has_check(self) -> bool:
        """Whether a function of the user's decides."""
        return any(callable(it) for it in self.conditions)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the model and its request: of which of several ``Escalation`` a stored response is."""
        parts = json.dumps([self.model, dict(self.request)], sort_keys=True, default=str)
        return blake2b(parts.encode(), digest_size=8).hexdigest()

    def applies(self, problem: str | None, value: Any) -> bool:
        """
        Return whether a response is not accepted.

        :param problem: one of ``CONDITIONS``; None if the response has none of these problems.
        :param value: of the response, as plain JSON types.
        :raises ConfigurationError: if a function of the user's raises, or returns no bool.
        """
        if problem is not None:
            return problem in self.conditions
        return self.rejecting_function(value) is not None

    def rejecting_function(self, value: Any) -> str | None:
        """Return the name of the function that does not accept a value, None if all accept it; see :meth:`applies`."""
        return next((name_of(it) for it in self.conditions if callable(it) and _is_rejected_by(it, value)), None)

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the larger model's request from those of the task's."""
        return {name: value for name, value in fields.items() if name != "models"} | {
            **self.request,
            "model": self.model,
        }


_EXPECTED: Final = f"{either(map(repr, CONDITIONS))}, a function of the value, or a list of these"


def next_tier(escalations: Sequence[Escalation], tier: int, problem: str | None, value: Any) -> int | None:
    """
    Return the tier that a request is sent to after a response, None if the response is its last.

    :param tier: of the response.
    :param problem: see :meth:`Escalation.applies`.
    """
    return next(
        (number for number, it in enumerate(escalations, 1) if number > tier and it.applies(problem, value)), None
    )


def fields_of_tier(escalations: Sequence[Escalation], tier: int, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a request as a tier gets it, from those of the task's."""
    return escalations[tier - 1].fields(fields) if tier else fields


def problem_of(error: BaseException | None) -> Condition | None:
    """Return the problem of a response for :func:`next_tier`, from its error."""
    return next((problem for kind, problem in _PROBLEMS if isinstance(error, kind)), None)


def name_of(function: Any) -> str:
    """Return a function's name as it is written, without its address."""
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def check_escalations(value: Any) -> tuple[Escalation, ...]:
    """
    Return the argument ``escalate`` as a tuple.

    :raises RequestValidationError: if it is no list of ``Escalation``.
    """
    if value is None:
        return ()
    if isinstance(value, Escalation):
        return (value,)
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if not is_list or not all(isinstance(it, Escalation) for it in value):
        raise wrong_value("escalate", "a list of Escalation(model=...)", value)
    return tuple(value)


def check_request_escalations(value: Any, *, has_functions: bool = False) -> tuple[Escalation, ...]:
    """
    Return the argument ``escalate`` of a single request as a tuple.

    :param has_functions: whether the model may call functions of the task's.
    :raises RequestValidationError: if it is no list of ``Escalation``, or cannot apply to a single request.
    """
    found = check_escalations(value)
    for index, escalation in enumerate(found):
        if set(escalation.conditions) == {LOW_SCORE}:
            raise RequestValidationError(
                f"escalate[{index}]: when='low_score' never applies to a single request, since only an enrichment has "
                "a judge. Use a function that scores the value, or another condition",
                fields=("escalate",),
            )
        given = next((name for name in _OF_TOOLS if name in escalation.request), None)
        if has_functions and given:
            raise RequestValidationError(
                f"escalate[{index}]: request.{given} is not allowed beside functions in `tools`: all models of the "
                "loop have the same tools",
                fields=("escalate",),
            )
    return found


def _check_condition(condition: Any) -> None:
    if isinstance(condition, str) and condition in CONDITIONS:
        return
    if not callable(condition):
        raise wrong_value("escalate: when", _EXPECTED, condition)
    function = condition
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function) and function is not bool:
        raise wrong_value("escalate: when", "a function, not a class", condition)
    for called in (function, type(function).__call__):
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise wrong_value("escalate: when", "a function that is not async", condition)
        if inspect.isgeneratorfunction(called):
            raise wrong_value("escalate: when", "a function that returns True or False, without yield", condition)
    try:
        inspect.signature(condition).bind(None)
    except TypeError as error:
        expected = f"a function that one argument suffices for, the value ({error})"
        raise wrong_value("escalate: when", expected, condition) from None
    except ValueError:  # a function in C without a signature
        return


def _is_rejected_by(check: Check, value: Any) -> bool:
    name = name_of(check)
    try:
        found = check(copy.deepcopy(value))  # a function that changes it would change the task's output
    except (Exception, SystemExit) as error:  # in the triggerer, an exit would end all triggers
        raise ConfigurationError(
            f"escalate: the function {name} of `when` raised {show_exception(error)}. Correct it; a response that is "
            "cached or stored is not paid again"
        ) from error
    if type(found).__name__ in {"bool", "bool_"}:
        return bool(found)
    # Not the value, which may be the response's text.
    shown = type_name(found)
    raise ConfigurationError(f"escalate: the function {name} of `when` must return True or False, got {shown}")
