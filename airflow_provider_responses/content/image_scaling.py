"""Scales an image down, if a part asks for it. Needs Pillow (the extra ``images``)."""

from __future__ import annotations

import io
from typing import Any, Final

from airflow_provider_responses.content.snapshots import Snapshot
from airflow_provider_responses.exceptions import ConfigurationError, RequestValidationError

MAX_PIXELS: Final = 200_000_000  # of an image that is decoded: 600 MB
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "JPEG": {"quality": 90},
    "WEBP": {"quality": 90},
    "PNG": {"optimize": False},
    "GIF": {},
}


def scale_down(snapshot: Snapshot, max_side: int, name: str) -> Snapshot:
    """
    Return an image whose longer side has at most a number of pixels, in its own format; the same one if it is small.

    :param name: of the file, for messages.
    :raises RequestValidationError: if it is no image that can be decoded.
    :raises ConfigurationError: if Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ConfigurationError(
            "max_side needs Pillow, which is not installed: pip install 'airflow-provider-responses[images]'"
        ) from None
    try:
        with Image.open(io.BytesIO(snapshot.read())) as image:
            form = image.format or "PNG"
            _check_pixels(image.width, image.height, name)
            if max(image.size) <= max_side:
                return snapshot
            turned = ImageOps.exif_transpose(image)
            turned.thumbnail((max_side, max_side))
            target = io.BytesIO()
            turned.save(target, form, **_OPTIONS.get(form, {}))
    except RequestValidationError:
        raise
    except Exception as error:  # Pillow raises many kinds for a broken image
        raise RequestValidationError(
            f"{name} cannot be scaled down ({type(error).__name__}: {error}): it is damaged, or of a kind that Pillow "
            "cannot read. Remove max_side, or replace the file",
            fields=("max_side",),
        ) from error
    return Snapshot(target.getvalue())


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise RequestValidationError(
            f"{name} has {width} by {height} pixels, too many to scale it down (at most {MAX_PIXELS} in all). Scale it "
            "in the source",
            fields=("max_side",),
        )
