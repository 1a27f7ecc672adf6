"""Writes the result: all rows in the order of the source, as JSONL or Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_responses.enrich import parquet_result
from airflow_provider_responses.enrich.bounded_calls import UploadWatch
from airflow_provider_responses.enrich.json_values import dump, joined
from airflow_provider_responses.enrich.outcome_json import without_cost
from airflow_provider_responses.enrich.output_store import MANIFEST, PARTS, read_manifest
from airflow_provider_responses.enrich.result_formats import FORMATS
from airflow_provider_responses.enrich.row_outcome import loggable_error
from airflow_provider_responses.enrich.statuses import INVALID, MISSING
from airflow_provider_responses.enrich.storage import Storage, storage_at
from airflow_provider_responses.enrich.storage_errors import naming

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index


def result_lines(index: Index, empty: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield the rows of the result as JSON objects.

    :param empty: the columns of a row without a response.
    """
    missing = dump({**empty, "_status": MISSING})
    for row in index.results():
        text = row.outcome or missing
        if row.error is not None:
            text = dump({**empty, "_status": INVALID, "_error": row.error, "_cost": 0.0, "_sends": 0})
        elif row.is_shared and row.outcome:
            text = without_cost(row.outcome)
        yield joined(f'{{"_row":{row.position}}}', joined(row.columns, text))


def write_result(
    index: Index,
    output: Any,
    scratch: Path,
    *,
    output_format: str,
    empty: Mapping[str, Any],
    check: Callable[[], None],
    watch: UploadWatch,
) -> str:
    """
    Write the result; return its path.

    :param output: the path of the output, or the storage at it.
    :param empty: the columns of a row without a response.
    :param check: is called before the upload, and raises if the result must not be replaced.
    :param watch: bounds the upload.
    :raises StorageError: if the result cannot be written, or the store gives no response.
    """
    storage = storage_at(output)
    local = write_local(result_lines(index, empty), scratch, output_format, ("_row", *empty))
    check()
    is_safe = f"All responses are safe in {storage.url(PARTS)}; a retry uploads the result and sends no request again"
    return upload_result(local, storage, output_format, watch, is_safe)


def first_error(index: Index) -> str:
    """Return a sentence about the first row that failed."""
    for row in index.results():
        outcome = json.loads(row.outcome) if row.outcome else {}
        if error := row.error or outcome.get("_error"):
            shown = loggable_error(outcome.get("_status", INVALID), error)
            return f"The first, row {row.position} (key {row.key}): {shown}"
    return ""


def write_local(lines: Iterable[str], scratch: Path, output_format: str, columns: Iterable[str]) -> Path:
    """
    Write a result to a scratch folder, and return its path.

    :param columns: names of columns that the result has even without rows.
    """
    with naming(f"the temporary folder {scratch}", "written", kinds=OSError):
        local = scratch / "result.jsonl"
        with local.open("w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        if output_format == "parquet":
            local = parquet_result.write(local, scratch / "result.parquet", columns)
        return local


def upload_result(local: Path, storage: Storage, output_format: str, watch: UploadWatch, is_safe: str) -> str:
    """
    Replace the result in a storage, and return its path.

    :param is_safe: a sentence for the error of a store that gives no response.
    """

    def replace(step: Callable[[], None]) -> None:
        names = storage.list_names()
        step()
        if MANIFEST in names:
            _mark_incomplete(storage)
            step()
        storage.put_file(local, local.name, step)
        for other in FORMATS:
            if other != output_format and f"result.{other}" in names:
                storage.delete_file(f"result.{other}")

    url = storage.url(local.name)
    watch.run(replace, url, is_safe)
    return url


def _mark_incomplete(storage: Storage) -> None:
    """Record in the manifest that the result is being replaced, since the upload may be interrupted at any point."""
    manifest = read_manifest(storage)
    if manifest.get("complete") is not False:
        storage.write_file(MANIFEST, json.dumps(manifest | {"complete": False}, indent=2).encode())
