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
from types import MappingProxyType
from typing import Any, Final, Literal

from airflow_provider_responses.exceptions import (
    ConfigurationError,
    IncompleteResponseError,
    OutputValidationError,
    RefusalError,
    RequestValidationError,
)
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, unknown_field
from airflow_provider_responses.task.texts import unwrap_enum, unwrap_enums
from airflow_provider_responses.validation import check_type, either, show_exception, type_name, wrong_value

Condition = Literal["invalid", "refused", "incomplete", "low_score"]
Check = Callable[[Any], bool]

INVALID: Final = "invalid"  # the output does not match output_type
REFUSED: Final = "refused"
INCOMPLETE: Final = "incomplete"
LOW_SCORE: Final = "low_score"  # below the judge's min_score
CONDITIONS: Final[tuple[Condition, ...]] = ("invalid", "refused", "incomplete", "low_score")

_ALIKE: Final = "all models get that of the task. Remove it"
# Fields that are no field of `request`, and why.
_FIXED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "input": _ALIKE,
        "prompt": _ALIKE,
        "stream": _ALIKE,
        "model": "the larger model is the argument `model`. Remove it",
        "models": "the larger model has no stand-ins, and `models` of the task are those of its own model. Remove it",
    }
)

# What functions of the task's decide for its whole loop.
_OF_TOOLS: Final = ("tools", "tool_choice")
_OF_MODEL: Final = ("model", "models")
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
        model = unwrap_enum(check_type("escalate: model", self.model, str)).strip()
        if not model or "{{" in model or "{%" in model:
            raise wrong_value("escalate: model", "the name of a model, not a template", model)
        object.__setattr__(self, "model", model)
        if not self.conditions:
            raise wrong_value("escalate: when", _EXPECTED, self.when)
        for condition in self.conditions:
            _check_condition(condition)
        check_type("escalate: request", self.request, Mapping, type_only=True)
        object.__setattr__(self, "request", unwrap_enums(self.request))
        extra = self.request.get("extra_body")
        for name in (*self.request, *(extra if isinstance(extra, Mapping) else ())):
            if name in _FIXED:
                raise RequestValidationError(
                    f"escalate: request.{name} is not allowed: {_FIXED[name]}", fields=(f"escalate.request.{name}",)
                )
        for name in self.request:
            if name not in REQUEST_FIELDS and name != "extra_body":
                wrong = unknown_field(str(name), REQUEST_FIELDS)
                raise RequestValidationError(f"escalate: request.{name} {wrong}. {NEWER}", fields=(str(name),))

    def __deepcopy__(self, memo: dict[int, Any]) -> Escalation:
        # Airflow copies tasks, and the object of a bound method in `when` may hold a lock, which cannot be copied.
        return self

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
        return self.rejecting_condition(problem, value) is not None

    def rejecting_condition(self, problem: str | None, value: Any) -> str | None:
        """Return the condition, or the function's name, that does not accept a response; see :meth:`applies`."""
        if problem is not None:
            return problem if problem in self.conditions else None
        return next((name_of(it) for it in self.conditions if callable(it) and _is_rejected_by(it, value)), None)

    def fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the larger model's request from those of the task's."""
        found = {name: value for name, value in fields.items() if name != "models"}
        if isinstance(extra := found.get("extra_body"), Mapping):  # its fields are sent in place of others
            found["extra_body"] = {name: value for name, value in extra.items() if name not in _OF_MODEL}
        found |= {**self.request, "model": self.model}
        text, include = fields.get("text"), fields.get("include")
        if isinstance(text, Mapping) and isinstance(self.request.get("text"), Mapping):
            found["text"] = {**text, **self.request["text"]}
        if isinstance(include, list) and isinstance(self.request.get("include"), list):
            found["include"] = [*include, *(it for it in self.request["include"] if it not in include)]
        return found


_EXPECTED: Final = f"{either(map(repr, CONDITIONS))}, a function of the value, or a list of these"


def next_tier(escalations: Sequence[Escalation], tier: int, problem: str | None, value: Any) -> int | None:
    """
    Return the tier that a request is sent to after a response, None if the response is its last.

    :param tier: of the response.
    :param problem: see :meth:`Escalation.applies`.
    """
    rejection = find_rejection(escalations, tier, problem, value)
    return None if rejection is None else rejection[0]


def find_rejection(
    escalations: Sequence[Escalation], tier: int, problem: str | None, value: Any
) -> tuple[int, str] | None:
    """Return :func:`next_tier`, and the condition, or the function's name, that does not accept the response."""
    for number, escalation in enumerate(escalations, 1):
        if number > tier and (condition := escalation.rejecting_condition(problem, value)) is not None:
            return number, condition
    return None


