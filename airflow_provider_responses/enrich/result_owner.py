"""The task that a result belongs to: another task does not replace it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.output_store import MANIFEST, PARTS
from airflow_provider_responses.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.output_store import OutputStore, Writer

MERGE: Final = "merge_shards"


def written_by(writer: Writer) -> dict[str, Any]:
    """Return the ``written_by`` of a manifest."""
    return {"task": _task_of(writer), "task_instance": writer.owner, "try_number": writer.try_number}


def check_owner(store: OutputStore, manifest: Mapping[str, Any]) -> None:
    """
    Refuse to replace the result of another task. Another run of the same task may replace it.

    :param manifest: that is in the output now.
    :raises ConfigurationError: naming both tasks.
    """
    task, other = _task_of(store.writer), task_of_manifest(manifest)
    if manifest.get("output") is None or other is None or other == task:
        return
    raise ConfigurationError(
        f"output_path {str(store.path)!r} holds the result of {other!r} (see its {MANIFEST}), which {task!r} "
        "would replace; use another output_path. If this task takes over from that one, such as under a new name, "
        f"delete {store.storage.url(MANIFEST)!r}: the responses in {PARTS}/ are used all the same"
    )


def task_of_manifest(manifest: Mapping[str, Any]) -> Any:
    """Return the task that wrote a manifest, None if it names none."""
    author = manifest.get("written_by")
    return author.get("task") if isinstance(author, Mapping) else None


def _task_of(writer: Writer) -> str:
    """Return the task of a writer, such as ``dag.task``. Neither id holds a space."""
    return writer.owner.partition(" ")[0]
