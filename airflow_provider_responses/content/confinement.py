"""
Which files a path may name: those under ``files_root``, whatever the path holds. No I/O.

A path from data can be hostile. So this module does not repair one: a path of an unusual form is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.validation import cut

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SEPARATORS: Final = re.compile(r"[/\\]")
_SECRET: Final = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
MAX_LENGTH: Final = 4096  # bytes of a path; Linux and object stores accept no longer one
LOCAL: Final = frozenset({"", "file", "local"})


@dataclass(frozen=True)
class Location:
    """
    A path in its parts.

    :param scheme: in lower case; empty on this machine.
    :param connection: the connection id before ``@``, None without one.
    :param container: the bucket; empty on this machine.
    :param segments: the names below that.
    """

    scheme: str
    connection: str | None
    container: str
    segments: tuple[str, ...]


def shown_path(path: Any) -> str:
    """Return a path for a message, without passwords and without the query of a URL, which may be signed."""
    text = str(path)
    if "://" in text:
        text = _SECRET.sub(r"\1:…@", text)
        head, mark, _ = text.partition("?")
        text = f"{head}?…" if mark else head
    return cut(text.encode(errors="backslashreplace").decode())


def path_under(root: str, path: str) -> str:
    """
    Return the full path of a file under a root.

    :param path: relative to the root, or complete.
    :raises RequestValidationError: if it names another place, or is of an unusual form.
    """
    base = parse_root(root)
    names = _names_below(base, path) if (reason := _unusual(path)) is None else None
    if names is None:
        raise RequestValidationError(
            f"{shown_path(path)!r} {reason or 'is not under files_root'}: a path from data must lie under files_root, "
            f"{shown_path(root)}. Correct the path, or move the file there",
            fields=("files_root",),
        )
    return f"{root.rstrip('/')}/{'/'.join(names)}"


def parse_root(root: str) -> Location:
    """
    Return a root in its parts.

    :raises RequestValidationError: if it is no folder that confines anything.
    """
    found = _locate(root.rstrip("/")) if _unusual(root.rstrip("/")) is None else None
    if found is None or (found.scheme and not found.container) or not (found.scheme or found.segments):
        raise RequestValidationError(
            f"files_root must be a folder, such as s3://my_connection@bucket/folder, got {shown_path(root)!r}",
            fields=("files_root",),
        )
    return found


def is_below(names: str, root: str) -> bool:
    """Return whether a path of a storage library, such as ``bucket/folder/name``, lies below another."""
    return names.startswith(f"{root.rstrip('/')}/") and ".." not in names.split("/")


def _unusual(path: str) -> str | None:
    """Return why a path is refused, whatever the root is."""
    rest = found[2] if (found := _SCHEME.fullmatch(path)) else path
    problems = {
        "has characters that are no Unicode text": _SURROGATE.search(path),
        f"has more than {MAX_LENGTH} bytes": len(path.encode(errors="replace")) > MAX_LENGTH,
        "is empty": not path.strip(),
        "begins or ends with white space": path != path.strip(),
        "has a URL inside": "://" in rest,
        "ends with a slash, as a folder": path.endswith("/"),
        "has an empty part": "//" in rest,
    }
    if reason := next((reason for reason, is_so in problems.items() if is_so), None):
        return reason
    readings = (path, unquote(path), unquote(unquote(path)))
    return next((reason for text in readings if (reason := _unusual_part(text, path.count("/")))), None)


def _unusual_part(text: str, slashes: int) -> str | None:
    """Return why one reading of a path is refused; a decoded one must not have more slashes than the path."""
    if _CONTROL.search(text):
        return "has control characters"
    if "::" in text:
        return "is a chain of URLs"
    if not {".", ".."}.isdisjoint(_SEPARATORS.split(text)):
        return "has a part '.' or '..'"
    return "has a backslash or an encoded slash" if text.count("/") != slashes or "\\" in text else None


def _locate(path: str) -> Location | None:
    """Return a complete path in its parts, None for a relative one or a file:// URL of another machine."""
    found = _SCHEME.fullmatch(path)
    if found is None:
        if not path.startswith(("/", "~/")):
            return None
        return Location("", None, "", tuple(path.strip("/").split("/")) if path.strip("/") else ())
    scheme, rest = found[1].lower(), found[2]
    container, _, key = rest.partition("/")
    if scheme in LOCAL:
        if container not in {"", "localhost"}:
            return None
        return Location("", None, "", tuple(key.split("/")) if key else ())
    name, at, bucket = container.rpartition("@")
    return Location(scheme, name if at else None, bucket, tuple(key.split("/")) if key else ())


def _names_below(base: Location, path: str) -> tuple[str, ...] | None:
    """Return the names of a path below a root, None if it lies elsewhere."""
    if _SCHEME.fullmatch(path) is None and not path.startswith(("/", "~")):
        return tuple(path.split("/"))
    found = _locate(path)
    if found is None or (found.scheme, found.container) != (base.scheme, base.container):
        return None
    if found.connection not in {None, base.connection}:
        return None
    length = len(base.segments)
    if found.segments[:length] != base.segments or len(found.segments) == length:
        return None
    return found.segments[length:]
