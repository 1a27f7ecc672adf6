"""
The contract between worker and triggerer: everything that passes between them through Airflow's database.

=====================  ==========================  ====================================================================
Class                  Written by, read by         Stored in
=====================  ==========================  ====================================================================
``DeferredArguments``  worker, triggerer           ``trigger``: the keyword arguments of ``ResponsesTrigger``, encrypted
                                                   with Airflow's Fernet key
``StartArguments``     DAG processor, triggerer    ``serialized_dag``: the ``start_trigger_args`` of a task, in clear;
                                                   then ``trigger``, as above
``Event``              triggerer, worker           ``task_instance.next_kwargs``, in clear; only where a worker ends the
                                                   task. Where the trigger ends it, its values go to ``xcom`` instead
=====================  ==========================  ====================================================================

**No secret** is in any of them. The triggerer reads the connection by its id, and a request with a possible secret
(``task.payload_secrets``) is not deferred. Prompts and responses are in them, but in no log: the ``repr`` of events and
of triggers leaves them out.

**Sizes are limited**: arguments by ``[responses] max_trigger_bytes``, and an event by :data:`MAX_EVENT_BYTES` where a
worker can fetch the response from OpenRouter's cache instead.

**Times are wall-clock times**, in seconds since the epoch: a trigger may start over in another process.

**Every payload has a version.** Raise it with every change to the payload's keys or their meaning. A reader refuses any
other version with a :class:`VersionMismatchError`, which is retryable: a retry writes the payload again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

from airflow_provider_responses.client.config import RequestOptions
from airflow_provider_responses.content.references import check_without_files
from airflow_provider_responses.exceptions import RequestValidationError, VersionMismatchError
from airflow_provider_responses.models.response import Response
from airflow_provider_responses.task.arguments import TEMPLATE_FIELDS, Arguments
from airflow_provider_responses.task.cached_responses import can_be_fetched
from airflow_provider_responses.task.escalation import Escalation, check_escalations
from airflow_provider_responses.task.escalation_encoding import (
    decode_escalations,
    encode_escalations,
    find_unimportable,
)
from airflow_provider_responses.task.outcome import Outcome
from airflow_provider_responses.task.payload_encoding import (
    decode_error,
    decode_fields,
    decode_response,
    encode_error,
    encode_fields,
    encode_response,
    from_pairs,
    to_pairs,
)
from airflow_provider_responses.task.request import TaskRequest
from airflow_provider_responses.task.type_encoding import encode_type
from airflow_provider_responses.validation import type_name

EVENT_VERSION: Final = 3
MAX_EVENT_BYTES: Final = 1024 * 1024  # the worker fetches a larger response from OpenRouter's cache instead

_NONE: Final = type(None)
_NUMBER: Final = (int, float)
READING_ERRORS: Final = (TypeError, ValueError, LookupError, AttributeError, OverflowError)


@dataclass(frozen=True, kw_only=True)
class DeferredArguments:
    """
    The arguments of ``ResponsesTrigger``: a request that is ready to be sent.

    :param conn_id: the connection; the triggerer reads its credentials.
    :param task_request: the request, its templates rendered, and how its response is read.
    :param output_type_path: its ``output_type``, as ``task.type_encoding`` encodes it; None if another process cannot
        import that.
    :param options: the options of its sends.
    :param do_xcom_push: whether the value and ``usage`` go to XCom.
    :param spent: US dollars that earlier attempts are known to have spent, by generation.
    :param escalated: number of times that a larger model got the request in earlier attempts.
    :param deadline: when the call must have ended, in seconds since the epoch.
    :param not_before: when a worker may resume the task, in seconds since the epoch.
    :param ends_task: whether the trigger ends a successful task itself.
    :param waits_for_retry_after: whether the trigger waits out a long ``Retry-After``, so that Airflow's next attempt
        comes after it.
    :param deferred_at: when the worker has written them, in seconds since the epoch; None without a worker.
    :param trace_context: W3C's trace context of the worker; None where nothing is traced.
    """

    version: ClassVar[int] = 4
    stored_types: ClassVar[Mapping[str, tuple[type, ...]]] = {
        "conn_id": (str,),
        "request": (str,),  # the fields, as JSON text
        "result": (str,),
        "on_invalid_output": (str,),
        "cache": (bool,),
        "cache_ttl": (int,),
        "stream": (bool,),
        "output_retries": (int,),
        "output_feedback": (bool,),
        "output_type": (str, _NONE),  # encoded
        "output_format": (str, _NONE),  # as JSON text
        "idempotency_key": (str, _NONE),
        "options": (dict,),
        "do_xcom_push": (bool,),
        "spent": (dict,),
        "deadline": _NUMBER,
        "not_before": _NUMBER,
        "ends_task": (bool,),
        "waits_for_retry_after": (bool,),
        "deferred_at": (*_NUMBER, _NONE),
        "trace_context": (dict, _NONE),
        "escalations": (str,),  # as JSON text
        "tier": (int,),
        "worker_decides": (bool,),
        "escalated": (int,),
    }

    conn_id: str
    task_request: TaskRequest
    output_type_path: str | None = None
    options: RequestOptions = field(default_factory=RequestOptions)
    do_xcom_push: bool = True
    spent: Mapping[str, float | None] = field(default_factory=dict)
    escalated: int = 0
    deadline: float
    not_before: float = 0.0
    ends_task: bool = False
    waits_for_retry_after: bool = False
    deferred_at: float | None = None
    trace_context: Mapping[str, str] | None = None

    def to_kwargs(self) -> dict[str, Any]:
        """Return the trigger's keyword arguments: plain JSON types, and no secret."""
        request, output_format = self.task_request, self.task_request.text_format()
        return {
            "version": self.version,
            "conn_id": self.conn_id,
            "request": encode_fields(request.fields),
            "result": request.result,
            "on_invalid_output": request.on_invalid_output,
            "cache": request.cache,
            "cache_ttl": request.cache_ttl,
            "stream": request.stream,
            "output_retries": request.output_retries,
            "output_feedback": request.output_feedback,
            "output_type": self.output_type_path,
            "output_format": None if output_format is None else json.dumps(output_format),
            "idempotency_key": request.idempotency_key,
            "options": RequestOptions.to_dict(self.options),
            "do_xcom_push": self.do_xcom_push,
            "spent": dict(self.spent),
            "deadline": self.deadline,
            "not_before": self.not_before,
            "ends_task": self.ends_task,
            "waits_for_retry_after": self.waits_for_retry_after,
            "deferred_at": self.deferred_at,
            "trace_context": None if self.trace_context is None else dict(self.trace_context),
            "escalations": encode_escalations(request.escalations),
            "tier": request.tier,
            "worker_decides": request.worker_decides,
            "escalated": self.escalated,
        }

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Self:
        """
        Undo :meth:`to_kwargs`; the ``output_type`` is not imported.

        :raises VersionMismatchError: if another version of this package wrote them.
        """
        with reading_arguments(kwargs, cls.version, cls.stored_types, action="deferred"):
            output_format, escalations = kwargs["output_format"], decode_escalations(kwargs["escalations"])
            if not 0 <= kwargs["tier"] <= len(escalations):
                raise LookupError(f"tier {kwargs['tier']}")
            return cls(
                conn_id=kwargs["conn_id"],
                task_request=TaskRequest(
                    fields=decode_fields(kwargs["request"]),
                    output_format=None if output_format is None else json.loads(output_format),
                    output_retries=kwargs["output_retries"],
                    output_feedback=kwargs["output_feedback"],
                    result=kwargs["result"],
                    on_invalid_output=kwargs["on_invalid_output"],
                    cache=kwargs["cache"],
                    cache_ttl=kwargs["cache_ttl"],
                    stream=kwargs["stream"],
                    idempotency_key=kwargs["idempotency_key"],
                    escalations=escalations,
                    tier=kwargs["tier"],
                    worker_decides=kwargs["worker_decides"],
                ),
                output_type_path=kwargs["output_type"],
                options=RequestOptions.parse(kwargs["options"]),
                do_xcom_push=kwargs["do_xcom_push"],
                spent={name: None if cost is None else float(cost) for name, cost in kwargs["spent"].items()},
                deadline=float(kwargs["deadline"]),
                not_before=float(kwargs["not_before"]),
                ends_task=kwargs["ends_task"],
                waits_for_retry_after=kwargs["waits_for_retry_after"],
                deferred_at=None if kwargs["deferred_at"] is None else float(kwargs["deferred_at"]),
                trace_context=kwargs["trace_context"],
                escalated=kwargs["escalated"],
            )


