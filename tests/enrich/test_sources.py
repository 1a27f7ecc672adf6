"""Files and lists, read in chunks."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.sources import CHUNK, CHUNK_SIZE, CsvFile, Row, format_of, read_file, read_rows
from airflow_provider_responses.exceptions import ConfigurationError, SourceError


class Memory:
    """A path that is no ``Path``: it has a name and can be opened."""

    def __init__(self, name: str, data: bytes, kind: type[io.BytesIO] = io.BytesIO) -> None:
        self.name, self.data, self.kind = name, data, kind

    def __str__(self) -> str:
        return self.name

    def open(self, mode: str) -> io.BytesIO:
        assert mode == "rb"
        return self.kind(self.data)


def rows_of(name: str, data: bytes, **options: Any) -> list[Row]:
    given = CsvFile(name, **options) if options else None
    chunks = list(read_file(Memory(name, data), csv_options=given))
    assert all(0 < len(chunk) <= CHUNK for chunk in chunks)
    return list(itertools.chain.from_iterable(chunks))


def refusal(name: str, data: bytes, kind: type[Exception] = SourceError) -> str:
    with pytest.raises(kind) as caught:
        rows_of(name, data)
    assert not caught.value.retryable
    assert name in str(caught.value)
    return str(caught.value)


# CSV


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,x\n", [{"a": "1", "b": "x"}]),
        ("\ufeffa,b\r\n1,\r\n", [{"a": "1", "b": ""}]),
        ('\ufeff"a",b\n"x, ""y""\nz",2\n', [{"a": 'x, "y"\nz', "b": "2"}]),
        ("\n\na\n1\n\n2", [{"a": "1"}, {"a": "2"}]),
        ('a\n""\n', [{"a": ""}]),
        ("a,\n1,2\n", [{"a": "1", "": "2"}]),
        ("a\r1\r2\r", [{"a": "1"}, {"a": "2"}]),
        ("a\n\ufeff\n", [{"a": "\ufeff"}]),
        ("a,b\n", []),
        ("\n\n", []),
        ("", []),
    ],
)
def test_csv_is_read(text: str, expected: list[Row]) -> None:
    assert rows_of("in.csv", text.encode()) == expected
    assert rows_of("in.CSV.GZ", gzip.compress(text.encode())) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sep=;\r\na;b\r\n1,5;x\r\n", [{"a": "1,5", "b": "x"}]),
        ("\ufeffSEP=;\na;b\n1;2\n", [{"a": "1", "b": "2"}]),
        ('"sep=;"\na;b\n1;2\n', [{"a": "1", "b": "2"}]),
        ("sep=\t\na\tb\n1\t2\n", [{"a": "1", "b": "2"}]),
        ("sep=,\na,b\n1,2\n", [{"a": "1", "b": "2"}]),
        ("sep=;", []),
        ("sep=ab\n1\n", [{"sep=ab": "1"}]),
        ("a\nsep=;\n", [{"a": "sep=;"}]),
    ],
)
def test_excels_first_line_names_the_delimiter(text: str, expected: list[Row]) -> None:
    assert rows_of("in.csv", text.encode()) == expected


def test_line_numbers_count_excels_first_line() -> None:
    assert "line 4 has 1 values for 2 columns" in refusal("in.csv", b"sep=;\na;b\n1;2\n3\n")


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({"delimiter": ";"}, "a;b\n1,5;x\n", [{"a": "1,5", "b": "x"}]),
        ({"delimiter": ";"}, "sep=|\na|b\n1|2\n", [{"a": "1", "b": "2"}]),
        ({"null_values": ["", "NA"]}, 'a,b\n,NA\n"",x\n', [{"a": None, "b": None}, {"a": None, "b": "x"}]),
        ({"null_values": ["NA"]}, "a,NA\n,1\n", [{"a": "", "NA": "1"}]),
        ({"skip_empty": True}, "a,b\n,\n1,\n , \n,2\n", [{"a": "1", "b": ""}, {"a": "", "b": "2"}]),
        ({"skip_empty": True, "null_values": ["-"]}, "a,b\n-,\n-,1\n", [{"a": None, "b": "1"}]),
        ({"skip_empty": False}, "a,b\n,\n", [{"a": "", "b": ""}]),
    ],
)
def test_csv_options_are_applied(options: dict[str, Any], text: str, expected: list[Row]) -> None:
    assert rows_of("in.txt", text.encode(), **options) == expected
    assert rows_of("in.txt.gz", gzip.compress(text.encode()), **options) == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"delimiter": ";;"}, "CsvFile's delimiter must be one character, such as ';', got ';;'"),
        ({"delimiter": "\n"}, "must be one character"),
        ({"null_values": "NA"}, r"CsvFile's null_values must be a list of texts, such as \['', 'NA'\], got 'NA'"),
        ({"null_values": [None]}, "must be a list of texts"),
        ({"skip_empty": "yes"}, "CsvFile's skip_empty must be True or False, got 'yes'"),
    ],
)
def test_wrong_csv_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        CsvFile("in.csv", **options).check()


def test_a_csv_value_may_have_millions_of_characters() -> None:
    text = "x" * 1_000_000
    assert rows_of("in.csv", f"a,b\n1,{text}\n".encode()) == [{"a": "1", "b": text}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", "line 3 has 1 values for 2 columns"),
        ('a,b\n"1\n1",2\n3,4,5\n', "line 4 has 3 values for 2 columns"),
        ("a,b,a\n1,2,3\n", "two columns 'a'"),
        ('a\n"x"y\n', "line 2 is not valid CSV"),
        ('a\n"x\n', "is not valid CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_its_line_or_column(text: str, message: str) -> None:
    assert message in refusal("in.csv", text.encode())


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_text_that_is_not_utf8_is_refused_with_its_line(kind: str, pack: Callable[[bytes], bytes]) -> None:
    line = b'{"a": "%s"}\n' if kind == "jsonl" else b"%s\n"
    head = b"" if kind == "jsonl" else b"a\n"
    before = 20_000 - len(head.splitlines()) - 1
    data = head + line % "ä".encode() * before + line % "ä".encode("latin-1") + line % b"x" * 100
    name = f"in.{kind}" if pack is bytes else f"in.{kind}.gz"
    said = refusal(name, pack(data))
    assert "line 20000, is not UTF-8 (byte 0xe4" in said
    assert "iconv" in said


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").mkdir()
    with pytest.raises(SourceError, match=r"source: '.*in\.csv' is a folder; name one file"):
        list(read_file(tmp_path / "in.csv"))


def test_utf16_and_a_truncated_character_are_refused() -> None:
    assert "line 1, is not UTF-8" in refusal("in.csv", "a\n1\n".encode("utf-16"))
    assert "line 2, is not UTF-8" in refusal("in.csv", "a\nä".encode()[:-1])


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)


@given(st.data())
def test_every_table_written_as_csv_reads_back(data: st.DataObject) -> None:
    names = data.draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True))
    assume(len(names) > 1 or not {";", "\t"} & set(names[0]))  # or it would be taken for a file with this delimiter
    assume(not names[0].lower().startswith("sep="))  # or it would be taken for Excel's first line
    if names[0].startswith("\ufeff"):
        names[0] = f" {names[0]}"  # or it would be a byte order mark
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, TEXTS)), max_size=20))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names, quoting=data.draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
    writer.writeheader()
    writer.writerows(rows)
    assert rows_of("in.csv", file.getvalue().encode()) == rows


# gzip


def test_a_truncated_or_damaged_gz_is_refused() -> None:
    data = gzip.compress("".join(f'{{"a": {n}}}\n' for n in range(50)).encode(), mtime=0)
    for end in range(1, len(data)):
        assert "cut short" in refusal("in.jsonl.gz", data[:end])
    for place in range(12, len(data) - 1):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        assert "in.jsonl.gz" in refusal("in.jsonl.gz", bytes(broken))
    assert "cannot be unzipped" in refusal("in.csv.gz", b"a,b\n1,2\n")


# JSONL


def test_jsonl_is_read() -> None:
    text = '\ufeff{"a": 1, "b": [null, {"c": "ä\u2028x"}]}\r\n\n   \n{}\n{"a": NaN}'
    expected = [{"a": 1, "b": [None, {"c": "ä\u2028x"}]}, {}, {"a": pytest.approx(float("nan"), nan_ok=True)}]
    assert rows_of("in.jsonl", text.encode()) == expected
    assert rows_of("in.ndjson.gz", gzip.compress(text.encode())) == expected
    assert rows_of("in.jsonl", b"") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n\n{"a": 1', "line 3 is not valid JSON"),
        ("{}\n{'a': 1}\n", "line 2 is not valid JSON"),
        ("[" * 200_000, "line 1 is not valid JSON"),
        ('{}\n["a"]\n', "line 2 must be an object, got a list"),
        ("3", "line 1 must be an object, got a int"),
    ],
)
def test_a_wrong_jsonl_is_refused_with_its_line(text: str, message: str) -> None:
    assert message in refusal("in.jsonl", text.encode())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.dictionaries(TEXTS, JSON, max_size=4), max_size=20), st.booleans())
def test_every_list_written_as_jsonl_reads_back(rows: list[Row], ascii_only: bool) -> None:
    text = "".join(json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    assert rows_of("in.jsonl", text.encode()) == rows


# Parquet


def parquet(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(table, file, **options)
    return file.getvalue()


def test_parquet_keeps_types() -> None:
    row = {
        "day": datetime.date(2024, 2, 29),
        "at": datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.UTC),
        "price": decimal.Decimal("12.340"),
        "raw": b"\x00\xff",
        "tags": [{"name": "ä", "weights": [0.5, None]}],
        "nothing": None,
    }
    assert rows_of("in.parquet", parquet(arrow.Table.from_pylist([row] * 3))) == [row] * 3
    assert rows_of("in.pq", parquet(arrow.Table.from_pylist([], arrow.schema({"a": arrow.int64()})))) == []


def test_truncated_or_invalid_parquet_is_refused() -> None:
    data = parquet(arrow.table({"a": list(range(500)), "b": ["x"] * 500}))
    for end in range(0, len(data), 7):
        assert "cut short" in refusal("in.parquet", data[:end])
    assert "is not valid Parquet" in refusal("in.parquet", b"a,b\n" * 100)
    broken = bytearray(data)
    broken[4:60] = b"\xff" * 56  # the footer is valid, and a page is not
    assert "is not valid Parquet" in refusal("in.parquet", bytes(broken))


def test_an_error_of_the_storage_is_not_reported_as_invalid_parquet() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError(104, "reset")

    path = Memory("in.parquet", parquet(arrow.table({"a": [1]})), Broken)
    with pytest.raises(ConnectionResetError):
        list(read_file(path))


def test_parquet_columns_that_cannot_be_read_are_named() -> None:
    twice = arrow.Table.from_arrays([arrow.array([1]), arrow.array([2])], names=["a", "a"])
    assert "two columns 'a'" in refusal("in.parquet", parquet(twice))
    after = arrow.table({"a": [1], "late": arrow.array([10**7], arrow.date32())})
    assert "column 'late'" in refusal("in.parquet", parquet(after))


# All


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("s3://b/x.csv", ("csv", False)),
        ("x.CSV.gz", ("csv", True)),
        ("x.ndjson", ("jsonl", False)),
        ("x.jsonl.gz", ("jsonl", True)),
        ("x.pq", ("parquet", False)),
    ],
)
def test_the_format_follows_from_the_name(name: str, expected: tuple[str, bool]) -> None:
    assert format_of(name) == expected


@pytest.mark.parametrize("name", ["x.json", "x", "x.csv.zip", "x.parquet.gz", "x.gz", "csv"])
def test_an_unknown_format_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the format of .* is unknown; expected a name that ends in \.csv"):
        format_of(name)
    assert "is unknown" in refusal(name, b"a\n1\n", ConfigurationError)


@pytest.mark.parametrize("kind", ["csv", "jsonl.gz", "parquet"])
def test_a_missing_file_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SourceError, match=rf"there is no file '.*gone\.{kind}'"):
        list(read_file(tmp_path / f"gone.{kind}"))


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_chunks_are_complete(tmp_path: Path, count: int) -> None:
    rows = [{"a": str(number)} for number in range(count)]
    (tmp_path / "in.csv").write_text("a\n" + "".join(f"{row['a']}\n" for row in rows))
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "in.parquet").write_bytes(parquet(arrow.Table.from_pylist(rows, arrow.schema({"a": arrow.string()}))))
    for chunks in (read_rows(rows), *(read_file(tmp_path / f"in.{kind}") for kind in ("csv", "jsonl", "parquet"))):
        read = list(chunks)
        assert [row for chunk in read for row in chunk] == rows
        assert [len(chunk) for chunk in read[:-1]] == [CHUNK] * (len(read) - 1)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_chunks_of_large_rows_are_short(tmp_path: Path, kind: str) -> None:
    rows = [{"a": f"{number} " * 100_000} for number in range(40)]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a"], *([row["a"]] for row in rows)])
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "in.parquet").write_bytes(parquet(arrow.Table.from_pylist(rows)))
    read = list(read_file(tmp_path / f"in.{kind}"))
    assert [row for chunk in read for row in chunk] == rows
    assert max(sum(len(row["a"]) for row in chunk) for chunk in read) < 1.2 * CHUNK_SIZE


def test_a_large_file_is_not_read_whole() -> None:
    class Counting(io.BytesIO):
        taken = 0

        def read1(self, size: int | None = -1) -> bytes:
            data = super().read1(size)
            Counting.taken += len(data)
            return data

    data = b"a\n" + b"12345678\n" * 200_000
    assert len(next(read_file(Memory("in.csv", data, Counting)))) == CHUNK
    assert 0 < Counting.taken < len(data) / 10


def test_rows_of_a_list_are_copied_and_may_be_any_mapping() -> None:
    from types import MappingProxyType

    given_row = {"a": 1}
    [[first, second]] = read_rows(iter([given_row, MappingProxyType({"b": 2})]))
    first["a"] = 2
    assert given_row == {"a": 1}
    assert second == {"b": 2}


@pytest.mark.parametrize(
    ("rows", "message"), [([{}, "x"], "row 1 must be a dict, got str"), ([None], "row 0 must be a dict, got None")]
)
def test_a_row_that_is_no_dict_is_refused_with_its_position(rows: list[Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        list(read_rows(rows))


def test_a_csv_with_semicolons_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("id;text\n1;good\n")
    with pytest.raises(
        ConfigurationError,
        match="separated by semicolons; use CsvFile\\(path, delimiter=';'\\), or write it with commas",
    ):
        list(read_file(path))
