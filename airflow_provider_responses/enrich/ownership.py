"""Whose result is in an output folder: another task's is not replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich.output_store import MANIFEST, PARTS
from airflow_provider_responses.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.output_store import OutputStore, Writer

MERGE: Final = "merge_shards"


def written_by(writer: Writer) -> dict[str, Any]:
    """Return what a manifest says about who wrote it."""
    return {"task": _task_of(writer), "task_instance": writer.owner, "try_number": writer.try_number}


def refuse_other(store: OutputStore, manifest: Mapping[str, Any]) -> None:
    """
    Refuse to replace the result of another task. Another run of the same task may.

    :param manifest: that is there.
    :raises ConfigurationError: naming both.
    """
    me = _task_of(store.writer)
    task = author_of(manifest)
    if manifest.get("output") is None or task is None or task == me:
        return
    raise ConfigurationError(
        f"output_path {str(store.path)!r} holds the result of {task!r} (see its {MANIFEST}), which {me!r} "
        "would replace; give another output_path. If this task takes over from that one, such as under a new name, "
        f"delete {store.storage.url(MANIFEST)!r}: the responses in {PARTS}/ are used all the same"
    )


def author_of(manifest: Mapping[str, Any]) -> Any:
    """Return the task that wrote a manifest, None if it does not have one."""
    author = manifest.get("written_by")
    return author.get("task") if isinstance(author, Mapping) else None


def _task_of(writer: Writer) -> str:
    """Return the task whose instance writes, such as ``dag.task``: neither id holds a space."""
    return writer.owner.partition(" ")[0]