@dataclass(frozen=True, kw_only=True)
class StartArguments:
    """
    The arguments of ``ResponsesStartTrigger``: a task as its DAG file has it, with its templates.

    :param arguments: the operator's; without ``output_type`` where they have been read.
    :param output_type_path: ``output_type``, as ``task.type_encoding`` encodes it; None if another process cannot
        import that.
    :param output_format: the ``text.format`` that stands for ``output_type``.
    :param execution_timeout: the task's, in seconds.
    :param do_xcom_push: the task's.
    :param retries: the task's.
    :param escalations: its larger models.
    :param worker_decides: whether the trigger leaves it to a worker which responses are not accepted.
    """

    version: ClassVar[int] = 3
    stored_types: ClassVar[Mapping[str, tuple[type, ...]]] = {
        **dict.fromkeys(
            TEMPLATE_FIELDS, (object,)
        ),  # as lists of pairs; `Arguments.check` checks them once they are rendered
        "output_type": (str, _NONE),  # encoded
        "output_format": (str, _NONE),  # as JSON text: a schema is no template, and keeps its order
        "execution_timeout": (*_NUMBER, _NONE),
        "do_xcom_push": (bool,),
        "retries": (int,),
        "escalations": (str,),  # as JSON text: they are no templates
        "worker_decides": (bool,),
    }

    arguments: Arguments
    output_type_path: str | None = None
    output_format: Mapping[str, Any] | None = None
    execution_timeout: float | None = None
    do_xcom_push: bool = True
    retries: int = 0
    escalations: tuple[Escalation, ...] = ()
    worker_decides: bool = False

    @classmethod
    def of(cls, task: Any) -> Self:
        """
        Read the arguments of an operator.

        :raises RequestValidationError: if its request or its response has files, which a worker reads and writes.
        """
        check_without_files(getattr(task, "input", None), task.request)
        if task.output_path is not None:
            raise RequestValidationError("output_path: a worker writes generated images there", fields=("output_path",))
        output_format, timeout, escalations = None, task.execution_timeout, check_escalations(task.escalate)
        if task.output_type is not None:
            from airflow_provider_responses.models.output import json_schema_format

            output_format = json_schema_format(task.output_type)
        return cls(
            arguments=Arguments(
                **{name: getattr(task, name) for name in TEMPLATE_FIELDS}, output_type=task.output_type
            ),
            output_type_path=encode_type(task.output_type),
            output_format=output_format,
            execution_timeout=None if timeout is None else timeout.total_seconds(),
            do_xcom_push=task.do_xcom_push,
            retries=task.retries,
            escalations=escalations,
            worker_decides=find_unimportable(escalations) is not None,
        )

    def to_kwargs(self) -> dict[str, Any]:
        """
        Return the trigger's keyword arguments: plain JSON types, with templates as they are.

        :raises RequestValidationError: if a value is not plain JSON.
        """
        return {
            "version": self.version,
            **{name: to_pairs(getattr(self.arguments, name), name) for name in TEMPLATE_FIELDS},
            "output_type": self.output_type_path,
            "output_format": None if self.output_format is None else json.dumps(self.output_format),
            "execution_timeout": self.execution_timeout,
            "do_xcom_push": self.do_xcom_push,
            "retries": self.retries,
            "escalations": encode_escalations(self.escalations),
            "worker_decides": self.worker_decides,
        }

    @classmethod
    def from_kwargs(cls, kwargs: Mapping[str, Any]) -> Self:
        """
        Undo :meth:`to_kwargs`, also once templates are rendered; the ``output_type`` is not imported.

        :raises VersionMismatchError: if another version of this package wrote them.
        """
        with reading_arguments(kwargs, cls.version, cls.stored_types, action="stored"):
            output_format = kwargs["output_format"]
            return cls(
                arguments=Arguments(**{name: from_pairs(kwargs[name]) for name in TEMPLATE_FIELDS}),
                output_type_path=kwargs["output_type"],
                output_format=None if output_format is None else dict(json.loads(output_format)),
                execution_timeout=kwargs["execution_timeout"],
                do_xcom_push=kwargs["do_xcom_push"],
                retries=kwargs["retries"],
                escalations=decode_escalations(kwargs["escalations"]),
                worker_decides=kwargs["worker_decides"],
            )


