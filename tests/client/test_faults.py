"""Every fault with every method: a complete response or one typed error, with no more sends than allowed."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from airflow_provider_responses.client.sync_pool import SyncPool
from airflow_provider_responses.exceptions import (
    APIError,
    BadGatewayResponseError,
    BadRequestResponseError,
    EdgeNetworkTimeoutResponseError,
    ForbiddenResponseError,
    IncompleteResponseError,
    InternalServerResponseError,
    NotFoundResponseError,
    PayloadTooLargeResponseError,
    PaymentRequiredResponseError,
    ProviderOverloadedResponseError,
    RefusalError,
    RequestTimeoutResponseError,
    ResponsesError,
    ServiceUnavailableResponseError,
    StreamInterruptedError,
    TooManyRequestsResponseError,
    TransportError,
    UnauthorizedResponseError,
    UnprocessableEntityResponseError,
)
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.sandbox.state.random_faults import Faults
from airflow_provider_responses.sandbox.state.script import AVAILABILITY_STATUS, ERROR_TYPES, PLAIN_MODELS

from .wire import KEY, Flavour, Handle

TEXT = "Der Fluß trägt schöne Schiffe 🚢 bis hinaus auf das weite Meer."
REQUEST = {"model": "openai/gpt-4o-mini", "input": TEXT}
MAX_RETRIES, MAX_AMBIGUOUS_RETRIES = 3, 1
SILENCE = 0.3  # seconds of read_timeout, for faults of silence
DEADLINE = 0.5  # seconds of timeout, for faults without an end
SLACK = 10.0  # seconds that a busy machine may add
FOREVER = 3600

# --- the table


@dataclass(frozen=True)
class Outcome:
    """The error while the fault lasts, and the number of retries that are allowed."""

    error: type[ResponsesError] | None = None
    retries: int = 0


FINE = Outcome()


def plain(error: type[ResponsesError]) -> Outcome:
    """Nothing was billed: retried up to ``max_retries`` times."""
    return Outcome(error, MAX_RETRIES)


def ambiguous(error: type[ResponsesError]) -> Outcome:
    """It may have been billed: retried up to ``max_ambiguous_retries`` times."""
    return Outcome(error, MAX_AMBIGUOUS_RETRIES)


def final(error: type[ResponsesError]) -> Outcome:
    """Raised at once."""
    return Outcome(error)


@dataclass(frozen=True)
class Row:
    """
    One fault and its outcomes: of ``send``, of ``send`` with ``stream=True``, of ``stream``; or one for all three.

    :param wait: least number of seconds between two sends.
    """

    step: Mapping[str, Any]
    send: Outcome
    send_stream: Outcome | None = None
    stream: Outcome | None = None
    wait: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def outcome(self, method: str) -> Outcome:
        own: Outcome | None = getattr(self, method)
        return own or (self.send_stream if method == "stream" else None) or self.send


STATUS = {
    400: final(BadRequestResponseError),
    401: final(UnauthorizedResponseError),
    402: final(PaymentRequiredResponseError),
    403: final(ForbiddenResponseError),
    404: final(NotFoundResponseError),
    408: plain(RequestTimeoutResponseError),
    409: plain(APIError),
    412: final(APIError),
    413: final(PayloadTooLargeResponseError),
    418: final(APIError),
    422: final(UnprocessableEntityResponseError),
    425: plain(APIError),
    429: plain(TooManyRequestsResponseError),
    500: plain(InternalServerResponseError),
    502: plain(BadGatewayResponseError),
    503: plain(ServiceUnavailableResponseError),
    504: plain(APIError),
    524: plain(EdgeNetworkTimeoutResponseError),
    529: plain(ProviderOverloadedResponseError),
    599: plain(APIError),
}
ERROR_TYPE = dict.fromkeys(ERROR_TYPES, 400) | {
    "authentication": 401,
    "payment_required": 402,
    "permission_denied": 403,
    "not_found": 404,
    "image_not_found": 404,
    "precondition_failed": 412,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "server": 500,
    "unmapped": 500,
    "provider_unavailable": 502,
    "provider_overloaded": 503,
    "timeout": 504,
}
INTERRUPTED = ambiguous(StreamInterruptedError)
BROKEN_OFF = final(StreamInterruptedError)  # the caller has seen text
LOST = ambiguous(TransportError)
MANGLED = ambiguous(APIError)
OVER = final(TransportError)
SERVER, SERVER_FINAL = STATUS[500], final(InternalServerResponseError)
LIMITED, LIMITED_FINAL = STATUS[429], final(TooManyRequestsResponseError)
SERVER_LATE = ambiguous(InternalServerResponseError)
SILENT = {"read_timeout": SILENCE}
LATE = {"timeout": DEADLINE}


def after_output(outcome: Outcome) -> Outcome:
    """Output has arrived, so a retry may be paid again, and is limited."""
    return Outcome(outcome.error, min(outcome.retries, MAX_AMBIGUOUS_RETRIES))


def failed(error_type: str) -> Row:
    """A failure inside a 200: the caller of ``stream`` has seen text before."""
    outcome = STATUS[ERROR_TYPE[error_type]]
    return Row({"failed": error_type}, outcome, after_output(outcome), Outcome(outcome.error))


# fmt: off
ROWS: dict[str, Row] = {
    # HTTP errors: the same in every method
    **{f"{status}": Row({"status": status}, outcome, wait=float(status in {429, 503}))
       for status, outcome in STATUS.items()},
    **{code: Row({"availability": code}, STATUS[status], wait=float(status == 503))
       for code, status in AVAILABILITY_STATUS.items()},
    "guardrail":         Row({"kind": "guardrail-blocked"}, STATUS[403]),
    "moderation":        Row({"kind": "moderation"}, STATUS[403]),
    "no permission":     Row({"kind": "insufficient-permissions"}, STATUS[403]),
    "503 for good":      Row({"status": 503, "availability": {"retryable": False}},
                             final(ServiceUnavailableResponseError)),
    "404 for now":       Row({"status": 404, "availability": {"retryable": True, "retry_after": 4}},
                             plain(NotFoundResponseError), wait=4.0),
    "wait obeyed":       Row({"status": 429, "retry_after": 60}, LIMITED, wait=60.0),
    "fraction obeyed":   Row({"status": 503, "retry_after": 2.5}, STATUS[503], wait=2.5),
    "wait on a 500":     Row({"status": 500, "retry_after": 3}, SERVER, wait=3.0),
    "no wait named":     Row({"status": 429, "retry_after": None}, LIMITED),
    "wait too long":     Row({"status": 429, "retry_after": 61}, LIMITED_FINAL),
    "wait past the end": Row({"status": 429, "retry_after": 30}, LIMITED_FINAL, settings={"timeout": 20}),
    "error in pieces":   Row({"status": 502, "split": 1}, STATUS[502]),

    # Failures inside a 200                                          send     streamed     stream
    **{f"failed-{error_type}": failed(error_type) for error_type in ERROR_TYPES},
    "error":             Row({"error_event": "error"},               SERVER,  SERVER_LATE, SERVER_FINAL),
    "error-object":      Row({"error_event": "error-object"},        SERVER,  SERVER_LATE, SERVER_FINAL),
    "response.error":    Row({"error_event": "response.error"},      SERVER,  SERVER_LATE, SERVER_FINAL),
    "error 429":         Row({"error_event": "error", "error_type": "rate_limit_exceeded"},
                                                                     LIMITED, after_output(LIMITED), LIMITED_FINAL),
    "error 400":         Row({"error_event": "error", "error_type": "invalid_prompt"}, STATUS[400]),

    # Incomplete responses
    "max_output_tokens": Row({"incomplete": "max_output_tokens"},    final(IncompleteResponseError)),
    "content_filter":    Row({"incomplete": "content_filter"},       final(IncompleteResponseError)),
    "refusal":           Row({"refusal": "No."},                     final(RefusalError)),

    # Broken connections
    "drop":              Row({"drop": True},                         LOST),
    "drop after":        Row({"drop": "after"},                      LOST),
    "cut":               Row({"cut": True},                          LOST,    INTERRUPTED, BROKEN_OFF),
    "cut in a letter":   Row({"cut": True, "split": 1},              LOST,    INTERRUPTED, BROKEN_OFF),
    "cut after signs":   Row({"cut": True, "delay": 0.03, "keep_alive": 0.01},
                                                                     LOST,    INTERRUPTED, BROKEN_OFF),
    "truncate":          Row({"truncate": True},                     MANGLED, INTERRUPTED, BROKEN_OFF),
    "truncated pieces":  Row({"truncate": True, "split": 1},         MANGLED, INTERRUPTED, BROKEN_OFF),
    "truncated at once": Row({"truncate": True, "text": ""},         MANGLED, INTERRUPTED, BROKEN_OFF),
    "truncate, late":    Row({"truncate": True, "late": True},       MANGLED, INTERRUPTED, BROKEN_OFF),
    "cut, late":         Row({"cut": True, "late": True},            LOST,    INTERRUPTED, BROKEN_OFF),
    "malformed":         Row({"malformed": True},                    MANGLED, INTERRUPTED, BROKEN_OFF),
    "malformed, late":   Row({"malformed": True, "late": True},      MANGLED, INTERRUPTED, BROKEN_OFF),

    # Silence, which `read_timeout` ends
    "hang":              Row({"hang": True},                         LOST, settings=SILENT),
    "stall":             Row({"stall": True},                        LOST,    INTERRUPTED, BROKEN_OFF, settings=SILENT),
    "stall, late":       Row({"stall": True, "late": True},          LOST,    INTERRUPTED, BROKEN_OFF, settings=SILENT),
    "no first token":    Row({"delay": FOREVER},                     LOST,    INTERRUPTED, BROKEN_OFF, settings=SILENT),

    # Faults without an end, which the deadline of the call ends
    "hang to the end":   Row({"hang": True},                         OVER, settings=LATE),
    "stall to the end":  Row({"stall": True},                        OVER,    OVER,        BROKEN_OFF, settings=LATE),
    "alive, no token":   Row({"delay": FOREVER, "keep_alive": 0.02}, OVER,    OVER,        BROKEN_OFF, settings=LATE),
    "alive, stalled":    Row({"stall": True, "keep_alive": 0.02},    OVER,    OVER,        BROKEN_OFF, settings=LATE),

    # No faults
    "response":          Row({}, FINE),
    "in pieces":         Row({"split": 1}, FINE),
    "slowly":            Row({"delay": 0.03, "chunk_delay": 0.002}, FINE),
    "signs of life":     Row({"delay": 0.05, "chunk_delay": 0.01, "keep_alive": 0.004}, FINE),
    "signs in pieces":   Row({"delay": 0.03, "keep_alive": 0.01, "split": 3}, FINE),
}
# fmt: on

METHODS = ("send", "send_stream", "stream")
CELLS = [
    pytest.param(row, method, lasts, id=f"{name}-{method}-{'lasts' if lasts else 'once'}")
    for name, row in ROWS.items()
    for method in METHODS
    for lasts in (False, True)
    if (row.outcome(method).error if lasts else row.outcome(method) == FINE or row.outcome(method).retries)
]


# --- how it is run


class Clock:
    """A real clock, with which waits before retries take no time."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def clock(self) -> float:
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        self.skipped += seconds


