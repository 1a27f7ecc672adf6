"""The Test button of a connection: whether the server responds, accepts the key, and has ``/responses``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import APIError, TransportError, UnauthorizedResponseError

if TYPE_CHECKING:
    from airflow_provider_responses.client import ResponsesClient

MISSING_STATUSES: Final = frozenset({404, 405, 501})  # of a path that the server does not have
MISSING_PATH: Final = "/no-such-path"  # no server has it: one that accepts it accepts any path
UNKNOWN: Final = "cannot be determined without sending a request"

Result = tuple[bool, str]


def check_connection(client: ResponsesClient, missing: ResponsesClient) -> Result:
    """
    Return whether a connection works, and a sentence about it. Nothing is billed.

    On OpenRouter, ``/key`` shows the state of the key. Other servers do not have it: they are checked by the list of
    models and the path ``/responses``.

    :param missing: a client of the same server, with :data:`MISSING_PATH` at the end of its base URL.
    """
    url = client.config.base_url
    try:
        return _check_key(client) or _check_paths(client, missing)
    except UnauthorizedResponseError:
        return False, f"{url} rejects the key: check the connection's password, or create another key"
    except APIError as error:
        return False, str(error)
    except TransportError as error:
        return False, f"No connection to {url}: check the host. ({error})"


def _check_key(client: ResponsesClient) -> Result | None:
    """Return the result of ``/key``, None on a server without it."""
    try:
        key = client.get_key()
    except APIError as error:
        if client.config.is_openrouter and error.status_code not in MISSING_STATUSES:
            raise
        return None
    # Other servers may return a 200 for paths that they do not have.
    is_key = bool({"label", "limit", "usage"} & key.keys())
    return _key_sentence(key, is_openrouter=client.config.is_openrouter) if is_key else None


def _check_paths(client: ResponsesClient, missing: ResponsesClient) -> Result:
    """
    Return the result of ``/models`` and ``/responses`` together.

    ``/models`` shows that the server accepts the key, but servers of chat completions have it, too. ``/responses``
    shows that the server has the path, but often before it checks the key. If a path that no server has is accepted as
    well, ``/responses`` shows nothing.
    """
    url = client.config.base_url
    models = _models(client)
    has_responses = client.probe()
    if has_responses and missing.probe():
        has_responses = None
    if client.config.is_openrouter and models == []:
        return False, f"{url} responds, but with neither a key nor models: check the host"
    if has_responses:
        return True, f"Connected to {url} (a server without /key): {_describe_models(models)}"
    if models is None:
        if has_responses is False:
            return False, f"{url} responds, but has no /key, /models or /responses: check the host's path, such as /v1"
        return False, f"{url} responds, but has neither /key nor /models. Whether it has /responses {UNKNOWN}"
    if not models and has_responses is None:
        return False, f"{url} responds, but lists no models. Whether it has /responses {UNKNOWN}"
    listed = f"{url} lists {_count(models)}"
    if has_responses is None:
        return False, f"{listed}, but whether it has /responses {UNKNOWN}"
    return False, (
        f"{listed}, but GET /responses returns a 404: it probably offers chat completions only. A few servers have "
        f"that path for POST only; whether this is one of them {UNKNOWN}"
    )


def _models(client: ResponsesClient) -> list[dict[str, Any]] | None:
    """Return the models that the server lists, None if it has no ``/models``."""
    try:
        return client.get_models()
    except APIError as error:
        if error.status_code in MISSING_STATUSES:
            return None
        raise


def _describe_models(models: list[dict[str, Any]] | None) -> str:
    if models is None:
        return f"it has /responses. It lists no models, so whether it accepts the key {UNKNOWN}"
    named = ", ".join(str(model.get("id")) for model in models[:3])
    return f"{_count(models)}, such as {named}" if named else _count(models)


def _count(models: list[dict[str, Any]]) -> str:
    return "1 model" if len(models) == 1 else f"{len(models)} models"


def _key_sentence(key: Mapping[str, Any], *, is_openrouter: bool) -> Result:
    label = key.get("label") or "without label"
    limit, left, used = (_dollars(key.get(name)) for name in ("limit", "limit_remaining", "usage"))
    resets = f"resets {key['limit_reset']}" if key.get("limit_reset") else "does not reset"
    if limit is None or left is None:
        return True, f"Key {label}: works and has no limit; ${used or 0:.2f} used so far"
    if left <= 0:
        place = " at https://openrouter.ai/settings/keys" if is_openrouter else ""
        return False, (
            f"Key {label}: works, but its limit of ${limit:.2f} is used up ({resets}): raise it{place}, or use another "
            "key"
        )
    return True, f"Key {label}: works, ${left:.2f} of its limit of ${limit:.2f} is left ({resets})"


def _dollars(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