class Event(dict[str, Any]):
    """
    The payload of a trigger's event: a plain dict whose ``repr`` in logs shows ids and costs, but no content.

    Keys: ``version``, ``response_id``, ``generation_id``, ``model``, ``usage``, ``error`` (the name of its class),
    ``idempotency_key``, ``prompt_fingerprint``, ``outcome`` (the rest as JSON text, None if a worker has to fetch the
    response) and ``request`` (the request's fields as JSON text, where a worker may have to send it again). An event of
    :func:`write_unsent_event` has ``version`` and ``unsent`` alone.
    """

    def __repr__(self) -> str:
        return repr({name: value for name, value in self.items() if name not in {"outcome", "request"}})


def write_event(
    outcome: Outcome,
    *,
    idempotency_key: str | None,
    fields: Mapping[str, Any] | None = None,
    prompt_fingerprint: str | None = None,
) -> Event:
    """
    Return the event of an outcome. A large response is left out if OpenRouter is known to have it cached.

    :param fields: those of the request; a worker could make others, from a function or from the time.
    :param prompt_fingerprint: of the request, for the same reason.
    """
    text: str | None = json.dumps(
        {
            "response": encode_response(outcome.response),
            "error": encode_error(outcome.error),
            "value": outcome.value,
            "unparsed": outcome.unparsed,
            "invalid": outcome.invalid,
            "repaired": outcome.repaired,
            "tier": outcome.tier,
            "escalated": outcome.escalated,
            "generations": dict(outcome.generations),
        }
    )
    response = outcome.response
    if outcome.error is None and response and len(text or "") > MAX_EVENT_BYTES and can_be_fetched(response):
        text = None
    # The next request of a task with tools begins with the input of this one.
    is_needed = text is None or outcome.unparsed or (response is not None and bool(response.function_calls))
    return Event(
        version=EVENT_VERSION,
        idempotency_key=idempotency_key,
        prompt_fingerprint=prompt_fingerprint,
        response_id=_printable(response.id) if response else None,
        generation_id=_printable(response.generation_id) if response else None,
        model=_printable(response.model) if response else None,
        usage=_tokens_and_cost(response) if response else None,
        error=type(outcome.error).__name__ if outcome.error else None,
        outcome=text,
        request=encode_fields(fields) if fields is not None and is_needed else None,
    )


