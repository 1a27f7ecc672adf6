"""The result of one task or of many shards, as JSONL or Parquet."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import pytest
from pydantic import BaseModel

from airflow_provider_responses.enrich.limits import Limits
from airflow_provider_responses.enrich.shard_merge import merge_shards
from airflow_provider_responses.enrich.storage import LocalStorage
from airflow_provider_responses.exceptions import (
    ConfigurationError,
    OutputError,
    PaymentRequiredResponseError,
    RequestValidationError,
    StorageError,
)
from airflow_provider_responses.task.request import TaskRequest
from tests.enrich.jobs import MODEL, enrich, manifest, result, row_fields, stored, table, tear

TEXT = TaskRequest(fields={}, stream=False)


class Either(BaseModel):
    found: int | str


@pytest.mark.parametrize("key", ["id", None])
def test_merged_shards_are_the_same_table_as_one_task_writes(key, responses_sandbox, tmp_path):
    rows = table(50)
    enrich(responses_sandbox, tmp_path / "one", rows, key=key)
    shared = []
    for shard in range(3):
        folder = tmp_path / "many" / f"shard-{shard}"
        shared.append(enrich(responses_sandbox, folder, rows, key=key, shard=(shard, 3))["rows"])
    merged = merge_shards(tmp_path / "many")

    def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{name: row[name] for name in ("_row", "id", "text", "_status", "_cost")} for row in rows]

    assert sum(shared) == 50
    assert min(shared) > 5
    assert len(responses_sandbox.billed) == 100
    assert plain(result(tmp_path / "many")) == plain(result(tmp_path / "one"))
    assert (merged["rows"], merged["counts"]) == (50, {"ok": 50})
    assert merged["cost"] == pytest.approx(manifest(tmp_path / "one")["cost"])

    (tmp_path / "many" / "shard-2").rename(tmp_path / "gone")
    with pytest.raises(OutputError, match="shard 2 of 3 is missing"):
        merge_shards(tmp_path / "many")
    enrich(responses_sandbox, tmp_path / "many" / "shard-2", rows, key=key, shard=(2, 4))
    with pytest.raises(OutputError, match="shard-2: a shard of 4, beside shards of 3"):
        merge_shards(tmp_path / "many")


def test_shards_with_rows_that_failed_are_merged(responses_sandbox, tmp_path):
    for shard in range(2):
        responses_sandbox.script({"status": 400}, {"text": "no JSON"}, {"text": "no JSON"}, {"text": "no JSON"})
        enrich(
            responses_sandbox,
            tmp_path / f"shard-{shard}",
            table(20),
            shard=(shard, 2),
            limits=Limits(concurrency=1, max_failures=100),
            row_fields=lambda row: row_fields(row) | ({"temperature": 9} if row["id"] in {"r1", "r2", "r3"} else {}),
        )
    merged = merge_shards(tmp_path)
    assert len(merged["counts"]) >= 3
    assert sum(merged["counts"].values()) == merged["rows"] == len(result(tmp_path))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "s3://bucket/out",
            "output_path must be a local path or an ObjectStoragePath, got 's3://bucket/out'; pass ObjectStoragePath('s3://bucket/out')",
        ),
        ("/nowhere/out", "output_path '/nowhere/out' does not exist, so no shard has run"),
    ],
)
def test_a_path_without_shards_is_refused(path, said):
    with pytest.raises((ConfigurationError, OutputError)) as caught:
        merge_shards(path)
    assert str(caught.value) == said
    assert not caught.value.retryable


@pytest.mark.filterwarnings("ignore:in a future version of UPath:PendingDeprecationWarning")  # of Airflow 2.11's
def test_shards_in_an_object_store_are_merged(responses_sandbox, tmp_path):
    folder = stored(tmp_path.name) / "out"
    for shard in range(2):
        enrich(responses_sandbox, folder / f"shard-{shard}", table(6), shard=(shard, 2))
    merged = merge_shards(folder)
    assert (merged["counts"], merged["rows"]) == ({"ok": 6}, 6)
    text = (folder / "result.jsonl").read_bytes().decode()
    assert [json.loads(line)["_row"] for line in text.splitlines()] == [0, 1, 2, 3, 4, 5]


def test_a_shard_may_be_empty_but_not_a_source_with_allow_empty_false(responses_sandbox, tmp_path):
    for shard in range(3):
        told = enrich(responses_sandbox, tmp_path / str(shard), table(2), key=None, shard=(shard, 3), allow_empty=False)
        assert told["rows"] == (0 if shard == 2 else 1)


def test_shards_of_two_sources_are_not_merged(responses_sandbox, tmp_path):
    for shard, rows in enumerate((6, 12)):
        enrich(responses_sandbox, tmp_path / f"shard-{shard}", table(rows), shard=(shard, 2))
    with pytest.raises(OutputError, match="its source had 12 rows, and that of shard-0 6"):
        merge_shards(tmp_path)


@pytest.fixture
def shards(responses_sandbox, tmp_path):
    """Two shards of twelve rows, and their results."""
    for shard in range(2):
        enrich(responses_sandbox, tmp_path / f"shard-{shard}", table(12), shard=(shard, 2))
    merge_shards(tmp_path)
    return [tmp_path / f"shard-{shard}" / "result.jsonl" for shard in range(2)]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_a_row(data: bytes) -> bytes:
    return b"".join(data.splitlines(keepends=True)[:-1])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (without_a_row, r"has \d+ rows \(\d+ ok\), and its manifest counts \d+ \(\d+ ok\): it is short or damaged"),
        (lambda _: b"", r"has 0 rows \(none\), and its manifest counts"),
        (
            lambda data: data.replace(b'"ok"', b'"failed"', 1),
            r"has 6 rows \(1 failed, 5 ok\), and its manifest counts 6",
        ),
        (lambda data: data[:-1], r"is damaged: line \d+ is not a row"),
        (cut, r"is damaged: line \d+ is not a row"),
        (lambda data: data + data, r"is damaged: line \d+ is not a row"),
        (lambda data: b"[]\n" + data, "is damaged: line 1 is not a row"),
        (lambda data: b"\xff\n" + data, "is damaged: line 1 is not a row"),
    ],
)
def test_a_shard_that_is_short_or_damaged_is_named_and_nothing_is_replaced(shards, tmp_path, damage, said):
    before = [(tmp_path / name).read_bytes() for name in ("result.jsonl", "manifest.json")]
    shards[1].write_bytes(damage(shards[1].read_bytes()))
    with pytest.raises(OutputError, match=f"shard-1: result.jsonl {said}.*; run the shard's task again"):
        merge_shards(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("result.jsonl", "manifest.json")] == before


def test_a_shard_without_its_result_is_named(shards, tmp_path):
    shards[0].unlink()
    with pytest.raises(StorageError, match=r"shard-0/result.jsonl cannot be read \(FileNotFoundError"):
        merge_shards(tmp_path)


def test_shards_with_the_same_row_are_not_merged(shards, tmp_path):
    rows = [json.loads(line) for line in shards[0].read_text().splitlines()]
    taken = json.loads(shards[1].read_text().splitlines()[0])["_row"]
    rows = sorted([*rows[:-1], rows[-1] | {"_row": taken}], key=lambda row: row["_row"])
    shards[0].write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(OutputError, match=rf"shard-\d: it holds row {taken}, and so does shard-\d; run all"):
        merge_shards(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told | {"new_in_a_later_version": {"a": 1}}, None),
        (
            lambda told: {name: value for name, value in told.items() if name != "counts"},
            "'counts' is missing or of ano",
        ),
        (lambda told: told | {"requests_sent": None}, "'requests_sent' is missing or of another type"),
        (lambda told: told | {"cost": "much"}, "'cost' is missing or of another type"),
        (lambda told: {name: value for name, value in told.items() if name != "tokens"}, None),
        (lambda told: told | {"shard": "0/2"}, "another version of this package wrote it: 'shard' is missing or of"),
        (lambda told: told | {"complete": "yes"}, "'complete' is missing or of another type; run the shard's task"),
        (lambda told: told | {"counts": {"ok": "6"}}, "'counts' is missing or of another type"),
        (lambda told: told | {"complete": False}, "shard-1: the shard did not run to its end; run its task again"),
        (lambda told: [told], "shard-1/manifest.json is damaged: it is no JSON object"),
    ],
)
def test_a_manifest_of_another_version_is_read_or_named(shards, tmp_path, change, said):
    path = tmp_path / "shard-1" / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    if said is None:
        assert merge_shards(tmp_path)["rows"] == 12
    else:
        with pytest.raises(OutputError, match=said):
            merge_shards(tmp_path)
        assert json.loads((tmp_path / "manifest.json").read_text())["complete"]


@pytest.mark.parametrize("author", ["somebody", {"task": 5}, None])
def test_a_merged_manifest_of_another_version_is_replaced(shards, tmp_path, author):
    (tmp_path / "manifest.json").write_text(json.dumps({"written_by": author}))
    assert merge_shards(tmp_path)["written_by"] == {"task": "merge_shards"}


def test_a_damaged_manifest_is_named(shards, tmp_path):
    tear(tmp_path / "shard-1" / "manifest.json")
    with pytest.raises(OutputError, match=r"shard-1/manifest.json is damaged: it is no JSON object"):
        merge_shards(tmp_path)


def test_costs_that_are_unknown_stay_unknown_in_a_merge(shards, tmp_path):
    for shard in range(2):
        path = tmp_path / f"shard-{shard}" / "manifest.json"
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"cost_this_attempt": None, "cost": None if shard else 0.25}))
    merged = merge_shards(tmp_path)
    assert (merged["cost_this_attempt"], merged["cost"]) == (None, 0.25)


@pytest.mark.parametrize("is_merge", [False, True])
def test_the_manifest_is_marked_incomplete_before_a_result_is_replaced(responses_sandbox, shards, tmp_path, is_merge):
    """The process ends while the result is being uploaded."""

    class Died(BaseException):
        pass

    class Dying(LocalStorage):
        def put_file(self, local, name, step):
            assert json.loads(self.read_file("manifest.json"))["complete"] is False
            raise Died

    folder = tmp_path if is_merge else tmp_path / "shard-0"
    before = {path.name: path.read_bytes() for path in folder.glob("result.*")}
    told = manifest(folder)
    again = partial(enrich, responses_sandbox, rows=table(20), shard=(0, 2))
    with pytest.raises(Died):
        (merge_shards if is_merge else again)(Dying(folder))
    assert {path.name: path.read_bytes() for path in folder.glob("result.*")} == before
    assert manifest(folder) == told | {"complete": False}  # other entries stay for later attempts
    if not is_merge:
        with pytest.raises(OutputError, match="shard-0: the shard did not run to its end"):
            merge_shards(tmp_path)


def test_a_temporary_folder_that_is_full_is_named(responses_sandbox, tmp_path, monkeypatch):
    """The result is written there first; all responses are in the parts."""
    from airflow_provider_responses.enrich import result as result_module

    def full(*_):
        raise OSError(28, "No space left on device")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(result_module, "result_lines", full)
        with pytest.raises(StorageError, match=r"the temporary folder .* cannot be written .*No space left.*TMPDIR"):
            enrich(responses_sandbox, tmp_path, table(3))
    told = enrich(responses_sandbox, tmp_path, table(3))
    assert (told["requests_sent"], told["counts"]) == (0, {"ok": 3})


def test_an_unknown_output_format_leaves_the_result_unchanged(responses_sandbox, tmp_path):
    enrich(responses_sandbox, tmp_path / "shard-0", table(2), shard=(0, 1))
    merge_shards(tmp_path)
    with pytest.raises(ConfigurationError, match="output_format must be 'jsonl' or 'parquet', got 'csv'"):
        merge_shards(tmp_path, output_format="csv")
    assert len(result(tmp_path)) == 2


def test_a_parquet_result_without_rows_has_the_same_columns(responses_sandbox, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for rows in (0, 2):
        enrich(responses_sandbox, tmp_path / str(rows), table(rows), output_format="parquet")
    empty, full = (parquet.read_schema(tmp_path / str(rows) / "result.parquet") for rows in (0, 2))
    assert set(full.names) - set(empty.names) == {"id", "text"}  # a list without rows has no columns
    own = [name for name in empty.names if name.startswith("_")]
    assert len(own) == 9
    assert all(empty.field(name).type == full.field(name).type for name in own)
    assert str(full.field("_error").type) == "string"


def test_a_type_with_a_field_called_output_has_that_column(responses_sandbox, tmp_path):
    class Summary(BaseModel):
        output: int

    enrich(responses_sandbox, tmp_path, table(2), request=TaskRequest(fields={}, output_type=Summary, stream=False))
    assert all(type(row["output"]) is int for row in result(tmp_path))


def test_parquet_has_the_same_values_as_jsonl(responses_sandbox, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [row | ({"stars": 4.5} if number > 1000 else {}) for number, row in enumerate(table(1005))]
    rows[1]["tags"] = ["a", "b"]
    same = lambda row: {"model": MODEL, "input": f"Mood of {row['id'][-1]}"}  # noqa: E731
    enrich(responses_sandbox, tmp_path, rows, row_fields=same)
    jsonl = result(tmp_path)
    enrich(responses_sandbox, tmp_path, rows, row_fields=same, output_format="parquet")

    assert len(responses_sandbox.ledger) == 10
    assert not (tmp_path / "result.jsonl").exists()
    read = parquet.read_table(tmp_path / "result.parquet").to_pylist()
    assert set(read[0]) == {name for row in jsonl for name in row}
    assert [{name: row[name] for name in expected} for row, expected in zip(read, jsonl, strict=True)] == jsonl


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({0: 1, 1: "one"}, "row 1 has text"),
        ({0: None, 3: "one", 7: 2}, "row 7 has a whole number"),
        ({2: {"a": 1}, 1500: {"a": "one"}}, "row 1500 has an object"),
        ({2: [1.5], 1999: 2.5}, "row 1999 has a number"),
        ({4: "yes", 2004: True, 2005: 1}, "row 2004 has true or false"),
        ({0: 1, 1000: []}, "row 1000 has a list"),
        ({0: 2**53 + 1, 1500: 1.5}, "row 1500 has a number"),
        ({0: 1.5, 1500: -(2**60)}, "row 1500 has a whole number"),
        ({5: 1, 6: 2**70}, "row 6 holds a whole number that is too large"),
        ({0: [["k", 1]]}, "row 0 holds a list .* whose items have different types"),
    ],
)
def test_parquet_with_two_types_in_a_column_is_refused_before_anything_is_sent(
    responses_sandbox, tmp_path, values, kind
):
    pytest.importorskip("pyarrow")
    rows = [row | ({"x": values[number]} if number in values else {}) for number, row in enumerate(table(2010))]
    with pytest.raises(RequestValidationError, match=f"column 'x': {kind}.*'parquet' needs one type per column"):
        enrich(responses_sandbox, tmp_path, rows, output_format="parquet")
    assert not responses_sandbox.ledger


def test_a_column_that_parquet_has_no_type_for_is_refused_before_anything_is_sent(responses_sandbox, tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(RequestValidationError, match=r"column 'x': .* cannot hold it .*'jsonl'"):
        enrich(responses_sandbox, tmp_path, [{"id": 1, "text": "a", "x": {}}], output_format="parquet")
    assert not responses_sandbox.ledger


def test_parquet_accepts_types_that_have_a_common_type(responses_sandbox, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    several = {0: {"a": None}, 1: {"b": [1]}, 1200: {"a": 1, "b": [2.5]}, 1300: None}
    rows = [row | {"x": several.get(number), "y": number / (1 + number // 2)} for number, row in enumerate(table(1400))]
    rows[1300]["y"] = 2**53
    same = lambda row: {"model": MODEL, "input": f"Mood of {row['id'][-1]}"}  # noqa: E731
    enrich(responses_sandbox, tmp_path, rows, row_fields=same, output_format="parquet")
    read = parquet.read_table(tmp_path / "result.parquet").to_pylist()
    assert read[0]["x"] == {"a": None, "b": None}
    assert read[1200]["x"] == {"a": 1, "b": [2.5]}
    assert [row["y"] for row in read] == [row["y"] for row in rows]


def test_responses_of_two_types_in_a_column_cannot_be_parquet_and_are_saved(responses_sandbox, tmp_path):
    pytest.importorskip("pyarrow")
    run = TaskRequest(fields={}, output_type=Either, stream=False)
    responses_sandbox.script(*({"text": json.dumps({"found": found})} for found in (1, "one")))
    with pytest.raises(RequestValidationError, match=r"column 'found': row 1 has .* 'parquet' needs one type"):
        enrich(responses_sandbox, tmp_path, table(2), request=run, output_format="parquet")
    assert enrich(responses_sandbox, tmp_path, table(2), request=run)["requests_sent"] == 0


def test_the_reason_of_a_stop_is_raised_if_the_result_cannot_be_parquet(responses_sandbox, tmp_path, caplog):
    pytest.importorskip("pyarrow")
    run = TaskRequest(fields={}, output_type=Either, stream=False)
    for found in (1, "one"):
        responses_sandbox.script({"text": json.dumps({"found": found})})
    responses_sandbox.script({"status": 402, "times": 50})
    with pytest.raises(PaymentRequiredResponseError):
        enrich(
            responses_sandbox, tmp_path, table(4), request=run, output_format="parquet", limits=Limits(concurrency=1)
        )
    assert "There is no result: column 'found'" in caplog.text
    told = manifest(tmp_path)
    assert (told["output"], told["complete"], told["counts"]) == (None, False, {"ok": 2, "missing": 2})


def test_without_pyarrow_nothing_is_sent_for_parquet(responses_sandbox, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigurationError, match=r"install airflow-provider-responses\[parquet\] on the workers"):
        enrich(responses_sandbox, tmp_path, table(2), output_format="parquet")
    assert not responses_sandbox.ledger
