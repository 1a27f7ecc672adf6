"""Finds what may be a secret in a request, which then does not go to the triggerer by way of Airflow's database."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from airflow_provider_responses.client.config import RequestOptions, secret_headers
from airflow_provider_responses.models.fields import SECRETS
from airflow_provider_responses.task.escalation import Escalation

# Parts of JSON schemas whose keys users choose.
_NAMED_BY_USERS: Final = frozenset(
    {"properties", "patternProperties", "dependentRequired", "dependentSchemas", "$defs", "definitions"}
)


def find_secret(options: Any, fields: Any, escalations: Sequence[Escalation] = ()) -> str | None:
    """Return which of a task's options or of its requests' fields may be a secret, None if none is."""
    headers = RequestOptions.to_dict(options).get("headers")
    header = next(iter(secret_headers(headers)), None) if isinstance(headers, Mapping) else None  # or it is a template
    requests = [("request", fields), *((f"escalate[{n}].request", it.request) for n, it in enumerate(escalations))]
    found = (
        f"options.headers holds {header!r}"
        if header
        else next(filter(None, (_find_secret_field(given, path) for path, given in requests)), None)
    )
    hint = ": put it into the connection's extra_headers" if header else ""
    return f"{found}, and a trigger's row may hold no secret{hint}" if found else None


def _find_secret_field(value: Any, path: str) -> str | None:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        if name := next((name for name in value if name in SECRETS and value[name]), None):
            return f"{path} holds {name!r}"
        items = ((name, item) for name, item in value.items() if name not in _NAMED_BY_USERS)
    elif isinstance(value, Collection) and not isinstance(value, (str, bytes)):
        items = enumerate(value)
    return next(filter(None, (_find_secret_field(item, f"{path}.{name}") for name, item in items)), None)
