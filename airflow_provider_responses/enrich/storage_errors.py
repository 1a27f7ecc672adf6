"""Errors of storage libraries as a ``StorageError`` that names the file and a remedy."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from airflow_provider_responses.exceptions import ResponsesError, StorageError

_MAX_LENGTH: Final = 300  # characters of a library's message
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_CREDENTIALS: Final = re.compile(
    r"no.?credentials|credentials? ?(not|were not) found|default.?credentials|partial.?credentials"
    r"|credential.?retrieval|unable to locate credentials|anonymous caller",
    re.IGNORECASE,
)
_EXPIRED: Final = re.compile(r"expired|invalid_grant|TokenRefreshRequired|InvalidToken|security token", re.IGNORECASE)
_UNREACHABLE: Final = re.compile(
    r"EndpointConnection|ConnectTimeout|ConnectionError|ConnectorError|ServiceRequestError|could not connect"
    r"|cannot connect|name or service not known|timed? ?out|timeout|connection (was )?(closed|reset|refused)",
    re.IGNORECASE,
)
_NO_BUCKET: Final = re.compile(
    r"NoSuchBucket|bucket does not exist|ContainerNotFound|container .*(does not|doesn't) exist|bucket .*not found",
    re.IGNORECASE,
)


@contextmanager
def naming(url: str, action: str, *, kinds: type[Exception] = Exception, is_object: bool = False) -> Iterator[None]:
    """
    Raise a storage's errors as one that names the file.

    :param action: completes "cannot be": read, written, …
    :param kinds: the storage's errors: ``OSError`` on local disk. Libraries have classes of their own.
    :param is_object: whether an object is written. Stores have no folders, so a missing one means the bucket.
    :raises StorageError: in place of the storage's error.
    """
    try:
        yield
    except ResponsesError:
        raise
    except kinds as error:
        hint, retryable = _hint(error, url, is_object=is_object)
        raise StorageError(
            f"{url} cannot be {action} ({_text(error)}): {hint}",
            path=url,
            retryable=retryable,
        ) from error


def refuses_create(error: BaseException) -> bool:
    """Return whether a store refused to create a file that is there, or is being created."""
    if isinstance(error, FileExistsError):
        return True
    # s3fs raises FileExistsError only if the server names the condition.
    return _status(error) == 412 or _code(error) in {"PreconditionFailed", "ConditionalRequestConflict"}


def _hint(error: BaseException, url: str, *, is_object: bool) -> tuple[str, bool]:
    """Return the remedy, and whether a retry may help."""
    text = " ".join(f"{type(cause).__name__} {cause} {_code(cause)}" for cause in _causes(error))
    number = getattr(error, "errno", None)
    if number in _FULL:
        return "there is no space left; free some, or use another output_path (a copy of the result is in TMPDIR)", True
    if _NO_BUCKET.search(text) or (is_object and isinstance(error, FileNotFoundError)):
        return "there is no such bucket or container; create it, or correct output_path", False
    if _NO_CREDENTIALS.search(text):
        return f"there are no credentials; {_connection(url)}, or give the worker credentials", True
    # A HEAD has no body, so s3fs reports an expired token as a bad request.
    if _EXPIRED.search(text) or (number == errno.EINVAL and "Bad Request" in text):
        return f"the credentials may have expired; renew them ({_connection(url)}), then a retry continues", True
    if isinstance(error, PermissionError) or _status(error) in {401, 403} or number == errno.EROFS:
        return (
            "it is not allowed; let the worker list, read, write and delete under output_path, or use another",
            True,
        )
    if isinstance(error, (ConnectionError, TimeoutError)) or _UNREACHABLE.search(text):
        return "the store cannot be reached; check its endpoint and region, then a retry continues", True
    if isinstance(error, (ImportError, ValueError, NotImplementedError, TypeError)):
        return "the storage library of the worker cannot do this; install or update it", True
    return "a retry continues with the saved responses; if this persists, use another output_path", True


def _connection(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return "check the account that the worker runs under"
    name, at, _ = rest.partition("/")[0].rpartition("@")
    if at:
        return f"check the connection {name!r}"
    return f"name a connection in output_path, as in {scheme}://my_connection@{rest.partition('/')[0]}/…"


def _text(error: BaseException) -> str:
    """Return an error's class and message in one line, without the queries of URLs, which may be signed."""
    message = re.sub(r"\?[^\s'\"]*=[^\s'\"]*", "?…", " ".join(str(error).split()))
    message = message if len(message) <= _MAX_LENGTH else message[: _MAX_LENGTH - 1] + "…"
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _status(error: BaseException) -> int | None:
    """Return the HTTP status, wherever a library keeps it."""
    for cause in _causes(error):
        for name in ("status_code", "status", "code"):
            value = getattr(cause, name, None)
            if isinstance(value, int) and not isinstance(value, bool):
                return value
        if isinstance(response := getattr(cause, "response", None), dict):
            value = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(value, int):
                return value
    return None


def _code(error: BaseException) -> str:
    """Return the store's code of an error, empty if there is none."""
    for cause in _causes(error):
        if isinstance(response := getattr(cause, "response", None), dict):
            return str(response.get("Error", {}).get("Code", ""))
        if isinstance(code := getattr(cause, "error_code", None), str):
            return str(code)
    return ""
