"""What the Test button of a connection says: whether the server is there, takes the key, and has ``/responses``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import APIError, TransportError, UnauthorizedResponseError

if TYPE_CHECKING:
    from airflow_provider_responses.client import ResponsesClient

ABSENT: Final = frozenset({404, 405, 501})  # statuses of a path that is not there
NOWHERE: Final = "/no-such-path"  # what a server answers below it proves nothing
UNTOLD: Final = "cannot be determined without sending a request"

Result = tuple[bool, str]


def check_connection(client: ResponsesClient, nowhere: ResponsesClient) -> Result:
    """
    Return whether a connection works, and a sentence about it; nothing is billed.

    The key is asked for (``/key``), which is OpenRouter's alone; else the models, and whether ``/responses`` is there.

    :param nowhere: a client of the same server, with :data:`NOWHERE` at the end of its base URL.
    """
    where = client.config.base_url
    try:
        return _check_key(client) or _check_paths(client, nowhere)
    except UnauthorizedResponseError:
        return False, f"{where} refuses the key: check the connection's password, or make another key"
    except APIError as error:
        return False, str(error)
    except TransportError as error:
        return False, f"No connection to {where}: check the host. ({error})"


def _check_key(client: ResponsesClient) -> Result | None:
    """Return what the key's own page tells, None on a server without one."""
    try:
        key = client.get_key()
    except APIError as error:
        if client.config.is_openrouter and error.status_code not in ABSENT:
            raise
        return None
    # Other servers return a 200 with something for paths that they do not have.
    is_key = bool({"label", "limit", "usage"} & key.keys())
    return _key_sentence(key, is_openrouter=client.config.is_openrouter) if is_key else None


def _check_paths(client: ResponsesClient, nowhere: ResponsesClient) -> Result:
    """
    Put together what ``/models`` and ``/responses`` tell.

    The first shows that the key is taken, but servers for chat completions alone have it too; the second shows that the
    path is there, but often before any look at the key. A server that answers a path that nobody has like this one
    shows nothing.
    """
    where = client.config.base_url
    models = _models(client)
    has_responses = client.probe()
    if has_responses and nowhere.probe():
        has_responses = None
    if client.config.is_openrouter and models == []:
        return False, f"{where} answers, but with neither a key nor models: check the host"
    if has_responses:
        return True, f"Connected to {where} (a server without /key): {_shown(models)}"
    if models is None:
        if has_responses is False:
            return False, f"{where} answers, but has no /key, /models or /responses: check the host's path, such as /v1"
        return False, f"{where} answers, and has neither /key nor /models. Whether it has /responses {UNTOLD}"
    if not models and has_responses is None:
        return False, f"{where} answers, and lists no models. Whether it has /responses {UNTOLD}"
    listed = f"{where} lists {_count(models)}"
    if has_responses is None:
        return False, f"{listed}, but whether it has /responses {UNTOLD}"
    return False, (
        f"{listed}, but GET /responses is a 404 there: it probably offers chat completions alone. A few servers have "
        f"that path for POST only; whether this is one {UNTOLD}"
    )


def _models(client: ResponsesClient) -> list[dict[str, Any]] | None:
    """Return the models that the server lists, None if it has no list."""
    try:
        return client.get_models()
    except APIError as error:
        if error.status_code in ABSENT:
            return None
        raise


def _shown(models: list[dict[str, Any]] | None) -> str:
    if models is None:
        return f"/responses is there. It lists no models, so whether it takes the key {UNTOLD}"
    named = ", ".join(str(model.get("id")) for model in models[:3])
    return f"{_count(models)}, such as {named}" if named else _count(models)


def _count(models: list[dict[str, Any]]) -> str:
    return "1 model" if len(models) == 1 else f"{len(models)} models"


def _key_sentence(key: Mapping[str, Any], *, is_openrouter: bool) -> Result:
    label = key.get("label") or "without label"
    limit, left, used = (_dollars(key.get(name)) for name in ("limit", "limit_remaining", "usage"))
    resets = f"resets {key['limit_reset']}" if key.get("limit_reset") else "does not reset"
    if limit is None or left is None:
        return True, f"Key {label}: works, has no limit; ${used or 0:.2f} used so far"
    if left <= 0:
        place = " at https://openrouter.ai/settings/keys" if is_openrouter else ""
        return False, (
            f"Key {label}: works, but its limit of ${limit:.2f} is used up ({resets}): raise it{place}, or take "
            "another key"
        )
    return True, f"Key {label}: works, ${left:.2f} of its limit of ${limit:.2f} is left ({resets})"


def _dollars(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
