"""The result: all rows in the order of the source, as JSONL or Parquet, of one run or of many shards."""

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
from typing import IO, TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich import parquet
from airflow_provider_responses.enrich.answers import META, loggable, shared
from airflow_provider_responses.enrich.bounded_calls import UploadWatch
from airflow_provider_responses.enrich.index import INVALID
from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.output_store import MANIFEST, PARTS, read_manifest
from airflow_provider_responses.enrich.ownership import MERGE, author_of
from airflow_provider_responses.enrich.storage import Storage, storage_at
from airflow_provider_responses.enrich.storage_errors import naming
from airflow_provider_responses.enrich.values import dump, joined
from airflow_provider_responses.exceptions import ConfigurationError, OutputError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index

log = logging.getLogger(__name__)

FORMATS: Final = ("jsonl", "parquet")
_ADDED: Final = ("requests_sent", "requests_reused", "cache_hits", "rows")
_MAY_BE_UNKNOWN: Final = ("cost", "cost_this_attempt", "tokens")


def lines(index: Index, unanswered: Mapping[str, Any]) -> Iterator[str]:
    """Give the result's rows as JSON objects."""
    missing = dump({**unanswered, "_status": "missing"})
    for position, _, columns, error, answer, is_shared in index.results():
        text = answer or missing
        if error is not None:
            text = dump({**unanswered, "_status": INVALID, "_error": error, "_cost": 0.0, "_tries": 0})
        elif is_shared and answer:
            text = shared(answer)
        yield joined(f'{{"_row":{position}}}', joined(columns, text))


def write(
    index: Index,
    output: Any,
    scratch: Path,
    *,
    output_format: str,
    unanswered: Mapping[str, Any],
    check: Callable[[], None],
    watch: UploadWatch,
) -> str:
    """
    Write the result; return its path.

    :param output: its path, or the storage at it.
    :param check: raises if it must not be written any more; called when it is ready to be.
    :param watch: uploads it.
    :raises StorageError: if it cannot be written, or the store hangs.
    """
    storage = storage_at(output)
    local = _local_result(lines(index, unanswered), scratch, output_format, ("_row", *unanswered))
    check()
    is_safe = f"All responses are safe in {storage.url(PARTS)}; a retry uploads the result and sends no request again"
    return _upload(local, storage, output_format, watch, is_safe)


def first_error(index: Index) -> str:
    """Say what is wrong with the first row that failed."""
    for position, key, _, error, answer, _ in index.results():
        found = json.loads(answer) if answer else {}
        if said := error or found.get("_error"):
            return f"The first, row {position} (key {key}): {loggable(found.get('_status', INVALID), said)}"
    return ""