def write_unsent_event() -> Event:
    """Return the event of a trigger that has sent nothing and leaves its attempt to a worker."""
    return Event(version=EVENT_VERSION, unsent=True)


def is_unsent(event: Any) -> bool:
    """Whether an event is one of :func:`write_unsent_event`."""
    return isinstance(event, Mapping) and event.get("version") == EVENT_VERSION and event.get("unsent") is True


def read_event(event: Any) -> tuple[Outcome | None, str | None]:
    """
    Return the outcome and the idempotency key of its request; the outcome is None if a worker has to fetch it.

    :raises VersionMismatchError: if the event is none of :func:`write_event`.
    """
    if not isinstance(event, Mapping):
        raise _event_mismatch(f"is {type_name(event)}")
    if event.get("version") != EVENT_VERSION:
        raise _event_mismatch(f"has version {event.get('version')!r}, expected {EVENT_VERSION}")
    if "outcome" not in event:
        raise _event_mismatch("lacks 'outcome'")
    idempotency_key = event.get("idempotency_key")
    if event["outcome"] is None:
        return None, idempotency_key
    with _reading_event():
        data = json.loads(event["outcome"])
        outcome = Outcome(
            response=decode_response(data["response"]),
            error=decode_error(data["error"]),
            value=data["value"],
            unparsed=data["unparsed"],
            invalid=data["invalid"],
            repaired=data["repaired"],
            tier=data["tier"],
            escalated=data["escalated"],
            generations=data["generations"],
        )
    return outcome, idempotency_key


