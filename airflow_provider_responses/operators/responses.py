"""One request as one task."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, BaseOperator

from airflow_provider_responses import runs
from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.exceptions import RequestCancelledError, RequestValidationError, ResponsesError
from airflow_provider_responses.models.fields import REQUEST_FIELDS

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from pydantic import BaseModel

    from airflow_provider_responses.client.client import ResponsesClient
    from airflow_provider_responses.models.response import Response

__all__ = ["ResponsesOperator"]

TEXTS: Final = frozenset({"input", "model", "instructions"})
SPENT_KEY: Final = "airflow_provider_responses.spent"
LOOKUP_TIMEOUT: Final = 5.0  # seconds that an answer waits for its price
# Before Airflow's own timeout, so that the error says which call took too long and what was spent.
TIMEOUT_MARGIN: Final = 1.0  # seconds, at most a twentieth of the time


class ResponsesOperator(BaseOperator):
    """
    Send one Responses API request; the answer, its price and its ids go to XCom.

    XCom: ``return_value`` (the text, the typed output, or the whole answer), ``response_id``,
    ``generation_id``, ``model`` (what really served) and ``usage`` (tokens, cost in US dollars, tries).

    :param input: the text, or the list of input items, to answer.
    :param model: the model's name; by default the connection's.
    :param instructions: the system prompt.
    :param request: any other field of ``ResponsesRequest``.
    :param output_type: a pydantic model; the answer is asked for and validated as it, and is a dict in XCom.
    :param result: ``text``, or ``response`` for the whole answer.
    :param on_incomplete: ``fail``, or ``return`` to take an answer that is cut off, refused or not as typed.
    :param cache: whether a retry may get the answer that OpenRouter kept, for nothing.
    :param stream: whether the answer is streamed; by default it is, since dropping a stream stops its cost.
    :param options: this task's ``RequestOptions``, or a dict of them.
    :param conn_id: a connection of type ``responses``.
    """

    template_fields: Sequence[str] = (
        "input",
        "model",
        "instructions",
        "request",
        "result",
        "on_incomplete",
        "cache",
        "stream",
        "options",
        "conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"request": "json", "options": "json"}
    ui_color = "#eef0ff"

    def __init__(
        self,
        *,
        input: str | Sequence[Any] | None = None,
        model: str | None = None,
        instructions: str | None = None,
        request: Mapping[str, Any] | None = None,
        output_type: type[BaseModel] | None = None,
        result: str = "text",
        on_incomplete: str = "fail",
        cache: bool = True,
        stream: bool | None = None,
        options: RequestOptions | Mapping[str, Any] | None = None,
        conn_id: str = "responses_default",
        **kwargs: Any,
    ) -> None:
        # Airflow 2.11 makes a mapped operator once at parse, with lists where single values will be.
        mapped_validation_only = kwargs.get("_airflow_mapped_validation_only", False)
        super().__init__(**kwargs)
        self.input = input
        self.model = model
        self.instructions = instructions
        self.request = request
        self.output_type = output_type
        self.result = result
        self.on_incomplete = on_incomplete
        self.cache = cache
        self.stream = stream
        # A dict, since templates are rendered in dicts but not in dataclasses.
        self.options: Any = RequestOptions.to_dict(options) if isinstance(options, RequestOptions) else options
        self.conn_id = conn_id
        self._client: ResponsesClient | None = None
        self._killed = False
        self._started: float | None = None
        self._began: float | None = None  # set by what runs before the request, within the task's time
        if not mapped_validation_only:
            try:
                self._check_arguments()
            except ResponsesError as error:
                raise error.about(f"Task {self.task_id!r}") from None

    def execute(self, context: Context) -> Any:
        """Validate, send, push; see the class."""
        self._started, self._began = self._began or time.monotonic(), None
        try:
            self._check_arguments(rendered=True)
            return self._execute(context)
        except ResponsesError as error:
            self._fail(error)

    def on_kill(self) -> None:
        """Mark the call as cancelled, then drop its connection: the answer stops, and no try follows."""
        self._killed = True
        if self._client is not None:
            self._client.cancel()

    def _execute(self, context: Context) -> Any:
        from airflow_provider_responses.hooks.responses import ResponsesHook

        run = self._run(context["ti"])
        hook = ResponsesHook(self.conn_id)
        request, options = run.prepare(hook.config, self._options(hook.config.timeout))
        with hook.get_conn(options=options, own_connections=True) as client:
            self._client = client
            if self._killed:  # on_kill came before there was a client to tell
                client.cancel()
            try:
                response = client.send(request, options=options)
            except ResponsesError as error:
                if error.response is not None:
                    self._record(context, client, run, error.response)
                response = run.accept(error)
            else:
                self._record(context, client, run, response)
        value = run.value(response)
        if value == "":
            calls = len(response.function_calls)
            self.log.warning('The answer holds no text (%d function calls); result="response" gives all of it', calls)
        return value

    def _run(self, ti: Any) -> runs.Run:
        stream = _boolean(self.stream)
        return runs.Run(
            fields=self._fields(),
            output_type=self.output_type,
            result=self.result,  # type: ignore[arg-type]  # checked by _check_arguments
            on_incomplete=self.on_incomplete,  # type: ignore[arg-type]
            cache=_boolean(self.cache) is not False,
            stream=stream is not False,
            stamp=runs.make_stamp(
                dag_id=ti.dag_id,
                task_id=ti.task_id,
                run_id=ti.run_id,
                map_index=-1 if ti.map_index is None else ti.map_index,
                cleared=ti.max_tries,  # grows when the task is cleared, and stays as it is on a retry
            ),
        )

    def _fields(self) -> dict[str, Any]:
        everyday = {"input": self.input, "model": self.model, "instructions": self.instructions}
        given = {name: _as_written(value) for name, value in everyday.items() if value is not None}
        request = dict(self.request or {})
        for name in {"metadata", "user", "session_id"} & request.keys():
            request[name] = _as_text(request[name])
        return runs.merge_fields(given, request)

    def _left(self) -> float | None:
        """Give the seconds until Airflow ends the task, if it will."""
        if self.execution_timeout is None or self._started is None:
            return None
        left = self.execution_timeout.total_seconds() - (time.monotonic() - self._started)
        return max(left - min(TIMEOUT_MARGIN, left / 20), 0.001)

    def _options(self, timeout: float) -> RequestOptions:
        options = RequestOptions.parse(self.options)
        left = self._left()
        return options if left is None else replace(options, timeout=min(options.timeout or timeout, left))

    def _record(self, context: Context, client: ResponsesClient, run: runs.Run, response: Response) -> None:
        """Push the ids and the price of an answer, whether or not the task then fails over it."""
        store = context.get("task_state_store")  # Airflow 3.3 and later; survives retries
        kept: Any = (store.get(SPENT_KEY) if store is not None else None) or {}
        account = runs.Account(kept["spent"] if kept.get("stamp") == run.stamp else {})
        source = account.unknown_source(response)
        usage = account.usage(response, generation=self._generation(client, source) if source else None)
        if store is not None:
            store.set(SPENT_KEY, {"stamp": run.stamp, "spent": dict(account.spent)})
        for key, value in runs.xcoms(response, usage).items():
            context["ti"].xcom_push(key=key, value=value)
        self.log.info(runs.log_line(response, usage))

    def _generation(self, client: ResponsesClient, source: str) -> dict[str, Any] | None:
        """Look up what the kept answer cost; the answer itself is here, so not learning this is no failure."""
        left = self._left()
        timeout = LOOKUP_TIMEOUT if left is None else min(LOOKUP_TIMEOUT, left / 2)
        try:
            return client.get_generation(source, options=RequestOptions(timeout=timeout, max_retries=1))
        except RequestCancelledError:
            raise
        except ResponsesError as error:
            self.log.warning("The price of the kept answer is unknown (null in `usage`): %s", error)
            return None

    def _fail(self, error: ResponsesError) -> NoReturn:
        if error.retryable:
            error.add_note(f"Task {self.task_id!r}: Airflow's retries apply")
            raise error
        raise AirflowFailException(f"Task {self.task_id!r}: {error}") from error

    def _check_arguments(self, *, rendered: bool = False) -> None:
        """Refuse what is cheap to see; what a template or an upstream task fills in is seen when the task runs."""
        lazy = _never if rendered else is_lazy
        _check_type("input", self.input, (str, Sequence), lazy)
        _check_type("model", self.model, (str,), lazy)
        _check_type("instructions", self.instructions, (str,), lazy)
        _check_type("request", self.request, (Mapping,), lazy)
        _check_type("conn_id", self.conn_id, (str,), lazy)
        _check_choice("result", self.result, ("text", "response"), lazy)
        _check_choice("on_incomplete", self.on_incomplete, ("fail", "return"), lazy)
        _check_choice("cache", _boolean(self.cache), (True, False), lazy)
        _check_choice("stream", _boolean(self.stream), (True, False, None), lazy)
        _check_output_type(self.output_type)
        if isinstance(self.request, Mapping):
            _check_names(self.request)
            self._fields()
        if isinstance(self.options, Mapping):
            RequestOptions.parse({name: value for name, value in self.options.items() if not lazy(value)})
        else:
            _check_type("options", self.options, (Mapping,), lazy)


def _never(_: Any) -> bool:
    return False


def _as_text(value: Any) -> Any:
    """Undo what native rendering makes of text that looks like a number."""
    if isinstance(value, Mapping):
        return {name: _as_text(item) for name, item in value.items()}
    return str(value) if isinstance(value, (int, float)) else value


def _as_written(value: Any) -> Any:
    """Undo what native rendering and upstream tasks make of text and lists: numbers, tuples, lazy sequences."""
    if isinstance(value, (bool, int, float)):
        return str(value)
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def is_lazy(value: Any) -> bool:
    """Whether the value is known only when the task runs: a template, or an upstream task's output."""
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    if isinstance(value, Mapping):
        return any(is_lazy(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(is_lazy(item) for item in value)
    return hasattr(value, "resolve") and not isinstance(value, (type, os.PathLike))


def _boolean(value: Any) -> Any:
    """Read a boolean that a template rendered as text."""
    return (
        {"true": True, "false": False, "none": None, "": None}.get(value.lower(), value)
        if isinstance(value, str)
        else value
    )


def _check_type(name: str, value: Any, kinds: tuple[type, ...], lazy: Callable[[Any], bool]) -> None:
    if lazy is _never and name in TEXTS and isinstance(value, (bool, int, float)):
        return  # native rendering makes a number of text that looks like one
    if value is None or lazy(value) or (isinstance(value, kinds) and not isinstance(value, bytes)):
        return
    names = {"Mapping": "dict", "Sequence": "list"}
    allowed = " or ".join(names.get(kind.__name__, kind.__name__) for kind in kinds)
    raise RequestValidationError(f"{name} must be {allowed}, not {type(value).__name__}", fields=(name,))


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...], lazy: Callable[[Any], bool]) -> None:
    if lazy(value) or any(value is choice or (isinstance(choice, str) and value == choice) for choice in allowed):
        return
    raise RequestValidationError(f"{name} is {value!r}; allowed are {', '.join(map(repr, allowed))}", fields=(name,))


def _check_output_type(value: Any) -> None:
    if value is None:
        return
    from pydantic import BaseModel

    if not (isinstance(value, type) and issubclass(value, BaseModel) and value is not BaseModel):
        raise RequestValidationError(
            f"output_type is {value!r}; allowed is a pydantic model, that is a class made with `class X(BaseModel)`",
            fields=("output_type",),
        )


def _check_names(request: Mapping[str, Any]) -> None:
    for name in request:
        if name not in REQUEST_FIELDS and name != "extra_body":
            close = difflib.get_close_matches(str(name), REQUEST_FIELDS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "a new field of the API goes into `extra_body`"
            raise RequestValidationError(f"request.{name}: is no field of a request; {hint}", fields=(str(name),))
