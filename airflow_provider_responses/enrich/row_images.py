"""Generated images of responses: written into the output, so that the result holds their paths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_provider_responses.task.texts import storable

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.storage import Storage
    from airflow_provider_responses.task.outcome import Outcome

FOLDER = "images"  # in the output of an enrichment
WriteImage = Callable[[str, bytes], str]


def image_writer(storage: Storage, folder: str = "") -> WriteImage:
    """Return a function that writes a file into a storage, and returns its path."""

    def write(name: str, data: bytes) -> str:
        name = f"{folder}/{name}" if folder else name
        storage.write_file(name, data)
        return storage.url(name)

    return write


def with_image_paths(outcome: Outcome, result: str, write: WriteImage) -> Outcome:
    """
    Return an outcome with paths in place of the images of its response, which are written.

    A text value without text becomes the paths, one a line.

    :param result: ``text`` or ``response``.
    :raises StorageError: if an image cannot be written.
    """
    from airflow_provider_responses.content.generated_images import store_images

    assert outcome.response is not None  # noqa: S101  its images are stored
    response, paths = store_images(outcome.response, write)
    value = outcome.value
    if result == "response":
        value = storable(response.raw)
    elif value == "":
        value = "\n".join(paths)
    return replace(outcome, response=response, value=value)