def read_fields(event: Any) -> dict[str, Any] | None:
    """
    Return the fields of an event's request, None if it holds none.

    :raises VersionMismatchError: if they cannot be read.
    """
    text = event.get("request")
    with _reading_event():
        return None if text is None else decode_fields(text)


@contextmanager
def reading_arguments(
    kwargs: Mapping[str, Any], version: int, types: Mapping[str, tuple[type, ...]], *, action: str
) -> Iterator[None]:
    """
    Check version, names and types of a trigger's arguments, and map the errors of the block that reads them.

    :param action: a participle for the message: ``deferred`` or ``stored``.
    :raises VersionMismatchError: if another version of this package wrote them.
    """
    if problem := _find_problem(kwargs, version, types):
        raise _arguments_mismatch(action, problem)
    try:
        yield
    except READING_ERRORS as error:
        raise _arguments_mismatch(action, f"cannot be read: {type(error).__name__}: {error}") from error


def _find_problem(kwargs: Mapping[str, Any], version: int, types: Mapping[str, tuple[type, ...]]) -> str | None:
    if (found := kwargs.get("version")) != version:
        return f"have version {found!r}, expected {version!r}"
    if missing := [name for name in types if name not in kwargs]:
        return f"lack {missing[0]!r}"
    if unknown := sorted(kwargs.keys() - types.keys() - {"version"}):
        return f"hold {unknown[0]!r}, which is unknown here"
    wrong = (name for name, allowed in types.items() if not isinstance(kwargs[name], allowed))
    return next((f"hold {name!r} as {type_name(kwargs[name])}" for name in wrong), None)


def _arguments_mismatch(action: str, problem: str) -> VersionMismatchError:
    return VersionMismatchError(
        f"the task was {action} by another version of airflow-provider-responses than the triggerer runs (the "
        f"trigger's arguments {problem}). Install the same version everywhere in Airflow; a retry defers the task again"
    )


@contextmanager
def _reading_event() -> Iterator[None]:
    try:
        yield
    except READING_ERRORS as error:
        raise _event_mismatch(f"cannot be read: {type(error).__name__}: {error}") from error


def _event_mismatch(problem: str) -> VersionMismatchError:
    return VersionMismatchError(
        "the triggerer runs another version of airflow-provider-responses than the workers (the trigger's event "
        f"{problem}). Install the same version everywhere in Airflow; a retry sends the same request and gets the "
        "cached response",
        ambiguous=True,  # the triggerer has sent the request
    )


def _printable(text: str | None) -> str | None:
    """Return the text, None if a database or a log may fail on it: no server must stop the triggerer."""
    return text if text is None or text.isprintable() else None


def _tokens_and_cost(response: Response) -> dict[str, Any]:
    usage = response.usage
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens, "cost": usage.cost}
