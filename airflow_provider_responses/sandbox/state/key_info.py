"""The data of ``GET /key``: limit, usage and label of a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

KEY_DEFAULTS: Final[dict[str, Any]] = {
    "label": "sandbox",
    "limit": None,
    "limit_reset": None,
    "byok_usage": 0.0,
    "byok_usage_daily": 0.0,
    "byok_usage_weekly": 0.0,
    "byok_usage_monthly": 0.0,
    "is_free_tier": False,
    "is_management_key": False,
    "is_provisioning_key": False,
    "include_byok_in_limit": False,
    "creator_user_id": None,
    "expires_at": None,
    "rate_limit": {"requests": -1, "interval": "10s", "note": "deprecated"},
}
KEY_COMPUTED: Final = ("limit_remaining", "usage", "usage_daily", "usage_weekly", "usage_monthly")
KEY_FIELDS: Final = (*KEY_DEFAULTS, *KEY_COMPUTED)


def parse_key_fields(fields: Any) -> dict[str, Any]:
    """
    Return fields that ``GET /key`` is to return.

    :raises ValueError: naming a field that a key does not have.
    """
    if not isinstance(fields, Mapping):
        raise ValueError(  # noqa: TRY004  one kind for callers
            f"a key must be an object with any of {', '.join(KEY_FIELDS)}, got {fields!r}"
        )
    if unknown := sorted(set(fields) - {*KEY_FIELDS}):
        raise ValueError(f"{unknown[0]!r} is not a field of a key: the fields are {', '.join(KEY_FIELDS)}")
    return dict(fields)


def key_info(fields: dict[str, Any], spent: float) -> dict[str, Any]:
    """
    Return the data of ``GET /key``.

    :param fields: those that were set, in place of their defaults or of the computed values.
    :param spent: US dollars that were billed to the key.
    """
    data = KEY_DEFAULTS | fields
    usage = round(float(fields.get("usage", spent)), 12)
    remaining = None if data["limit"] is None else round(max(0.0, data["limit"] - usage), 12)
    return data | dict.fromkeys(KEY_COMPUTED, usage) | {"limit_remaining": remaining} | fields
