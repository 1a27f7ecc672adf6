"""
Encodes the larger models of a task as JSON text that another process, such as the triggerer, decodes.

A function in ``when`` is written as ``module:name``. One in a DAG file has no such name, since only the processes that
parse the file can import it: then a worker decides whether a larger model gets the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.escalation import CONDITIONS, Escalation, name_of
from airflow_provider_responses.task.payload_encoding import decode_fields, encode_fields
from airflow_provider_responses.task.type_encoding import decode_type, encode_type


class ImportedFunction:
    """
    A function that is imported by its path when it is first called.

    :param path: see ``task.type_encoding``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.__qualname__ = path.partition(":")[2]
        self._function: Any = None

    def load(self) -> None:
        """
        Import the function.

        :raises Exception: any that an imported module raises.
        """
        self._function = decode_type(self.path)

    def __call__(self, value: Any) -> Any:
        if self._function is None:
            self.load()
        return self._function(value)


def encode_escalations(escalations: Sequence[Escalation]) -> str:
    """
    Return escalations as JSON text, without the functions of :func:`find_unimportable`.

    :raises RequestValidationError: naming one whose request is not plain JSON.
    """
    encoded = [
        {"model": it.model, "request": _encode_request(it, number), "when": [*_encode_conditions(it.conditions)]}
        for number, it in enumerate(escalations)
    ]
    return json.dumps(encoded)


def decode_escalations(text: str) -> tuple[Escalation, ...]:
    """Undo :func:`encode_escalations`; functions are not imported yet."""
    return tuple(
        Escalation(
            model=it["model"],
            request=decode_fields(it["request"]),
            when=[_decode_condition(condition) for condition in it["when"]] or CONDITIONS,
        )
        for it in json.loads(text)
    )


def find_unimportable(escalations: Iterable[Escalation]) -> str | None:
    """Return the name of a function that another process cannot import, None if there is none."""
    checks = (check for it in escalations for check in it.conditions if callable(check))
    return next((name_of(check) for check in checks if _path_of(check) is None), None)


def load_functions(escalations: Iterable[Escalation]) -> None:
    """
    Import the functions of decoded escalations.

    :raises Exception: any that an imported module raises.
    """
    for escalation in escalations:
        for check in escalation.conditions:
            if isinstance(check, ImportedFunction):
                check.load()


def _encode_request(escalation: Escalation, number: int) -> str:
    try:
        return encode_fields(escalation.request)
    except RequestValidationError as error:
        raise error.about(f"escalate[{number}]") from None
    except (TypeError, ValueError) as error:
        path = f"escalate[{number}].request"
        raise RequestValidationError(f"{path} has no JSON form ({error})", fields=(path,)) from error


def _path_of(check: Any) -> str | None:
    return check.path if isinstance(check, ImportedFunction) else encode_type(check)


def _encode_conditions(conditions: Iterable[Any]) -> Iterable[Any]:
    for condition in conditions:
        if not callable(condition):
            yield condition
        elif (path := _path_of(condition)) is not None:
            yield {"function": path}


def _decode_condition(condition: Any) -> Any:
    return ImportedFunction(condition["function"]) if isinstance(condition, Mapping) else condition
