"""Why a response does not match an ``output_type``: for the user, and for the model in the next request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, get_args

from pydantic_core.core_schema import ErrorType

from airflow_provider_responses.validation import cut, show

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_QUOTED: Final = 100  # characters of a value
MAX_PROBLEMS: Final = 10  # in the text for a model
MAX_PATH: Final = 100  # characters
MAX_LINE: Final = 300  # characters
MAX_FEEDBACK: Final = 2000  # characters
_FIRST: Final = "Your last response was rejected, because it does not match the required JSON schema:"
_LAST: Final = "Respond again, completely, with all of this corrected. Respond with the JSON alone."
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s@]+@")
_PYDANTICS_OWN: Final = frozenset(get_args(ErrorType))


class Problem(NamedTuple):
    """
    One reason why a response does not match.

    :param path: of the field.
    :param message: the expected value; it does not quote the response.
    :param given: the value in the response, cut; None if there is none.
    :param is_shown: whether the user sees the value, since a validator of the user's has refused it.
    """

    path: str
    message: str
    given: str | None = None
    is_shown: bool = False

    def for_user(self) -> str:
        """Return the reason as it is logged, without text of the response."""
        return self.for_model() if self.is_shown else self.message

    def for_model(self) -> str:
        """Return the reason with the value that the model gave."""
        return self.message if self.given is None else f"{self.message}, got {self.given}"


def problem_of(error: ErrorDetails) -> Problem:
    """Return the problem of one of pydantic's errors; only that of a user's validator shows text of the response."""
    path = ".".join(map(str, error["loc"])) or "the text"
    kind, given = error["type"], show(error["input"], most=MAX_QUOTED)
    if kind == "union_tag_invalid":
        return Problem(path, f"must be of a known kind: {error['ctx']['expected_tags']}", given)
    if kind in {"value_error", "assertion_error"}:
        raised = error["ctx"]["error"]
        return Problem(path, cut(str(raised) or type(raised).__name__), given, is_shown=True)
    if kind not in _PYDANTICS_OWN:
        return Problem(path, cut(error["msg"]), given, is_shown=True)
    return Problem(path, error["msg"], None if kind == "missing" else given)


def describe_problems(problems: list[Problem]) -> str:
    """
    Return the text that tells a model why its response is rejected, at most ``MAX_FEEDBACK`` characters.

    It holds values of the response and messages of the user's validators. Credentials in URLs are redacted.
    """
    shown: list[str] = []
    for problem in problems[:MAX_PROBLEMS]:
        line = f"- {cut(problem.path, most=MAX_PATH)}: {cut(problem.for_model(), most=MAX_LINE)}"
        if len(_FIRST) + len(_LAST) + sum(map(len, shown)) + len(line) > MAX_FEEDBACK - 100:
            break
        shown.append(line)
    if more := len(problems) - len(shown):
        shown.append(f"- and {more} more")
    return _CREDENTIALS.sub("***@", "\n".join([_FIRST, *shown, _LAST]))
