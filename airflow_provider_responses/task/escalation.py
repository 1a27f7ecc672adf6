"""
Escalation: a request that a small model has no acceptable response to is sent to a larger one. No I/O and no Airflow.

The models of a task are numbered: tier 0 is the task's own model, tier 1 the first of ``escalate``, and so on.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError
from airflow_provider_responses.models.fields import NEWER, REQUEST_FIELDS, unknown_field
from airflow_provider_responses.validation import check_type, either, show, show_exception, wrong_value

Condition = Literal["invalid", "refused", "incomplete", "low_score"]
Check = Callable[[Any], bool]

INVALID: Final = "invalid"  # the output does not match output_type
REFUSED: Final = "refused"
INCOMPLETE: Final = "incomplete"
LOW_SCORE: Final = "low_score"  # below the judge's min_score
CONDITIONS: Final[tuple[Condition, ...]] = ("invalid", "refused", "incomplete", "low_score")

# What all models get alike, and what is an argument of its own.
_FIXED: Final = frozenset({"input", "model", "models", "prompt", "stream"})


@dataclass(frozen=True, kw_only=True)
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

    def applies(self, problem: str | None, value: Any) -> bool:
        """
        Return whether a response is not accepted.

        :param problem: one of ``CONDITIONS``; None if the response has none of these problems.
        :param value: of the response, as plain JSON types.
        :raises ConfigurationError: if a function of the user's raises, or returns no bool.
        """
        if problem is not None:
            return problem in self.conditions
        return any(_is_rejected_by(it, value) for it in self.conditions if callable(it))

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


def _check_condition(condition: Any) -> None:
    if isinstance(condition, str) and condition in CONDITIONS:
        return
    if not callable(condition):
        raise wrong_value("escalate: when", _EXPECTED, condition)
    if inspect.iscoroutinefunction(condition):
        raise wrong_value("escalate: when", "a function that is not async", condition)
    try:
        inspect.signature(condition).bind(None)
    except TypeError as error:
        expected = f"a function that one argument suffices for, the value ({error})"
        raise wrong_value("escalate: when", expected, condition) from None
    except ValueError:  # a function in C without a signature
        return


def _is_rejected_by(check: Check, value: Any) -> bool:
    name = getattr(check, "__qualname__", repr(check))
    try:
        found = check(value)
    except Exception as error:
        raise ConfigurationError(
            f"escalate: the function {name} of `when` raised {show_exception(error)}. Correct it; a response was paid "
            "for, which the next attempt uses if it is cached or stored"
        ) from error
    if type(found).__name__ in {"bool", "bool_"}:
        return bool(found)
    raise ConfigurationError(f"escalate: the function {name} of `when` must return True or False, got {show(found)}")
