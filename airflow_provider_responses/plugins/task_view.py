"""The record of one task instance that the tab "Responses" shows. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.plugins.usage_values import (
    MAX_TEXT,
    clean_usage,
    cost_of,
    count,
    counts_by_name,
    is_usage,
    number,
    text,
)
from airflow_provider_responses.plugins.xcom_backend import UnreadableError, XComValues, decoded
from airflow_provider_responses.task.web_pages import generation_page
from airflow_provider_responses.task.xcom import RETURN_KEY, USAGE_KEY

if TYPE_CHECKING:
    from airflow_provider_responses.plugins.metadata import InstanceRow

MAX_PROMPT: Final = 2000  # characters of a prompt that are shown
MAX_BATCHES: Final = 1000
PROGRESS: Final = ("total", "done", "left", "rate", "seconds_left", "cost", "failed", "resent", "in_flight", "batches")
# Entries of a manifest that are shown elsewhere, or are large.
_LEFT_OUT: Final = frozenset({"batches", "sample", "prompt", "written_by"})


def task_view(
    instance: InstanceRow, xcoms: Mapping[str, Any], progress: str | None, values: XComValues
) -> dict[str, Any]:
    """
    Return the record of a task instance, of which nothing may be trusted: any task can push any XCom.

    :param xcoms: the values of its XComs, as the database has them.
    :param progress: the record of the task state store.
    """
    usage, missing, detail = _usage(xcoms, values)
    manifest = _manifest(xcoms, values) if usage is not None and usage["kind"] == "enrichment" else None
    return {
        "try_number": instance.try_number,
        "state": instance.state,
        "operator": instance.operator,
        "usage": usage,
        "missing": missing,
        "missing_detail": detail,
        "kind": None if usage is None else usage["kind"],
        "prompt_fingerprint": None if usage is None else usage.get("prompt_fingerprint"),
        "progress": _progress(progress, instance),
        "manifest": None if manifest is None else _short(manifest),
        "result_path": _result_path(usage, manifest),
        "batches": _batches(manifest),
        "generation_url": None if usage is None else generation_page(usage.get("generation_id")),
    }


def _usage(xcoms: Mapping[str, Any], values: XComValues) -> tuple[dict[str, Any] | None, str | None, str | None]:
    """Return the ``usage``, or why there is none."""
    if USAGE_KEY not in xcoms:
        return None, "none", None
    try:
        found = values.read(USAGE_KEY, xcoms[USAGE_KEY], is_usage)
    except UnreadableError as error:
        return None, "unreadable", str(error)
    if not is_usage(found):
        return None, "not_ours", None
    return clean_usage(found), None, None


def _manifest(xcoms: Mapping[str, Any], values: XComValues) -> Mapping[str, Any] | None:
    try:
        found = values.read(RETURN_KEY, xcoms.get(RETURN_KEY), lambda value: isinstance(value, Mapping))
    except UnreadableError:
        return None
    return found if isinstance(found, Mapping) else None


def _short(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a manifest that are short."""
    found: dict[str, Any] = {}
    for name, value in manifest.items():
        if name in _LEFT_OUT or not isinstance(name, str):
            continue
        if value is None or isinstance(value, bool):
            found[name] = value
        elif isinstance(value, (int, float)):
            found[name] = number(value)
        elif isinstance(value, str):
            found[name] = value[:MAX_TEXT]
    found["counts"] = counts_by_name(manifest.get("counts"))
    prompt = manifest.get("prompt")
    if isinstance(prompt, Mapping):
        found["prompt"] = {str(name): it[:MAX_PROMPT] for name, it in prompt.items() if isinstance(it, str)}
    return found


def _result_path(usage: Mapping[str, Any] | None, manifest: Mapping[str, Any] | None) -> str | None:
    of_usage = None if usage is None else usage.get("result_path")
    return of_usage or (None if manifest is None else text(manifest.get("output")))


def _batches(manifest: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    found = None if manifest is None else manifest.get("batches")
    return [
        {
            "id": text(it.get("id")),
            "model": text(it.get("model")),
            "status": text(it.get("status")),
            "requests": count(it.get("requests")),
            "cost": cost_of(it.get("cost")),
            "url": None,  # the record does not have the server, and OpenRouter has no page of a batch
        }
        for it in (found[:MAX_BATCHES] if isinstance(found, list) else [])
        if isinstance(it, Mapping)
    ]


def _progress(record: str | None, instance: InstanceRow) -> dict[str, Any] | None:
    """Return the figures, and whether they are of the attempt of the task instance: they outlive retries and clears."""
    found = decoded(decoded(record))
    if not isinstance(found, Mapping):
        return None
    attempt = (count(found.get("try_number")), count(found.get("max_tries")))
    return {name: number(found.get(name)) for name in PROGRESS} | {
        "failures": counts_by_name(found.get("failures")),
        "try_number": attempt[0],
        "is_current": None not in attempt and attempt == (instance.try_number, instance.max_tries),
    }
