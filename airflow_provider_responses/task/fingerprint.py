"""The fingerprint of a request: the same for the same prompt, in every execution mode and DAG run. No text is in it."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import RequestValidationError

if TYPE_CHECKING:
    from airflow_provider_responses.task.request import TaskRequest

LENGTH: Final = 8  # bytes, as that of an enrichment's prompt
# They identify the caller, or one request among others, and not the prompt.
_LEFT_OUT: Final = frozenset({"metadata", "user"})


def prompt_fingerprint(request: TaskRequest | None) -> str | None:
    """Return 16 hex digits, None without a request, or for one that cannot be sent."""
    if request is None:
        return None
    digest = blake2b(digest_size=LENGTH)
    fields = {name: value for name, value in request.fields.items() if name not in _LEFT_OUT}
    if request.contents:
        fields = _with_digests(fields, {name: content.digest() for name, content in request.contents.items()})
    try:
        _update(digest, {"fields": fields, "output_format": request.text_format()})
    except (RecursionError, RequestValidationError):
        return None  # the request is refused before it is sent
    return digest.hexdigest()


def _with_digests(value: Any, digests: Mapping[str, str]) -> Any:
    """Return a value in which digests are in place of the texts that stand for contents of files."""
    if isinstance(value, str):
        for name, digest in digests.items():
            value = value.replace(name, digest)
        return value
    if isinstance(value, Mapping):
        return {name: _with_digests(item, digests) for name, item in value.items()}
    return [_with_digests(item, digests) for item in value] if isinstance(value, (list, tuple)) else value


def _update(digest: Any, value: Any) -> None:
    """Add a value to a digest. Not by its JSON, which would be a copy of a large input."""
    if isinstance(value, str):
        data = value.encode(errors="surrogatepass")
        digest.update(b"%ds" % len(data))
        digest.update(data)
    elif isinstance(value, Mapping):
        digest.update(b"%dm" % len(value))
        for name in sorted(value, key=str):  # PostgreSQL's JSON has keys in an order of its own
            _update(digest, str(name))
            _update(digest, value[name])
    elif isinstance(value, (list, tuple)):
        digest.update(b"%dl" % len(value))
        for item in value:
            _update(digest, item)
    else:
        is_plain = value is None or isinstance(value, (bool, int, float))
        text = repr(value) if is_plain else type(value).__qualname__
        digest.update(b"%dv" % len(text))
        digest.update(text.encode())
