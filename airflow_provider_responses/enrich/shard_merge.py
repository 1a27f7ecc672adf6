"""Merges the results of all shards into one, after checking that each is complete."""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, Final

from airflow_provider_responses.enrich.bounded_calls import UploadWatch
from airflow_provider_responses.enrich.columns import meta_columns
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import MANIFEST, read_manifest
from airflow_provider_responses.enrich.result import upload_result, write_local
from airflow_provider_responses.enrich.result_formats import FORMATS
from airflow_provider_responses.enrich.result_owner import MERGE, task_of_manifest
from airflow_provider_responses.enrich.step_counts import are_steps_valid, merge_steps
from airflow_provider_responses.enrich.storage import Storage, storage_at
from airflow_provider_responses.exceptions import ConfigurationError, OutputError
from airflow_provider_responses.validation import check_choice

log = logging.getLogger(__name__)

_SUMS: Final = ("requests_sent", "requests_reused", "cache_hits", "rows")
_SUMS_OF_KNOWN: Final = ("cost", "cost_this_attempt", "tokens")


def merge_shards(output_path: Any, *, output_format: str = "jsonl") -> dict[str, Any]:
    """
    Merge the results of all shards under a path, in the order of the source.

    :param output_path: the ``output_path`` of the shards: a plain path, or an ``ObjectStoragePath``.
    :returns: the manifest of the merged result, which is also written.
    :raises OutputError: if a shard is missing, did not end well, or is short or damaged, naming it.
    """
    import tempfile

    check_choice("output_format", output_format, FORMATS, error=ConfigurationError)
    if isinstance(output_path, str) and "://" in output_path:
        raise ConfigurationError(
            f"output_path must be a local path or an ObjectStoragePath, got {output_path!r}; pass "
            f"ObjectStoragePath({output_path!r})"
        )
    storage = storage_at(output_path)
    shards = _find_shards(storage)
    if (task := task_of_manifest(read_manifest(storage))) not in {None, MERGE}:
        log.warning("The result of %s in %s is replaced by that of its shards", task, storage)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        files = [stack.enter_context(shard.open_result(storage, Path(scratch))) for shard in shards]
        numbered = (_read_rows(file, shard) for file, shard in zip(files, shards, strict=True))
        lines = _check_order(heapq.merge(*numbered, key=itemgetter(0)))
        manifests = [shard.manifest for shard in shards]
        columns = meta_columns(
            escalates=any("tiers" in it for it in manifests), judges=any("judge" in it for it in manifests)
        )
        local = write_local(lines, Path(scratch), output_format, ("_row", *columns))
        watch = UploadWatch(clock=time.monotonic, tick=1.0, patience=Limits().max_outage)
        is_safe = "The shards are safe; a retry merges them again"
        written = upload_result(local, storage, output_format, watch, is_safe)
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest["counts"])
    merged = {
        "output": written,
        "output_format": output_format,
        "complete": True,
        "written_by": {"task": MERGE},
        "prompt": _common_value(manifest.get("prompt") for manifest in manifests),
        "counts": dict(counts),
        **{name: sum(manifest[name] for manifest in manifests) for name in _SUMS},
        **{name: _sum_of_known(manifest.get(name) for manifest in manifests) for name in _SUMS_OF_KNOWN},
        "cost_is_minimum": any(manifest.get("cost_is_minimum") for manifest in manifests)
        or len({manifest.get("cost") is None for manifest in manifests}) > 1,
        **merge_steps(manifests),
    }
    data, is_safe = json.dumps(merged, indent=2).encode(), "The merged result is safe; a retry merges the shards again"
    watch.run(lambda _: storage.write_file(MANIFEST, data), storage.url(MANIFEST), is_safe)
    return merged


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    """Return the sum of the known values, None if none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _common_value(values: Iterable[Any]) -> Any:
    """Return the value that all share, None if they differ."""
    first, *others = values
    return first if all(other == first for other in others) else None


@dataclass(frozen=True)
class _Shard:
    """One shard: the name of its folder, its address, and its manifest."""

    name: str
    url: str
    manifest: dict[str, Any]

    @contextlib.contextmanager
    def open_result(self, storage: Storage, scratch: Path) -> Iterator[IO[bytes]]:
        """Open the result for reading. One in an object store is copied first, so that it cannot change meanwhile."""
        with storage.get_file(f"{self.name}/result.jsonl", scratch).open("rb") as file:
            yield file

    def error(self, reason: str) -> OutputError:
        """Return an error about this shard."""
        return _error(f"{self.url}: {reason}")


def _error(message: str) -> OutputError:
    """Return an error about shards that cannot be merged. A retry of the merge does not change them."""
    return OutputError(message, retryable=False)


def _find_shards(storage: Storage) -> list[_Shard]:
    """Return all shards, after checking that they belong together and have ended."""
    names = storage.list_names()
    if not names:
        raise _error(f"output_path {str(storage)!r} does not exist, so no shard has run")
    found = [
        _Shard(name, storage.url(name), _read_manifest(storage, name)) for name in names if name.startswith("shard-")
    ]
    if not found:
        raise _error(f"output_path {str(storage)!r} has no shards")
    total = found[0].manifest["shard"][1]
    for shard in found:
        if (of := shard.manifest["shard"][1]) != total:
            raise shard.error(f"a shard of {of}, beside shards of {total}; delete those that are no longer used")
    if missing := sorted(set(range(total)) - {shard.manifest["shard"][0] for shard in found}):
        raise _error(f"output_path {str(storage)!r}: shard {missing[0]} of {total} is missing; run it first")
    for shard in found:
        if not shard.manifest["complete"]:
            raise shard.error("the shard did not run to its end; run its task again")
        rows, others = shard.manifest.get("source_rows"), found[0].manifest.get("source_rows")
        if rows != others:
            raise shard.error(
                f"its source had {rows} rows, and that of {found[0].name} {others}; run all shards on the same source"
            )
        if shard.manifest["output_format"] != "jsonl":
            raise shard.error("only shards in JSONL can be merged; set output_format in merge_shards alone")
    return found


def _read_manifest(storage: Storage, shard: str) -> dict[str, Any]:
    """Return the manifest of a shard, after checking the entries that a merge uses."""
    url = storage.url(shard)
    if (data := storage.read_file(f"{shard}/{MANIFEST}")) is None:
        raise _error(f"{url}: the shard has no manifest, so it has not ended; run its task")
    if (manifest := _parse_object(data)) is None:
        raise _error(f"{url}/{MANIFEST} is damaged: it is no JSON object; run the shard's task again")
    wrong = [name for name, is_valid in _CHECKS.items() if not is_valid(manifest.get(name))]
    wrong += [name for name in ("tiers", "judge") if not are_steps_valid(name, manifest.get(name))]
    if wrong:
        raise _error(
            f"{url}/{MANIFEST} is damaged, or another version of this package wrote it: {wrong[0]!r} is missing or of "
            "another type; run the shard's task again"
        )
    return manifest


def _read_rows(file: IO[bytes], shard: _Shard) -> Iterator[tuple[int, str, _Shard]]:
    """
    Yield the rows of a shard with their positions.

    :raises OutputError: if their number differs from the counts of the manifest.
    """
    counts: Counter[str] = Counter()
    last = -1
    for number, line in enumerate(file, 1):
        try:
            row = json.loads(line)
            position, status = int(row["_row"]), str(row["_status"])
        except (ValueError, KeyError, TypeError):
            position = -1
        if position <= last or not line.endswith(b"\n"):
            raise shard.error(f"result.jsonl is damaged: line {number} is not a row; run the shard's task again")
        counts[status] += 1
        last = position
        yield position, line.decode().rstrip("\n"), shard
    expected = +Counter(shard.manifest["counts"])
    if counts != expected:
        raise shard.error(
            f"result.jsonl has {counts.total()} rows ({_format_counts(counts)}), and its manifest counts "
            f"{expected.total()} ({_format_counts(expected)}): it is short or damaged, or was replaced; run the "
            "shard's task again"
        )


def _check_order(rows: Iterable[tuple[int, str, _Shard]]) -> Iterator[str]:
    """Yield the rows of all shards, after checking that no two shards have the same row."""
    last: tuple[int, _Shard | None] = (-1, None)
    for position, text, shard in rows:
        if position == last[0] and last[1] is not None:
            raise shard.error(
                f"it holds row {position}, and so does {last[1].name}; run all shards on the same source, with one key"
            )
        last = position, shard
        yield text


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_amount(value: Any) -> bool:
    return value is None or type(value) in {int, float}


# Checks of the entries of a shard's manifest that a merge uses.
_CHECKS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "complete": lambda value: isinstance(value, bool),
    "output_format": lambda value: isinstance(value, str),
    **dict.fromkeys(_SUMS, _is_count),
    **dict.fromkeys(_SUMS_OF_KNOWN, _is_amount),
    "counts": lambda value: isinstance(value, dict) and all(map(_is_count, value.values())),
    "shard": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)),
}


def _parse_object(data: bytes) -> dict[str, Any] | None:
    """Return a JSON object, None if the data is none."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
