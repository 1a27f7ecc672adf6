"""
Maps codes and types of errors to statuses: digits, and the names that servers use.

No I/O and no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from airflow_provider_responses.exceptions import error_class_for_status

LONGEST_NAME: Final = 100  # characters; a longer text is no name

# Names without `_error` or `_exception` at their end. The first group of each status has those of OpenRouter (its
# `error_type`, and codes of failed responses), the second those of OpenAI, Anthropic, Google and compatible servers.
_NAMES: Final[Mapping[int, str]] = {
    400: """
        context_length_exceeded max_tokens_exceeded token_limit_exceeded string_too_long invalid_request invalid_prompt
        content_policy_violation refusal invalid_image image_too_large image_too_small unsupported_image_format
        image_download_failed invalid_image_format invalid_base64_image invalid_image_url image_parse
        image_content_policy_violation invalid_image_mode image_file_too_large unsupported_image_media_type
        empty_image_file failed_to_download_image cyber_policy misalignment_policy_violation

        bad_request context_window_exceeded string_above_max_length content_filter responsible_ai_policy_violation
        data_inspection_failed invalid_value invalid_type invalid_parameter invalid_argument invalid_json
        invalid_json_schema invalid_schema invalid_function_parameters invalid_encrypted_content invalid_model
        missing_required_parameter unknown_parameter unsupported unsupported_model unsupported_operation
        unsupported_parameter unsupported_params unsupported_value validation value failed_precondition out_of_range
        not_implemented unimplemented
        """,
    401: """
        authentication

        account_deactivated api_key_invalid auth expired_api_key expired_key expired_token incorrect_api_key
        invalid_api_key invalid_authentication invalid_key invalid_token missing_api_key no_db_connection
        token_expired token_not_found_in_db unauthenticated unauthorized
        """,
    402: """
        payment_required

        arrearage billing billing_hard_limit_reached billing_not_active budget_exceeded credit_balance_too_low
        exceeded_current_quota insufficient_balance insufficient_credits insufficient_funds insufficient_quota
        insufficient_user_quota
        """,
    403: """
        permission_denied bio_policy data_residency_mismatch

        access_denied access_terminated forbidden insufficient_permissions insufficient_scope key_model_access_denied
        model_access_denied org_model_access_denied permission region_restricted team_model_access_denied
        unsupported_country_region_territory user_model_access_denied
        """,
    404: """
        not_found image_not_found image_file_not_found

        deployment_not_found endpoint_not_found model_not_exist model_not_found no_such_model
        previous_response_not_found resource_not_found response_not_found route_not_found unknown_model
        """,
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    412: "precondition_failed",
    413: """
        payload_too_large

        content_too_large request_entity_too_large request_too_large tokens_limit_reached
        """,
    415: "unsupported_media_type",
    422: "unprocessable unprocessable_content unprocessable_entity",
    429: """
        rate_limit_exceeded

        rate_limit rate_limit_reached rate_limited requests resource_exhausted throttled throttling tokens
        too_many_requests
        """,
    500: """
        server unmapped

        api internal internal_server server_error unexpected unknown
        """,
    502: "provider_unavailable api_connection bad_gateway upstream",
    503: """
        provider_overloaded

        capacity_exhausted engine_overloaded model_loading model_overloaded overloaded server_overloaded
        service_unavailable slow_down temporarily_unavailable unavailable
        """,
    504: "timeout vector_store_timeout api_timeout deadline_exceeded gateway_timeout",
}
STATUS_OF_NAME: Final[Mapping[str, int]] = {name: status for status, names in _NAMES.items() for name in names.split()}
# Statuses and names that servers use for all errors without a specific name; any other name counts more.
GENERIC: Final = frozenset({400, 500})
_GENERIC_NAMES: Final = frozenset({"invalid_request", "bad_request", "value", "upstream", *_NAMES[500].split()})

TOO_LONG: Final = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "max_tokens_exceeded",
        "request_too_large",
        "string_above_max_length",
        "string_too_long",
        "token_limit_exceeded",
        "tokens_limit_reached",
    }
)
CONTENT: Final = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "data_inspection_failed",
        "image_content_policy_violation",
        "responsible_ai_policy_violation",
    }
)

_SUFFIXES: Final = ("_response_error", "_error", "_exception")
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PATH: Final = re.compile(r".*[./:#]")
_NO_WORD: Final = re.compile(r"[^a-zA-Z0-9]+")


class Cause(NamedTuple):
    """
    The cause of a failure that its error names.

    :param status: the status that stands for the cause.
    :param name: as in ``STATUS_OF_NAME``; None if the error has digits.
    :param is_generic: whether servers use it for all errors without a specific name.
    """

    status: int
    name: str | None = None
    is_generic: bool = False

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return error_class_for_status(self.status)[1]


def read_cause(value: Any) -> Cause | None:
    """Return the cause that a code or a type stands for, None if it is unknown."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Cause(value, is_generic=value in GENERIC) if 400 <= value < 600 else None
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        return None
    text = value.strip()
    if text.isascii() and text.isdecimal() and len(text) == 3:
        return read_cause(int(text))
    name = _plain(text)
    for known in (name, *(name.removesuffix(suffix) for suffix in _SUFFIXES)):
        if (status := STATUS_OF_NAME.get(known)) is not None:
            return Cause(status, known, is_generic=known in _GENERIC_NAMES)
    return None


def most_particular(causes: Iterable[Cause | None]) -> Cause | None:
    """
    Return the most particular of the causes that an error names.

    A name counts more than digits, and a particular cause more than a generic one. Of two generic ones the permanent
    one counts: a request that cannot succeed is not sent again.
    """
    known = [cause for cause in causes if cause is not None]
    return min(
        known,
        key=lambda cause: (cause.is_generic, cause.is_generic and cause.is_temporary, cause.name is None),
        default=None,
    )


def _plain(text: str) -> str:
    """Return a name as in the table, also that of ``litellm.RateLimitError`` and ``https://…/errors/rate-limit``."""
    last = text if " " in text else _PATH.sub("", text.rstrip("/"))
    return _NO_WORD.sub("_", _CAMEL.sub("_", last)).strip("_").lower()
