"""A Python function as a tool: its JSON schema, the arguments that a model sends, and the text of its result."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.texts import storable
from airflow_provider_responses.tools.docstrings import read_docstring
from airflow_provider_responses.validation import check_choice, cut, exception_text, type_name

if TYPE_CHECKING:
    from pydantic import BaseModel

NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # that all servers accept
MAX_RESULT: Final = 1_000_000  # characters of a result; a longer one is an error, which the model gets
MAX_ERROR: Final = 500  # characters of an error
INTERRUPTED: Final = ("fail", "repeat")
KEY_PARAMETER: Final = "idempotency_key"


@dataclass(frozen=True)
class _Key:
    """Marks the type of a parameter that gets the idempotency key of a call."""


#: The type of a parameter that gets the idempotency key of a call. The model does not see the parameter.
IdempotencyKey = Annotated[str, _Key()]


class ArgumentsError(Exception):
    """The arguments that a model sent do not match the function; the message is for the model."""


class Tool:
    """
    A Python function that a model may call.

    A function in ``tools`` is a tool with the defaults of this class.

    :param function: a function, sync or async, whose parameters have annotations. A parameter with the annotation
        ``IdempotencyKey``, or the name ``idempotency_key``, gets 32 hex digits that are the same when the call is
        repeated.
    :param name: by default the function's.
    :param description: for the model; by default that of the docstring.
    :param on_interrupted: ``fail`` or ``repeat``; by default the operator's ``on_interrupted_tool``.
    :raises RequestValidationError: naming the tool and the parameter.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        on_interrupted: Literal["fail", "repeat"] | None = None,
    ) -> None:
        self.function = function
        self.name = _name_of(function) if name is None else name
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise _wrong(f"tool {self.name!r} needs a name of 1 to 64 letters, digits, _ and -: use Tool(…, name=…)")
        self.on_interrupted = check_choice(
            f"on_interrupted of tool {self.name}", on_interrupted, INTERRUPTED, optional=True
        )
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  its kind, and not whether there is one
        )
        self._parameters = _parameters_of(function, self.name)
        hints = _hints_of(function, self.name)
        self._annotations = {name: hints.get(name, it.annotation) for name, it in self._parameters.items()}
        self._key_parameters = [name for name in self._parameters if self._gets_key(name)]
        self._fields = [name for name in self._parameters if name not in self._key_parameters]
        text, self._descriptions = read_docstring(inspect.getdoc(function), self._fields)
        self.description = text if description is None else description
        _ = self.definition  # a parameter without a JSON schema is an error of the DAG file

    @functools.cached_property
    def definition(self) -> dict[str, Any]:
        """The tool as it is sent: ``strict``, unless its schema cannot be."""
        schema, strict = self._schema()
        described = {"description": self.description} if self.description else {}
        return {"type": "function", "name": self.name, **described, "parameters": schema, "strict": strict}

    def read_arguments(self, text: str) -> dict[str, Any]:
        """
        Return the arguments that a model has sent.

        :raises ArgumentsError: naming each wrong one, without its value.
        """
        from pydantic import ValidationError

        try:
            read = self._model.model_validate_json(text.strip() or "{}")
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, it['loc'])) or 'the arguments'}: {it['msg']}"
                for it in error.errors(include_url=False, include_input=False)
            ]
            raise ArgumentsError("; ".join(problems)) from None
        return {name: getattr(read, f"p{position}") for position, name in enumerate(self._fields)}

    def call(self, arguments: Mapping[str, Any], idempotency_key: str) -> Any:
        """Call the function; an async one returns a coroutine."""
        given = {**arguments, **dict.fromkeys(self._key_parameters, idempotency_key)}
        by_position = [
            given.pop(name) for name, it in self._parameters.items() if it.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        return self.function(*by_position, **given)

    def _gets_key(self, name: str) -> bool:
        annotation = self._annotations[name]
        marked = any(isinstance(it, _Key) for it in getattr(annotation, "__metadata__", ()))
        if name == KEY_PARAMETER and not marked and annotation not in (str, "str"):
            raise _wrong(f"tool {self.name}: the parameter {name} must be a str, since it gets the call's key")
        return marked or name == KEY_PARAMETER

    @functools.cached_property
    def _model(self) -> type[BaseModel]:
        """The parameters as a pydantic model. Its fields have names of our own: "copy" or "_x" could not be one."""
        from pydantic import ConfigDict, Field, PydanticUserError, create_model

        fields: dict[str, Any] = {}
        for position, name in enumerate(self._fields):
            default = self._parameters[name].default
            fields[f"p{position}"] = (
                self._annotations[name],
                Field(
                    ... if default is inspect.Parameter.empty else default,
                    alias=name,
                    title=name,
                    description=self._descriptions.get(name),
                ),
            )
        try:
            config = ConfigDict(extra="forbid", protected_namespaces=())
            made: type[BaseModel] = create_model(self.name, __config__=config, **fields)
        except (PydanticUserError, TypeError, NameError) as error:
            raise self._without_schema(error) from error
        return made

    def _schema(self) -> tuple[dict[str, Any], bool]:
        from airflow_provider_responses.models.output import json_schema_format

        try:
            found = json_schema_format(self._model)
        except RequestValidationError as error:
            raise self._without_schema(error) from error
        return _without_title(found["schema"]), bool(found["strict"])

    def _without_schema(self, error: Exception) -> RequestValidationError:
        cause = str(error).splitlines()[0]
        return _wrong(f"tool {self.name}: a parameter has a type without a JSON schema ({cause})")


def result_text(value: Any) -> str:
    """
    Return the result of a tool as the text that the model gets: a text as it is, all else as JSON.

    Characters that Airflow's database cannot store become U+FFFD: NUL, and halves of surrogate pairs.

    :raises ValueError: if it is too long.
    """
    text = str.__str__(value) if isinstance(value, str) else _json_of(value)  # of a subclass, the text alone
    if len(text) > MAX_RESULT:
        raise ValueError(f"the result has {len(text)} characters, and {MAX_RESULT} are allowed: ask for less")
    stored: str = storable(text)
    return stored


def error_text(error: BaseException, redact: Callable[[str], str] = str) -> str:
    """
    Return the error of a tool as the text that the model gets.

    :param redact: removes secrets from a text.
    """
    # Redacted before it is cut: a part of a secret would not be found.
    text: str = storable(cut(redact(exception_text(error)), most=MAX_ERROR))
    return f"Error: {text}"


def _json_of(value: Any) -> str:
    from pydantic_core import PydanticSerializationError, to_json

    def dump(value: Any) -> str:
        return to_json(value, fallback=str, bytes_mode="base64", inf_nan_mode="null").decode()

    try:
        return dump(value)
    except PydanticSerializationError:  # such as for half of a surrogate pair, which a path of a file may contain
        return dump(storable(value))


def _name_of(function: Any) -> str:
    if hasattr(function, "operator_class") or hasattr(function, "task_id"):
        raise _wrong("tools must hold plain functions, got a task: write the function without @task")
    if not callable(function):
        raise _wrong(f"a tool must be a function, got {type_name(function)}")
    return str(getattr(function, "__name__", ""))


def _parameters_of(function: Callable[..., Any], name: str) -> Mapping[str, inspect.Parameter]:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise _wrong(f"tool {name} has no signature that Python can read: wrap it in a function") from error
    for parameter in parameters.values():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise _wrong(
                f"tool {name} must have named parameters, got {parameter}: a model needs the name and the type of each"
            )
        if parameter.annotation is inspect.Parameter.empty and parameter.name != KEY_PARAMETER:
            raise _wrong(f"tool {name}: the parameter {parameter.name} must have an annotation, such as `: str`")
    return {it.name: _with_annotation(it) for it in parameters.values()}


def _with_annotation(parameter: inspect.Parameter) -> inspect.Parameter:
    is_bare = parameter.annotation is inspect.Parameter.empty
    return parameter.replace(annotation=str) if is_bare else parameter


def _hints_of(function: Any, name: str) -> dict[str, Any]:
    target = function
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isroutine(target) or inspect.isclass(target)):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        raise _wrong(f"tool {name}: an annotation cannot be read ({error}): define its type in the module") from error


def _without_title(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != "title"}


def _wrong(message: str) -> RequestValidationError:
    return RequestValidationError(message, fields=("tools",))
