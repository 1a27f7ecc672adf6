"""
Checks of the values that users set, and the one form of their errors: ``name must be …, got …``.

Each check returns the value. ``error`` is the class to raise: a wrong argument is a ``RequestValidationError``, a wrong
setting a ``ConfigurationError``. ``lazy`` returns whether a value is known only when the task runs (a template, an
upstream task's output); such a value is returned unchecked.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from airflow_provider_responses.exceptions import RequestValidationError

MAX_SHOWN: Final = 200  # characters of a value in a message
NEAR: Final = 0.84  # of difflib: "temprature" is near "temperature", "max_tokens" is not near "max_output_tokens"
_NAMES: Final = {"Mapping": "dict", "Sequence": "list", "PathLike": "path", "NoneType": "None"}


def never(_: Any) -> bool:
    """Return False: no value is lazy, as after rendering."""
    return False


def wrong_value(
    name: str,
    expected: str,
    value: Any,
    *,
    type_only: bool = False,
    fields: tuple[str, ...] | None = None,
    error: type[ValueError] = RequestValidationError,
) -> ValueError:
    """
    Return the error of a value that is not as expected.

    :param expected: continues "must be".
    :param type_only: show the value's type and not the value, which may be content or a secret.
    :param fields: the wrong fields, if they are others than ``name``.
    """
    message = f"{name} must be {expected}, got {type_name(value) if type_only else show(value)}"
    return _make_error(error, message, fields or (name,))


def check_number(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    whole: bool = False,
    unit: str = "",
    convert: bool = False,
    optional: bool = False,
    lazy: Callable[[Any], bool] = never,
    error: type[ValueError] = RequestValidationError,
) -> Any:
    """
    Return a number that is finite and within its bounds.

    :param above: a bound that the number must exceed.
    :param unit: such as ``seconds``.
    :param convert: accept text that holds a number, as templates and forms give it, and return the number as an
        ``int`` (if ``whole``) or a ``float``.
    :param optional: accept None.
    """
    if (optional and value is None) or lazy(value):
        return value
    number = _to_number(value, whole=whole) if convert else value
    if (
        not isinstance(number, int if whole else (int, float))
        or isinstance(number, bool)
        or not -math.inf < number < math.inf
        or (at_least is not None and number < at_least)
        or (above is not None and number <= above)
        or (at_most is not None and number > at_most)
    ):
        kind = f"{'a whole number' if whole else 'a number'}{f' of {unit}' if unit else ''}"
        raise wrong_value(name, f"{kind}{_bounds(at_least, above, at_most)}", value, error=error)
    return number


def check_choice(
    name: str,
    value: Any,
    allowed: Iterable[Any],
    *,
    optional: bool = False,
    lazy: Callable[[Any], bool] = never,
    error: type[ValueError] = RequestValidationError,
) -> Any:
    """
    Return a value that is one of those allowed. ``1`` is not ``True``.

    :param optional: accept None.
    """
    choices = tuple(allowed)
    if (optional and value is None) or lazy(value):
        return value
    if any(value is choice or (isinstance(choice, str) and value == choice) for choice in choices):
        return value
    raise wrong_value(name, either(map(repr, choices)), value, error=error)


def check_type(
    name: str,
    value: Any,
    kinds: type | tuple[type, ...],
    *,
    expected: str = "",
    type_only: bool = False,
    optional: bool = False,
    lazy: Callable[[Any], bool] = never,
    error: type[ValueError] = RequestValidationError,
) -> Any:
    """
    Return a value of one of these types. Bytes are no sequence, and a bool is no int.

    :param expected: continues "must be"; by default the names of the types.
    :param optional: accept None.
    """
    if (optional and value is None) or lazy(value):
        return value
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    strict = type(value) in {bytes, bytearray, bool} and type(value) not in kinds
    if isinstance(value, kinds) and not strict:
        return value
    expected = expected or either(_NAMES.get(kind.__name__, kind.__name__) for kind in kinds)
    raise wrong_value(name, expected, value, type_only=type_only, error=error)


def check_list_of_names(
    name: str,
    value: Any,
    *,
    optional: bool = False,
    lazy: Callable[[Any], bool] = never,
    error: type[ValueError] = RequestValidationError,
) -> Any:
    """Return a list, or another iterable, of texts."""
    if (optional and value is None) or lazy(value):
        return value
    if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(item, str) for item in value):
        raise wrong_value(name, "a list of names", value, error=error)
    return value


def check_known(
    owner: str,
    given: Iterable[Any],
    known: Collection[str],
    *,
    error: type[ValueError] = RequestValidationError,
) -> None:
    """Refuse names that are not among the known ones: ``owner`` is what they are fields of."""
    if unknown := sorted(str(name) for name in given if name not in known):
        close = closest(unknown[0], known)
        hint = f"; did you mean {close!r}?" if close else ";"
        message = f"{owner}.{unknown[0]} is unknown{hint} {owner} may have {', '.join(known)}"
        raise _make_error(error, message, (f"{owner}.{unknown[0]}",))


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that a misspelt one is near to."""
    import difflib  # here, since DAG files import this module, and few have a misspelt name

    names = list(known)
    swapped = [candidate for candidate in names if sorted(candidate) == sorted(name)]
    return next(iter(swapped or difflib.get_close_matches(name, names, n=1, cutoff=NEAR)), None)


def either(choices: Iterable[str]) -> str:
    """Return choices as English: ``a, b or c``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def type_name(value: Any) -> str:
    """Return the name of a value's type, None for None."""
    return "None" if value is None else type(value).__name__


def _make_error(error: type[ValueError], message: str, fields: tuple[str, ...]) -> ValueError:
    return error(message, fields=fields) if issubclass(error, RequestValidationError) else error(message)


def show(value: Any, *, most: int = MAX_SHOWN) -> str:
    """Return a value for a message, cut to ``most`` characters."""
    return cut(repr(value), most=most)


def show_exception(error: BaseException, *, most: int = MAX_SHOWN) -> str:
    """Return class and message of an exception that code of the user's has raised, cut to ``most`` characters."""
    return cut(exception_text(error), most=most)


def exception_text(error: BaseException) -> str:
    """Return class and message of an exception that code of the user's has raised."""
    # By the traceback's own function, since str() of a user's class may raise.
    return "".join(traceback.format_exception_only(error)).removeprefix(f"{type(error).__module__}.")


def cut(text: str, *, most: int = MAX_SHOWN) -> str:
    """Return a text in one line, cut to ``most`` characters."""
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"


def _to_number(value: Any, *, whole: bool) -> Any:
    """Return the number that a value is or holds; None if there is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if not whole:
        return number
    if isinstance(value, int):
        return value  # a float has not all its digits
    return int(number) if number.is_integer() else None


def _bounds(at_least: float | None, above: float | None, at_most: float | None) -> str:
    if at_least is not None and at_most is not None:
        return f" from {at_least} to {at_most}"
    given = {">=": at_least, ">": above, "<=": at_most}
    bounds = [f"{sign} {bound}" for sign, bound in given.items() if bound is not None]
    return f" {' and '.join(bounds)}" if bounds else ""