def fields_of_tier(escalations: Sequence[Escalation], tier: int, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a request as a tier gets it, from those of the task's."""
    return escalations[tier - 1].fields(fields) if tier else fields


def problem_of(error: BaseException | None) -> Condition | None:
    """Return the problem of a response for :func:`next_tier`, from its error."""
    return next((problem for kind, problem in _PROBLEMS if isinstance(error, kind)), None)


def name_of(function: Any) -> str:
    """Return a function's name as it is written, without its address."""
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__)


def check_escalations(value: Any, *, model: Any = None, request: Any = None) -> tuple[Escalation, ...]:
    """
    Return the argument ``escalate`` as a tuple.

    :param model: of the task, as far as it is known.
    :param request: fields of the task's request, as far as they are known.
    :raises RequestValidationError: if it is no list of ``Escalation``, or if a model would get the same request again.
    """
    if value is None:
        return ()
    found = (value,) if isinstance(value, Escalation) else value
    is_list = isinstance(found, Sequence) and not isinstance(found, str)
    if not is_list or not all(isinstance(it, Escalation) for it in found):
        raise wrong_value("escalate", "a list of Escalation(model=...)", value)
    fields = request if isinstance(request, Mapping) else {}
    check_tiers_differ(found, fields if model is None else {**fields, "model": unwrap_enum(model)})
    return tuple(found)


def check_tiers_differ(escalations: Sequence[Escalation], fields: Mapping[str, Any]) -> None:
    """
    Refuse a tier with the same request as the tier before it, which would get the same response from the cache.

    :param fields: of the task's request; those that are unknown are left out.
    :raises RequestValidationError: naming the escalation.
    """
    before = fields
    for index, escalation in enumerate(escalations):
        found = escalation.fields(fields)
        if found == before:
            raise RequestValidationError(
                f"escalate[{index}] must have another model or other fields than the model before it, got "
                f"{escalation.model!r} for both: the same request has the same response",
                fields=("escalate",),
            )
        before = found


def check_request_escalations(
    value: Any, *, has_functions: bool = False, model: Any = None, request: Any = None
) -> tuple[Escalation, ...]:
    """
    Return the argument ``escalate`` of a single request as a tuple; see :func:`check_escalations`.

    :param has_functions: whether the model may call functions of the task's.
    :raises RequestValidationError: if it is no list of ``Escalation``, or cannot apply to a single request.
    """
    found = check_escalations(value, model=model, request=request)
    for index, escalation in enumerate(found):
        if set(escalation.conditions) == {LOW_SCORE}:
            raise RequestValidationError(
                f"escalate[{index}]: when='low_score' never applies to a single request, since only an enrichment has "
                "a judge. Use a function that scores the value, or another condition",
                fields=("escalate",),
            )
        extra = escalation.request.get("extra_body")
        names = {*escalation.request, *(extra if isinstance(extra, Mapping) else ())}
        given = next((name for name in _OF_TOOLS if name in names), None)
        if has_functions and given:
            raise RequestValidationError(
                f"escalate[{index}]: request.{given} is not allowed beside functions in `tools`: all models of the "
                "loop have the same tools",
                fields=("escalate",),
            )
    return found


def check_output_type_is_set(escalations: Sequence[Escalation], output_type: Any, *, has_judge: bool) -> None:
    """
    Refuse an escalation that is for invalid outputs alone, if no output can be invalid.

    :param output_type: the task's.
    :param has_judge: whether a response may have a low score.
    :raises RequestValidationError: naming the escalation.
    """
    possible = {*CONDITIONS} if has_judge else {*CONDITIONS} - {LOW_SCORE}
    for index, escalation in enumerate(escalations if output_type is None else ()):
        if {it for it in escalation.conditions if callable(it) or it in possible} == {INVALID}:
            raise RequestValidationError(
                f"escalate[{index}]: when='invalid' never applies, since the task has no output_type: set one, or use "
                "another condition",
                fields=("escalate", "output_type"),
            )


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
