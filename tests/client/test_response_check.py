"""Status, headers and body become a response, or the error in the table."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses import exceptions
from airflow_provider_responses.client import server_errors
from airflow_provider_responses.client.request_summary import RequestSummary
from airflow_provider_responses.client.response_check import check_response, read_json
from airflow_provider_responses.client.retry_after import read_retry_after
from airflow_provider_responses.exceptions import (
    APIError,
    ForbiddenResponseError,
    IncompleteResponseError,
    RefusalError,
    ResponsesError,
)
from airflow_provider_responses.models import Response

from .wire import result

WHAT = "POST https://openrouter.ai/api/v1/responses (model maker/small-1)"
REQUEST = RequestSummary(label=WHAT, is_openrouter=True)

# status, class, retryable, advice in the message
TABLE = [
    (400, "BadRequestResponseError", False, "Correct the request"),
    (401, "UnauthorizedResponseError", False, "API key"),
    (402, "PaymentRequiredResponseError", False, "https://openrouter.ai/settings/credits"),
    (402, "PaymentRequiredResponseError", False, "what remains of the limit"),
    (403, "ForbiddenResponseError", False, "the key may not do this"),
    (404, "NotFoundResponseError", False, "model's name"),
    (408, "RequestTimeoutResponseError", True, "if this persists"),
    (413, "PayloadTooLargeResponseError", False, "Send less"),
    (422, "UnprocessableEntityResponseError", False, "Correct the request"),
    (429, "TooManyRequestsResponseError", True, "wait"),
    (500, "InternalServerResponseError", True, "if this persists"),
    (502, "BadGatewayResponseError", True, "if this persists"),
    (503, "ServiceUnavailableResponseError", True, "if this persists"),
    (524, "EdgeNetworkTimeoutResponseError", True, "if this persists"),
    (529, "ProviderOverloadedResponseError", True, "if this persists"),
    (409, "APIError", True, "if this persists"),
    (425, "APIError", True, "if this persists"),
    (410, "APIError", False, "Correct the request"),
    (504, "APIError", True, "if this persists"),
    (599, "APIError", True, "if this persists"),
    (307, "APIError", False, "redirects are not followed"),
]


def error_of(
    status: int, body: Any, headers: dict[str, str] | None = None, *, request: RequestSummary = REQUEST
) -> exceptions.ResponsesError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server_errors.error_from_response(status, headers or {}, data, request=request)


def failed(**changes: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        check_response(Response(raw=result(status="failed", output=[], **changes)), request=REQUEST)
    return caught.value


@pytest.mark.parametrize(("status", "name", "retryable", "advice"), TABLE)
def test_a_status_becomes_its_class_with_its_fields_and_advice(
    status: int, name: str, retryable: bool, advice: str
) -> None:
    body = {
        "error": {
            "code": "the_code",
            "message": "reported",
            "metadata": {"provider_name": "Maker", "raw": "upstream words", "provider_code": "up_1"},
            "availability": {"code": "capacity_exhausted", "retry_after": 3},
            "error_type": "some_type",
        },
        "openrouter_metadata": {"attempt": 2},
        "user_id": "user_1",
    }
    error = error_of(status, body, {"retry-after": "7", "x-generation-id": "gen-1"})
    assert type(error).__name__ == name
    assert (error.status_code, error.retryable, error.code) == (status, retryable, "the_code")
    assert (error.error_type, error.retry_after, error.generation_id) == ("some_type", 7.0, "gen-1")
    assert error.metadata == body["error"]["metadata"]
    assert error.availability == body["error"]["availability"]
    assert error.openrouter_metadata == {"attempt": 2}
    assert not error.ambiguous
    for part in (WHAT, str(status), "reported", "Maker reported: upstream words", "up_1"):
        assert part in str(error)
    assert advice.lower() in str(error).lower()


@pytest.mark.parametrize("place", ["error", "envelope"])
def test_the_error_type_is_read_in_either_place(place: str) -> None:
    body: dict[str, Any] = {"error": {"code": 400, "message": "m"}}
    (body["error"] if place == "error" else body)["error_type"] = "invalid_prompt"
    assert error_of(400, body).error_type == "invalid_prompt"


@pytest.mark.parametrize(("status", "retryable"), [(400, True), (404, True), (503, False), (429, False)])
def test_availability_overrides_the_table(status: int, retryable: bool) -> None:
    error = error_of(status, {"error": {"message": "m", "availability": {"retryable": retryable}}})
    assert error.retryable is retryable
    if status == 503:
        assert "same request fails again" in str(error)
    if not retryable:
        assert "if this persists" not in str(error).lower()


@pytest.mark.parametrize("value", [None, "yes", 1])
def test_availability_that_is_no_boolean_overrides_nothing(value: Any) -> None:
    assert error_of(503, {"error": {"message": "m", "availability": {"retryable": value}}}).retryable


def test_a_404_lists_the_models_to_use_instead() -> None:
    availability = {"code": "model_deprecated", "fallback_models": ["maker/new", "maker/newer"]}
    error = error_of(404, {"error": {"message": "m", "availability": availability}})
    assert "maker/new, maker/newer" in str(error)


def test_the_errors_of_each_provider_are_in_the_message() -> None:
    metadata = {"previous_errors": [{"code": 500, "message": "first provider"}], "reasons": ["violence"]}
    error = error_of(403, {"error": {"message": "m", "metadata": metadata}})
    assert "first provider" in str(error)
    assert "violence" in str(error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty body"),
        (b"  \n", "empty body"),
        (b"<html>Bad gateway</html>", "<html>Bad gateway</html>"),
        (b"\xff\xfe\x00binary", "bytes beginning"),
        (b"null", "null"),
        (b"[1, 2]", "a JSON list"),
        (b'"text"', "text"),
        (b'{"error": "plain words"}', "plain words"),
        (b'{"error": null, "message": "beside it"}', "beside it"),
        (b'{"message": "at the top"}', "at the top"),
        (b'{"detail": "elsewhere"}', "elsewhere"),
        (b'{"error": {"message": 5}}', "no message"),
        (b'{"error": []}', "error"),
        (b'{"error": {"message": "cut', "cut"),
    ],
)
def test_any_body_makes_an_error_with_a_message(body: bytes, message: str) -> None:
    error = error_of(502, body)
    assert type(error) is exceptions.BadGatewayResponseError
    assert message in str(error)


@given(st.binary(max_size=60), st.integers(300, 599))
def test_no_body_of_bytes_raises_anything_else(body: bytes, status: int) -> None:
    assert error_of(status, body).status_code == status


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ERROR_KEYS = ["code", "message", "metadata", "error_type", "availability"]
INNER_KEYS = ["retryable", "retry_after", "fallback_models", "provider_name", "raw", "provider_code", "reasons"]
error_objects = st.dictionaries(
    st.sampled_from(ERROR_KEYS), json_values | st.dictionaries(st.sampled_from(INNER_KEYS), json_values)
)


@given(error_objects, st.integers(300, 599))
def test_no_shape_of_an_envelope_raises_anything_else(error: dict[str, Any], status: int) -> None:
    made = error_of(status, {"error": error, "openrouter_metadata": error})
    assert made.status_code == status
    assert made.retry_after is None or made.retry_after >= 0


@given(error_objects, st.sampled_from(["failed", None]))
def test_no_shape_of_a_failed_response_raises_anything_else(error: dict[str, Any], status: str | None) -> None:
    with pytest.raises(APIError):
        check_response(Response(raw={"status": status, "error": error}), request=REQUEST)


def test_huge_bodies_and_words_are_cut() -> None:
    words = "w" * 1_000_000
    for body in (words.encode(), {"error": {"message": words, "metadata": {"raw": words, "reasons": [words]}}}):
        assert len(str(error_of(500, body))) < 5_000


@pytest.mark.parametrize(
    ("headers", "availability", "seconds"),
    [
        ({}, None, None),
        ({"retry-after": "7"}, None, 7.0),
        ({"retry-after": "0"}, None, 0.0),
        ({"retry-after": "1.5"}, None, 1.5),
        ({"retry-after-ms": "1500"}, None, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "1"}, None, 1.5),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:28:10 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"},
            None,
            10.0,
        ),
        (
            {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:28:10 GMT"},
            None,
            0.0,
        ),
        ({}, {"retry_after": 12}, 12.0),
        ({"retry-after": "5"}, {"retry_after": 12}, 12.0),
        ({"retry-after": "20"}, {"retry_after": 12}, 20.0),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after": "-5"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "inf"}, None, None),
        ({"retry-after": ""}, {"retry_after": None}, None),
        ({}, {"retry_after": "later"}, None),
        ({}, {"retry_after": True}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "now"}, None, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00", "date": "Wed, 21 Oct 2026 07:28:10 GMT"}, None, None),
    ],
)
def test_the_wait_that_the_server_names_is_read_in_every_form(
    headers: dict[str, str], availability: dict[str, Any] | None, seconds: float | None
) -> None:
    assert read_retry_after(headers, availability) == seconds


@given(st.text(max_size=30), st.text(max_size=30), json_values)
def test_no_form_of_that_wait_raises(text: str, date: str, value: Any) -> None:
    headers = {"retry-after": text, "retry-after-ms": date, "date": date}
    wait = read_retry_after(headers, {"retry_after": value})
    assert wait is None or wait >= 0


# --- failures inside a 200

OF_TYPE = {
    400: "context_length_exceeded max_tokens_exceeded token_limit_exceeded string_too_long invalid_request "
    "invalid_prompt content_policy_violation refusal invalid_image image_too_large image_too_small "
    "unsupported_image_format image_download_failed",
    401: "authentication",
    402: "payment_required",
    403: "permission_denied",
    404: "not_found image_not_found",
    412: "precondition_failed",
    413: "payload_too_large",
    422: "unprocessable",
    429: "rate_limit_exceeded",
    500: "server unmapped",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
}
OF_CODE = {
    500: "server_error something_new",
    429: "rate_limit_exceeded",
    504: "vector_store_timeout",
    403: "bio_policy data_residency_mismatch",
    404: "image_file_not_found",
    400: "invalid_prompt invalid_image invalid_image_format invalid_base64_image invalid_image_url image_too_large "
    "image_too_small image_parse_error image_content_policy_violation invalid_image_mode image_file_too_large "
    "unsupported_image_media_type empty_image_file failed_to_download_image",
}


def flat(table: dict[int, str]) -> list[tuple[str, int]]:
    return [(name, status) for status, names in table.items() for name in names.split()]


@pytest.mark.parametrize(("error_type", "status"), flat(OF_TYPE))
def test_a_failure_inside_a_200_has_the_class_of_its_error_type(error_type: str, status: int) -> None:
    error = failed(error={"code": "server_error", "message": "reported"}, error_type=error_type)
    cls, retryable = exceptions.error_class_for_status(status)
    assert (type(error), error.status_code, error.retryable) == (cls, status, retryable)
    assert (error.error_type, error.code) == (error_type, "server_error")
    assert "reported" in str(error)
    assert error.response is not None
    assert error.response.usage.cost == 0.5


@pytest.mark.parametrize(("code", "status"), [*flat(OF_CODE), (None, 500), (429, 429), (404, 404), (200, 500)])
def test_without_an_error_type_the_code_decides(code: Any, status: int) -> None:
    for error_type in (None, "unheard_of"):
        error = failed(error={"code": code, "message": "m"}, error_type=error_type)
        assert (type(error), error.status_code) == (exceptions.error_class_for_status(status)[0], status)


@pytest.mark.parametrize("error", [None, "words", [], {}])
def test_a_failure_without_an_error_is_a_failure(error: Any) -> None:
    assert failed(error=error).status_code == 500


def test_an_error_in_a_200_without_a_status_is_a_failure() -> None:
    with pytest.raises(exceptions.TooManyRequestsResponseError, match="slow down"):
        check_response(Response(raw={"error": {"code": 429, "message": "slow down"}}), request=REQUEST)


@pytest.mark.parametrize(("status", "retryable"), [("queued", False), ("in_progress", False), ("cancelled", True)])
def test_a_response_that_is_not_ready_is_a_failure(status: str, retryable: bool) -> None:
    with pytest.raises(APIError, match=status) as caught:
        check_response(Response(raw=result(status=status)), request=REQUEST)
    assert (caught.value.retryable, caught.value.ambiguous) == (retryable, retryable)
    assert caught.value.response is not None


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("MAX_TOKENS", "raise `max_output_tokens`"),
        ("CONTENT_FILTER", "change the input or the model"),
        ("max_output_tokens", "raise `max_output_tokens`"),
        ("max_tokens", "raise `max_output_tokens`"),
        ("length", "raise `max_output_tokens`"),
        ("content_filter", "change the input or the model"),
        ("something_new", "something_new"),
        (None, "unknown"),
    ],
)
def test_a_truncated_response_keeps_its_output(reason: str | None, advice: str) -> None:
    raw = result("the begin", status="incomplete", incomplete_details={"reason": reason})
    with pytest.raises(IncompleteResponseError, match=advice) as caught:
        check_response(Response(raw=raw), request=REQUEST)
    assert caught.value.response is not None
    assert caught.value.response.output_text == "the begin"
    assert not caught.value.retryable
    assert "the begin" not in str(caught.value)


@pytest.mark.parametrize(
    ("most", "advice"), [(2, "raise `max_output_tokens`"), (3, "change the request"), (None, "change the request")]
)
def test_without_a_reason_the_token_limit_is_the_reason(most: int | None, advice: str) -> None:
    request = RequestSummary(label=WHAT, max_output_tokens=most)
    with pytest.raises(IncompleteResponseError, match=advice):
        check_response(Response(raw=result(status="incomplete")), request=request)


@pytest.mark.parametrize(
    ("most", "status", "marked"),
    [
        (2, "completed", True),
        (1, "completed", False),
        (2, None, True),
        (3, "completed", False),
        (None, "completed", False),
    ],
)
def test_a_response_as_long_as_allowed_may_be_truncated(
    most: int | None, status: str | None, marked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    response = Response(raw=result("the text", status=status))
    request = RequestSummary(label=WHAT, max_output_tokens=most)
    checked = check_response(response, request=request)
    assert checked.maybe_truncated is marked
    assert check_response(checked, request=request) is checked
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == marked
    assert all("raise `max_output_tokens`" in line and WHAT in line and "the text" not in line for line in lines)


def test_a_content_filter_without_an_error_is_not_retried() -> None:
    with pytest.raises(IncompleteResponseError, match="content filter") as caught:
        check_response(Response(raw=result("the begin", status="failed")), request=REQUEST)
    assert caught.value.response is not None
    assert (caught.value.retryable, caught.value.response.output_text) == (False, "the begin")


def test_a_failure_after_output_may_have_been_billed() -> None:
    text, counted = result()["output"], result()["usage"]
    for output, usage, ambiguous in (
        ([], None, False),
        ([], {"input_tokens": 0, "output_tokens": 0}, False),
        ([], {**counted, "cost": 0}, False),
        ([{"type": "message", "content": []}], None, False),
        ([], {"output_tokens": 2}, True),
        ([], counted, True),
        (text, None, True),
    ):
        raw = result(status="failed", error={"code": "server_error", "message": "m"}, output=output, usage=usage)
        with pytest.raises(APIError) as caught:
            check_response(Response(raw=raw), request=REQUEST)
        assert caught.value.ambiguous is ambiguous


def test_the_text_of_a_refusal_is_in_the_response_alone() -> None:
    content = [{"type": "refusal", "refusal": "I won't."}]
    with pytest.raises(RefusalError, match="refused") as caught:
        check_response(Response(raw=result(output=[{"type": "message", "content": content}])), request=REQUEST)
    assert caught.value.response is not None
    assert caught.value.response.refusal == "I won't."
    assert "I won't" not in str(caught.value)


@pytest.mark.parametrize("raw", [{}, {"choices": []}, {"status": None}, {"output": "text"}])
def test_json_that_is_no_response_is_an_error(raw: dict[str, Any]) -> None:
    with pytest.raises(APIError, match="base URL"):
        check_response(Response(raw=raw), request=REQUEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": None},
        {"output": []},
        {"output": None},
        {"status": "a_status_unknown"},
        {"status": None},
        {"error": []},
        {"incomplete_details": "none"},
        {"output": [{"type": "item_unknown"}, None, "text"]},
    ],
    ids=str,
)
def test_a_paid_response_is_never_lost_over_its_shape(changes: dict[str, Any]) -> None:
    response = Response(raw=result(**changes))
    if changes != {"output": None}:
        assert check_response(response, request=REQUEST) is response
    else:
        assert check_response(response, request=REQUEST).output_text == ""


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"id": "resp', b"\xff"])
def test_a_good_status_with_a_mangled_body_may_have_been_billed(body: bytes) -> None:
    with pytest.raises(APIError, match="expected a complete JSON object with status 200, got ") as caught:
        read_json(200, {"x-generation-id": "gen-1"}, body, request=REQUEST)
    error: ResponsesError = caught.value
    assert (error.retryable, error.ambiguous, error.generation_id) == (True, True, "gen-1")


def test_a_body_padded_with_white_space_is_read() -> None:
    assert read_json(200, {}, b" \n\n" * 500 + b'{"id": "resp_1"}\n', request=REQUEST) == {"id": "resp_1"}


@pytest.mark.parametrize(
    ("metadata", "routing", "kind", "advice"),
    [
        ({"patterns": ["email"]}, None, "guardrail-blocked", "A guardrail of the account blocked it"),
        ({}, {"pipeline": [{"type": "guardrail"}]}, "guardrail-blocked", "A guardrail of the account blocked it"),
        ({"reasons": ["violence"], "flagged_input": "secret words"}, None, "moderation", "moderation blocked it"),
        ({"flagged_input": "secret words"}, None, "moderation", "moderation blocked it"),
        ({}, None, "insufficient-permissions", "The key may not do this"),
    ],
)
def test_the_kinds_of_403_differ(
    metadata: dict[str, Any], routing: dict[str, Any] | None, kind: str, advice: str
) -> None:
    body = {"error": {"code": 403, "message": "no", "metadata": metadata}, "openrouter_metadata": routing}
    error = server_errors.error_from_response(403, {}, json.dumps(body).encode(), request=REQUEST)
    assert isinstance(error, ForbiddenResponseError)
    assert error.kind == kind
    assert error.patterns == metadata.get("patterns", [])
    assert error.pipeline == (routing or {}).get("pipeline", [])
    assert error.reasons == metadata.get("reasons", [])
    assert error.flagged_input == metadata.get("flagged_input")
    assert advice in str(error)
    assert "secret words" not in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "error_type", "availability", "retryable"),
    [
        (400, "rate_limit_exceeded", None, True),
        (429, "payment_required", None, False),
        (429, "payment_required", True, True),
        (503, "provider_overloaded", False, False),
        (503, "a_type_unknown", None, True),
    ],
)
def test_availability_overrides_the_error_type_which_overrides_the_status(
    status: int, error_type: str, availability: bool | None, retryable: bool
) -> None:
    body: dict[str, Any] = {"error": {"message": "no"}, "error_type": error_type}
    if availability is not None:
        body["error"]["availability"] = {"retryable": availability}
    error = server_errors.error_from_response(status, {}, json.dumps(body).encode(), request=REQUEST)
    assert error.retryable is retryable


def test_a_date_to_wait_for_is_read_without_the_servers_clock_too() -> None:
    in_an_hour = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3000 < (read_retry_after({"retry-after": in_an_hour}) or 0) <= 3600
    assert read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_a_request_to_a_server_that_only_streams_is_not_sent_again_and_the_error_explains_why() -> None:
    with pytest.raises(APIError, match="set stream=True") as caught:
        read_json(200, {}, b"null", request=REQUEST)
    assert (caught.value.retryable, caught.value.ambiguous) == (False, True)


def test_more_tokens_than_the_limit_are_no_sign_of_truncation() -> None:
    # One proxy raises a small limit silently.
    request = RequestSummary(label=WHAT, max_output_tokens=4)
    for count, marked in ((3, False), (4, True), (5, False)):
        usage = {"input_tokens": 1, "output_tokens": count, "total_tokens": count + 1}
        assert check_response(Response(raw=result(usage=usage)), request=request).maybe_truncated is marked


CALL = {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}


def test_a_response_that_ended_inside_its_reasoning_is_no_success() -> None:
    with pytest.raises(
        IncompleteResponseError, match="raise `max_output_tokens` or lower the reasoning effort"
    ) as caught:
        check_response(Response(raw=result(output=[THOUGHT, THOUGHT])), request=REQUEST)
    assert caught.value.response is not None
    assert (caught.value.retryable, caught.value.response.status) == (False, "incomplete")
    for other in (CALL, {"type": "image_generation_call", "result": "x"}, {"type": "unknown"}, *result()["output"]):
        check_response(Response(raw=result(output=[THOUGHT, other])), request=REQUEST)
    check_response(Response(raw=result(output=[THOUGHT], output_text="Hello")), request=REQUEST)


def test_a_truncated_body_is_described_as_the_beginning_of_an_object() -> None:
    with pytest.raises(
        APIError, match="expected a complete JSON object with status 200, got 14 bytes, the beginning of a JSON object"
    ):
        read_json(200, {}, b'{"id": "resp_1', request=REQUEST)
