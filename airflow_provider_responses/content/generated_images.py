"""Images in a response: written as files, so that XComs and results hold their paths. No I/O of its own."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from airflow_provider_responses.content.media_types import HEAD, media_type_of
from airflow_provider_responses.models.response import Response

log = logging.getLogger(__name__)

IMAGE_CALL: Final = "image_generation_call"
_SUFFIXES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}


class StoredImages(NamedTuple):
    """A response whose images are paths, and these paths."""

    response: Response
    paths: list[str]


def has_images(response: Response | None) -> bool:
    """Return whether a response holds generated images."""
    return response is not None and any(map(_is_image, _items(response)))


def store_images(response: Response, write: Callable[[str, bytes], str]) -> StoredImages:
    """
    Return a response with paths in place of the images in it.

    An image is named after its content, so that the cached response of a retry replaces the same files. An image that
    is not valid base64 stays as it is: it is paid for.

    :param write: writes a file of a name, and returns its path.
    """
    paths: list[str] = []
    items = []
    for item in _items(response):
        if not _is_image(item) or (data := _decode(item["result"])) is None:
            items.append(item)
            continue
        media_type = media_type_of(data[:HEAD], "", is_whole=len(data) <= HEAD) or ""
        name = f"{blake2b(data, digest_size=16).hexdigest()}.{_SUFFIXES.get(media_type, 'bin')}"
        paths.append(write(name, data))
        items.append({**item, "result": paths[-1]})
    if not paths:
        return StoredImages(response, paths)
    return StoredImages(replace(response, raw={**response.raw, "output": items}), paths)


def _items(response: Response) -> list[Any]:
    output = response.raw.get("output")
    return output if isinstance(output, list) else []


def _is_image(item: Any) -> bool:
    return (
        isinstance(item, Mapping)
        and item.get("type") == IMAGE_CALL
        and isinstance(result := item.get("result"), str)
        and bool(result)
    )


def _decode(text: str) -> bytes | None:
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True) or None
    except (binascii.Error, ValueError):
        log.warning("An image in the response is not valid base64, and stays in it")
        return None