def merge_shards(output_path: Any, *, output_format: str = "jsonl") -> dict[str, Any]:
    """
    Put the results of all shards under a path together, in the order of the source.

    :param output_path: that of the shards: a plain path, or an ``ObjectStoragePath``.
    :returns: the manifest of all, which is also written.
    :raises OutputError: if a shard is missing, did not end well, or is short or damaged, naming it.
    """
    import tempfile

    if output_format not in FORMATS:
        raise ConfigurationError(f"output_format is {output_format!r}; allowed are {', '.join(map(repr, FORMATS))}")
    if isinstance(output_path, str) and "://" in output_path:
        raise ConfigurationError(f"output_path is {output_path!r}; give ObjectStoragePath({output_path!r})")
    storage = storage_at(output_path)
    shards = _shards(storage)
    if (author := author_of(read_manifest(storage))) not in {None, MERGE}:
        log.warning("The result of %s in %s is replaced by that of its shards", author, storage)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        tables = [stack.enter_context(shard.opened(storage, Path(scratch))) for shard in shards]
        numbered = (_numbered(table, shard) for table, shard in zip(tables, shards, strict=True))
        rows = _in_order(heapq.merge(*numbered, key=itemgetter(0)))
        local = _local_result(rows, Path(scratch), output_format, ("_row", *META))
        watch = UploadWatch(clock=time.monotonic, tick=1.0, patience=Limits().max_outage)
        is_safe = "The shards are safe; a retry merges them again"
        written = _upload(local, storage, output_format, watch, is_safe)
    counts: Counter[str] = Counter()
    manifests = [shard.manifest for shard in shards]
    for manifest in manifests:
        counts.update(manifest["counts"])
    merged = {
        "output": written,
        "output_format": output_format,
        "complete": True,
        "written_by": {"task": MERGE},
        "prompt": _same(manifest.get("prompt") for manifest in manifests),
        "counts": dict(counts),
        **{name: sum(manifest[name] for manifest in manifests) for name in _ADDED},
        **{name: _known_sum(manifest.get(name) for manifest in manifests) for name in _MAY_BE_UNKNOWN},
        "cost_is_minimum": any(manifest.get("cost_is_minimum") for manifest in manifests)
        or len({manifest.get("cost") is None for manifest in manifests}) > 1,
    }
    data, is_safe = json.dumps(merged, indent=2).encode(), "The merged result is safe; a retry merges the shards again"
    watch.run(lambda _: storage.write_file(MANIFEST, data), storage.url(MANIFEST), is_safe)
    return merged


def _known_sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of the known ones, None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _same(values: Iterable[Any]) -> Any:
    """Return what all are, None if they differ."""
    first, *others = values
    return first if all(other == first for other in others) else None


@dataclass(frozen=True)
class _Shard:
    """One shard: its folder's name, where that is, and what its run came to."""

    name: str
    url: str
    manifest: dict[str, Any]

    @contextlib.contextmanager
    def opened(self, storage: Storage, scratch: Path) -> Iterator[IO[bytes]]:
        """Open its result for reading; one in an object store is copied first, so that it does not change meanwhile."""
        with storage.get_file(f"{self.name}/result.jsonl", scratch).open("rb") as file:
            yield file

    def refuse(self, why: str) -> OutputError:
        """Return the error about it."""
        return _refused(f"{self.url}: {why}")


def _refused(why: str) -> OutputError:
    """Return the error about shards that cannot be merged; no retry of the merge changes them."""
    return OutputError(why, retryable=False)


def _shards(storage: Storage) -> list[_Shard]:
    """Return all shards, each of which has run to its end."""
    there = storage.list_names()
    if not there:
        raise _refused(f"output_path {str(storage)!r} is not there, so no shard has run")
    found = [_Shard(name, storage.url(name), _manifest(storage, name)) for name in there if name.startswith("shard-")]
    if not found:
        raise _refused(f"output_path {str(storage)!r} has no shards")
    shares = found[0].manifest["shard"][1]
    for shard in found:
        if (of := shard.manifest["shard"][1]) != shares:
            raise shard.refuse(f"a shard of {of}, beside shards of {shares}; delete those that are no more")
    if missing := sorted(set(range(shares)) - {shard.manifest["shard"][0] for shard in found}):
        raise _refused(f"output_path {str(storage)!r}: shard {missing[0]} of {shares} is missing; run it first")
    for shard in found:
        if not shard.manifest["complete"]:
            raise shard.refuse("the shard did not run to its end; run its task again")
        rows, others = shard.manifest.get("source_rows"), found[0].manifest.get("source_rows")
        if rows != others:
            raise shard.refuse(
                f"its source had {rows} rows, and that of {found[0].name} {others}; run all shards on the same source"
            )
        if shard.manifest["output_format"] != "jsonl":
            raise shard.refuse("shards are merged from JSONL; leave output_format to the merge")
    return found


