"""The result: all rows in the order of the source, as JSONL or Parquet, of one run or of many shards."""

from __future__ import annotations

import contextlib
import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from airflow_provider_responses.enrich import parquet
from airflow_provider_responses.enrich.answers import META, shared
from airflow_provider_responses.enrich.folder import MANIFEST, put, write_whole
from airflow_provider_responses.enrich.index import INVALID
from airflow_provider_responses.enrich.values import dump, joined
from airflow_provider_responses.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_provider_responses.enrich.index import Index

FORMATS: Final = ("jsonl", "parquet")
_ADDED: Final = ("requests_sent", "requests_reused", "cache_hits", "cost", "cost_this_try", "tokens", "rows")


def lines(index: Index, unanswered: Mapping[str, Any]) -> Iterator[str]:
    """Give the result's rows as JSON objects."""
    missing = dump({**unanswered, "_status": "missing"})
    for position, _, columns, error, answer, is_shared in index.results():
        text = answer or missing
        if error is not None:
            text = dump({**unanswered, "_status": INVALID, "_error": error, "_cost": 0.0, "_tries": 0})
        elif is_shared and answer:
            text = shared(answer)
        yield joined(dump({"_row": position}), joined(columns, text))


def write(
    index: Index,
    folder: Any,
    scratch: Path,
    *,
    output_format: str,
    unanswered: Mapping[str, Any],
    check: Callable[[], None],
) -> str:
    """
    Write the result; give its path.

    :param check: raises if it must not be written any more; called when it is ready to be.
    """
    return _write(lines(index, unanswered), folder, scratch, output_format, names=("_row", *unanswered), check=check)


def first_error(index: Index) -> str:
    """Say what is wrong with the first row that failed."""
    for position, key, _, error, answer, _ in index.results():
        said = error or (json.loads(answer)["_error"] if answer else None)
        if said:
            return f"The first, row {position} (key {key}): {said}"
    return ""


def merge_shards(output_path: Any, *, output_format: str = "jsonl") -> dict[str, Any]:
    """
    Put the results of all shards under a path together, in the order of the source.

    :param output_path: that of the shards: a plain path, or an ``ObjectStoragePath``.
    :returns: the manifest of all, which is also written.
    :raises ConfigurationError: if a shard is missing or did not end well, naming it.
    """
    import tempfile

    if output_format not in FORMATS:
        raise ConfigurationError(f"output_format is {output_format!r}; allowed are {', '.join(map(repr, FORMATS))}")
    folder = _opened(output_path)
    found, manifests = _shards(folder)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        files = [stack.enter_context((path / "result.jsonl").open("rb")) for path in found]
        rows = heapq.merge(*(_numbered(file) for file in files))
        written = _write((text for _, text in rows), folder, Path(scratch), output_format, names=("_row", *META))
    counts: Counter[str] = Counter()
    for manifest in manifests:
        counts.update(manifest["counts"])
    total = {name: sum(manifest[name] for manifest in manifests) for name in _ADDED}
    merged = {"output": written, "output_format": output_format, "complete": True, "counts": dict(counts), **total}
    write_whole(folder / MANIFEST, json.dumps(merged, indent=2).encode())
    return merged


def _shards(folder: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    """Give the folders of all shards, and what their runs came to."""
    found = sorted((path for path in folder.iterdir() if path.name.startswith("shard-")), key=lambda path: path.name)
    manifests = [_manifest(path) for path in found]
    if not manifests:
        raise ConfigurationError(f"output_path {str(folder)!r} has no shards")
    shares = manifests[0]["shard"][1]
    for path, manifest in zip(found, manifests, strict=True):
        if manifest["shard"][1] != shares:
            raise ConfigurationError(
                f"{path}: a shard of {manifest['shard'][1]}, beside shards of {shares}; delete those that are no more"
            )
    if missing := sorted(set(range(shares)) - {manifest["shard"][0] for manifest in manifests}):
        raise ConfigurationError(
            f"output_path {str(folder)!r}: shard {missing[0]} of {shares} is missing; run it first"
        )
    for path, manifest in zip(found, manifests, strict=True):
        if not manifest["complete"]:
            raise ConfigurationError(f"{path}: the shard did not run to its end; run its task again")
        if manifest.get("source_rows") != manifests[0].get("source_rows"):
            raise ConfigurationError(
                f"{path}: its source had {manifest.get('source_rows')} rows, and that of {found[0].name} "
                f"{manifests[0].get('source_rows')}; run all shards on the same source"
            )
        if manifest["output_format"] != "jsonl":
            raise ConfigurationError(f"{path}: shards are merged from JSONL; leave output_format to the merge")
    return found, manifests


def _opened(output_path: Any) -> Any:
    if isinstance(output_path, str) and "://" in output_path:
        raise ConfigurationError(f"output_path is {output_path!r}; give ObjectStoragePath({output_path!r})")
    folder = Path(output_path) if isinstance(output_path, str) else output_path
    if not folder.is_dir():
        raise ConfigurationError(f"output_path {str(folder)!r} is not there, so no shard has run")
    return folder


def _manifest(folder: Any) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ConfigurationError(f"{folder}: the shard has no manifest, so it has not ended; run its task") from None
    return manifest


def _numbered(file: IO[bytes]) -> Iterator[tuple[int, str]]:
    for line in iter(file.readline, b""):  # what ObjectStoragePath opens on Airflow 2.11 gives no lines by itself
        text = line.decode().rstrip("\n")
        yield json.loads(text)["_row"], text


def _write(
    texts: Iterable[str],
    folder: Any,
    scratch: Path,
    output_format: str,
    *,
    names: Iterable[str],
    check: Callable[[], None] = lambda: None,
) -> str:
    local = scratch / "result.jsonl"
    with local.open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n" for text in texts)
    if output_format == "parquet":
        local = parquet.write(local, scratch / "result.parquet", names)
    target = folder / local.name
    check()
    put(local, target)
    for other in FORMATS:
        if other != output_format:
            (folder / f"result.{other}").unlink(missing_ok=True)
    return str(target)