class SharedPool(SyncPool):
    """Connections that all blocking clients share: opening new ones would take longer than the tests."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def pool() -> Iterator[SyncPool]:
    made = SharedPool()
    yield made
    made.http.close()


@pytest.fixture(autouse=True, scope="module")
def _one_ssl_context() -> Iterator[None]:
    """The same for async clients, each of which has its own loop. Nothing is encrypted."""
    context = httpx.create_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda **_: context)
        yield


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    shared_sandbox.reset()
    yield shared_sandbox
    shared_sandbox.reset()


Connect = Callable[..., Handle]


@pytest.fixture
def connect(flavour: Flavour, pool: SyncPool) -> Connect:
    """Return a real client on real sockets, with the shortest backoff: ``connect(sandbox, clock, **settings)``."""
    return functools.partial(_connect, flavour, pool)


def _connect(flavour: Flavour, pool: SyncPool, sandbox: Sandbox, clock: Clock, **settings: Any) -> Handle:
    retries = {"max_retries": MAX_RETRIES, "max_ambiguous_retries": MAX_AMBIGUOUS_RETRIES}
    given = retries | {"base_url": sandbox.base_url, "api_key": KEY, "dialect": "openrouter"} | settings
    return flavour.network(pool if flavour.sync else None, clock=clock, **given)


def send(handle: Handle, method: str, request: Mapping[str, Any] = REQUEST) -> str:
    """Send with one of the methods, and return the text of the response."""
    if method == "stream":
        events = list(handle.stream(request))
        assert events[-1].is_terminal
        whole = events[-1].response
        assert whole is not None
        deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert deltas == whole.output_text
        return whole.output_text
    return handle.send({**request, "stream": method == "send_stream"}).output_text


def send_until(handle: Handle, method: str, expected: type[ResponsesError]) -> ResponsesError:
    with pytest.raises(ResponsesError) as raised:
        send(handle, method)
    error = raised.value
    assert type(error) is expected, repr(error)
    return error


# --- and held to it


@pytest.mark.parametrize(("row", "method", "lasts"), CELLS)
def test_every_fault_ends_as_documented(connect: Connect, sandbox: Sandbox, row: Row, method: str, lasts: bool) -> None:
    outcome = row.outcome(method)
    clock = Clock()
    sandbox.script({**row.step, "times": 50 if lasts else 1})
    handle = connect(sandbox, clock, **row.settings)
    began = time.monotonic()
    if lasts:
        assert outcome.error is not None
        error = send_until(handle, method, outcome.error)
        assert error.sends == 1 + outcome.retries
        if isinstance(error, StreamInterruptedError):
            assert TEXT.startswith(error.text)
        expected_posts = 1 + outcome.retries
    else:
        assert send(handle, method) == TEXT
        expected_posts = 1 if outcome == FINE else 2
    assert len(sandbox.ledger) == expected_posts
    assert clock.skipped >= (expected_posts - 1) * row.wait - 0.05 * expected_posts
    silence = row.settings.get("read_timeout", 0.0) * expected_posts
    assert time.monotonic() - began < silence + min(row.settings.get("timeout", 0.0), DEADLINE) + SLACK


def test_every_fault_has_its_row() -> None:
    """The table has every fault of the sandbox."""
    steps = [row.step for row in ROWS.values()]
    missing = [name for name, step in PLAIN_MODELS.items() if not any(step.items() <= one.items() for one in steps)]
    assert missing == ["refusal", "invalid"]  # the table has the first under other names; the second is a text


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [{"status": 500}, {"drop": True}], ids=["plain", "ambiguous"])
def test_no_retries_means_one_post(connect: Connect, sandbox: Sandbox, method: str, fault: dict[str, Any]) -> None:
    sandbox.script(fault)
    handle = connect(sandbox, Clock(), max_retries=0, max_ambiguous_retries=0)
    with pytest.raises(ResponsesError):
        send(handle, method)
    assert len(sandbox.ledger) == 1


@pytest.mark.parametrize("method", METHODS)
def test_both_kinds_of_retries_have_their_own_count(connect: Connect, sandbox: Sandbox, method: str) -> None:
    sandbox.script({"status": 500}, {"drop": True}, {"status": 502}, {"status": 529}, {})
    assert send(connect(sandbox, Clock()), method) == TEXT
    assert len(sandbox.ledger) == 5
    sandbox.reset()
    sandbox.script({"status": 500}, {"drop": True}, {"status": 502}, {"drop": True}, {})
    assert send_until(connect(sandbox, Clock()), method, TransportError).sends == 4
    assert len(sandbox.ledger) == 4


@pytest.mark.parametrize("method", METHODS)
def test_an_undelivered_response_is_not_paid_twice(connect: Connect, sandbox: Sandbox, method: str) -> None:
    sandbox.script({"drop": "after"})
    handle = connect(sandbox, Clock(), extra_headers={"X-OpenRouter-Cache": "true"})
    assert send(handle, method) == TEXT
    assert [entry.outcome for entry in sandbox.ledger] == ["generated", "cached"]
    assert len(sandbox.billed) == 1


@pytest.mark.parametrize("method", METHODS)
def test_rate_limits_delay_and_lose_nothing(connect: Connect, method: str) -> None:
    clock = Clock()
    with Sandbox(requests_per_minute=2, clock=clock.clock) as sandbox:
        handle = connect(sandbox, clock, max_retries=1)
        assert [send(handle, method) for _ in range(6)] == [TEXT] * 6
        statuses = [entry.status for entry in sandbox.ledger]
    assert statuses == [200, 200, 429, 200, 200, 429, 200, 200]
    assert clock.skipped >= 118


@pytest.mark.parametrize("method", METHODS)
def test_a_bad_day_is_the_same_for_everyone(connect: Connect, sandbox: Sandbox, method: str) -> None:
    """With random faults, a request succeeds if and only if its last send has no fault."""
    rates = {"429": 0.2, "500": 0.1, "drop": 0.1, "400": 0.05}
    faults = Faults(seed=3, rates=rates)
    sandbox.faults = {"seed": 3, "rates": rates}
    handle = connect(sandbox, Clock())
    for number in range(25):
        before = len(sandbox.ledger)
        try:
            succeeded = send(handle, method, REQUEST | {"user": f"row-{number}"}) == TEXT
        except ResponsesError:
            succeeded = False
        sends = sandbox.ledger[before:]
        drawn = [faults.pick(entry.body_sha256, turn) for turn, entry in enumerate(sends)]
        assert succeeded == (drawn[-1] is None)
        assert all(drawn[:-1]), "no send follows a good response"
        assert len([step for step in drawn[:-1] if step and step.drop]) <= MAX_AMBIGUOUS_RETRIES
        assert len([step for step in drawn[:-1] if step and step.status]) <= MAX_RETRIES


@pytest.mark.parametrize(
    "fault",
    [{"cut": True}, {"error_event": "error"}, {"incomplete": "content_filter"}],
    ids=["cut", "error", "cut off"],
)
def test_a_broken_stream_counts_the_sends_before_it(connect: Connect, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    sandbox.script({"status": 500}, fault)
    with pytest.raises(ResponsesError) as raised:
        send(connect(sandbox, Clock()), "stream")
    assert len(sandbox.ledger) == raised.value.sends == 2


@pytest.mark.parametrize(
    ("method", "fault", "settings"),
    [
        ("send", {"cut": True}, {}),
        ("send", {"stall": True}, SILENT),
        ("send", {"stall": True}, LATE),
        ("send_stream", {"stall": True}, LATE),
    ],
)
def test_errors_of_sends_that_may_be_billed_have_the_generation_id(
    connect: Connect, sandbox: Sandbox, method: str, fault: dict[str, Any], settings: dict[str, Any]
) -> None:
    """The head of the response has arrived with the id for ``GET /generation``."""
    sandbox.script({**fault, "times": 9})
    with pytest.raises(ResponsesError) as raised:
        send(connect(sandbox, Clock(), **settings), method)
    assert raised.value.generation_id == sandbox.ledger[-1].generation_id