def _manifest(storage: Storage, shard: str) -> dict[str, Any]:
    """Return the manifest of a shard, with at least what is read of it."""
    url = storage.url(shard)
    if (data := storage.read_file(f"{shard}/{MANIFEST}")) is None:
        raise _refused(f"{url}: the shard has no manifest, so it has not ended; run its task")
    if (manifest := _loaded(data)) is None:
        raise _refused(f"{url}/{MANIFEST} is damaged: it is no JSON object; run the shard's task again")
    wrong = [name for name, is_right in _NEEDED.items() if not is_right(manifest.get(name))]
    if wrong:
        raise _refused(
            f"{url}/{MANIFEST} is damaged, or another version of this package wrote it: {wrong[0]!r} is missing or of "
            "another type; run the shard's task again"
        )
    return manifest


def _numbered(file: IO[bytes], shard: _Shard) -> Iterator[tuple[int, str, _Shard]]:
    """
    Yield a shard's rows with their numbers.

    :raises OutputError: if they are not those that its manifest counts.
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
            raise shard.refuse(f"result.jsonl is damaged: line {number} is not a row; run the shard's task again")
        counts[status] += 1
        last = position
        yield position, line.decode().rstrip("\n"), shard
    told = +Counter(shard.manifest["counts"])
    if counts != told:
        raise shard.refuse(
            f"result.jsonl has {counts.total()} rows ({_said(counts)}), and its manifest says {told.total()} "
            f"({_said(told)}): it is short or damaged, or was replaced; run the shard's task again"
        )


def _in_order(rows: Iterable[tuple[int, str, _Shard]]) -> Iterator[str]:
    """Yield the rows of all shards; no two hold the same one."""
    last: tuple[int, _Shard | None] = (-1, None)
    for position, text, shard in rows:
        if position == last[0] and last[1] is not None:
            raise shard.refuse(
                f"it holds row {position}, and so does {last[1].name}; run all shards on the same source, with one key"
            )
        last = position, shard
        yield text


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "none"


def _local_result(texts: Iterable[str], scratch: Path, output_format: str, names: Iterable[str]) -> Path:
    """Write the result to a scratch folder."""
    with naming(f"the temporary folder {scratch}", "written", kinds=OSError):
        local = scratch / "result.jsonl"
        with local.open("w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in texts)
        return parquet.write(local, scratch / "result.parquet", names) if output_format == "parquet" else local


def _upload(local: Path, storage: Storage, output_format: str, watch: UploadWatch, is_safe: str) -> str:
    """Replace the result in a storage, and return its path."""

    def replace(step: Callable[[], None]) -> None:
        there = storage.list_names()
        step()
        if MANIFEST in there:
            _mark_incomplete(storage)
            step()
        storage.put_file(local, local.name, step)
        for other in FORMATS:
            if other != output_format and f"result.{other}" in there:
                storage.delete_file(f"result.{other}")

    url = storage.url(local.name)
    watch.run(replace, url, is_safe)
    return url


def _mark_incomplete(storage: Storage) -> None:
    """Say in the manifest that its result is being replaced: it may stop halfway, with the new result there or not."""
    manifest = read_manifest(storage)
    if manifest.get("complete") is not False:
        storage.write_file(MANIFEST, json.dumps(manifest | {"complete": False}, indent=2).encode())


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_amount(value: Any) -> bool:
    return value is None or type(value) in {int, float}


# What a merge reads of a shard's manifest, and whether it is of the right type.
_NEEDED: Final[Mapping[str, Callable[[Any], bool]]] = {
    "complete": lambda value: isinstance(value, bool),
    "output_format": lambda value: isinstance(value, str),
    **dict.fromkeys(_ADDED, _is_count),
    **dict.fromkeys(_MAY_BE_UNKNOWN, _is_amount),
    "counts": lambda value: isinstance(value, dict) and all(map(_is_count, value.values())),
    "shard": lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_count, value)),
}


def _loaded(data: bytes | None) -> dict[str, Any] | None:
    """Return a manifest; None if there is none, or if it is not one."""
    try:
        found = json.loads(data or b"null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
