"""
The local index of one try: all rows, their requests, and the answers that are known. SQLite, in a temporary file.

Nothing in it has to last: it is made again from the source and the part files. It puts rows in order, finds duplicates
and fans answers out without that memory grows with the rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from airflow_provider_responses.enrich.amounts import Amount
from airflow_provider_responses.exceptions import RequestValidationError

OK: Final = "ok"
FAILED: Final = "failed"  # sent again by the next try
INVALID: Final = "invalid"  # not sent: something is wrong with the row
# An answer came, and the same request would bring the same: `refused`, `incomplete`, `unreadable`.

_SCHEMA: Final = """
CREATE TABLE rows (
    position INTEGER PRIMARY KEY, key TEXT NOT NULL, fingerprint BLOB, columns TEXT NOT NULL, error TEXT
);
CREATE TABLE requests (
    fingerprint BLOB PRIMARY KEY, first INTEGER NOT NULL, rows INTEGER NOT NULL, fields TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE earlier (key TEXT PRIMARY KEY, prompt TEXT NOT NULL, cost REAL) WITHOUT ROWID;
CREATE TABLE answers (fingerprint BLOB PRIMARY KEY, status TEXT NOT NULL, answer TEXT NOT NULL) WITHOUT ROWID;
"""


class IndexedRow(NamedTuple):
    """A row as it is indexed; without a fingerprint it is not sent, and the error says why."""

    position: int
    key: str
    fingerprint: bytes | None
    columns: str  # JSON object
    error: str | None
    fields: str | None  # of the request, as JSON


class Pending(NamedTuple):
    """A request to send, for one row or more."""

    first: int
    fingerprint: bytes
    rows: int
    fields: str


class EarlierResponse(NamedTuple):
    """What an earlier attempt was sent about a row; without a fingerprint it cannot be used."""

    key: str
    prompt: str  # its fingerprint
    cost: float | None
    fingerprint: bytes | None


class Index:
    """
    See the module.

    :param path: where the file is made.
    """

    def __init__(self, path: Path) -> None:
        # Airflow's timeouts and the flushes come from other threads; they never use it at the same time.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)
        path.unlink()  # it is there as long as it is open: a worker that is killed leaves nothing on its disk
        self._after = -1

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def commit(self) -> None:
        """Commit a transaction."""
        self._db.execute("COMMIT")

    def add(self, rows: Sequence[IndexedRow]) -> None:
        """Add rows."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", [row[:5] for row in rows])
        self._db.executemany(
            "INSERT INTO requests VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET rows = rows + 1",
            [(row.fingerprint, row.position, row.fields) for row in rows if row.fingerprint is not None],
        )
        self.commit()

    def seal(self, key: str | None) -> None:
        """
        Check that no key is there twice.

        :param key: the column; None for keys that are positions.
        :raises RequestValidationError: naming the key and two rows.
        """
        self._db.execute("CREATE INDEX by_first ON requests (first)")
        if key is None:
            return
        try:
            self._db.execute("CREATE UNIQUE INDEX by_key ON rows (key)")
        except sqlite3.IntegrityError:
            query = (
                "SELECT key, min(position), max(position) FROM rows GROUP BY key HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
            )
            twice, first, second = self._db.execute(query).fetchone()
            values = [json.loads(self.row_at(row)[2]).get(key) for row in (first, second)]
            mixed = "" if values[0] == values[1] else ", once as text and once as another type"
            raise RequestValidationError(
                f"key: rows {first} and {second} have the same {key!r}, {twice!r}{mixed}; take a column that tells all "
                "rows apart, or leave `key` out (a query needs one)",
                fields=("key",),
            ) from None

    def know(self, answers: Iterable[tuple[bytes, str, str]]) -> None:
        """
        Add answers, as fingerprint, status and JSON object.

        One is kept per request: the first that is ok, else the first that is final, else the last failure.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO answers VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status, "
            "answer = excluded.answer WHERE status = 'failed' OR (excluded.status = 'ok' AND status <> 'ok')",
            answers,
        )
        self.commit()

    def note_earlier(self, responses: Iterable[EarlierResponse]) -> None:
        """Take note of those that answer no request of this run."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO earlier SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM requests WHERE fingerprint = ?) "
            "ON CONFLICT DO UPDATE SET prompt = excluded.prompt, cost = excluded.cost",
            responses,
        )
        self.commit()

    def changed(self) -> list[tuple[str, int, Amount]]:
        """Return by prompt how many rows had a response, and will be sent again, and what their responses cost."""
        if self._db.execute("SELECT 1 FROM earlier LIMIT 1").fetchone() is None:
            return []
        query = (
            "SELECT prompt, sum(requests.rows), total(cost), count(cost), count(*) - count(cost) FROM requests "
            "JOIN rows ON position = first JOIN earlier USING (key) "
            "LEFT JOIN answers ON answers.fingerprint = requests.fingerprint "
            "WHERE status IS NULL OR status = 'failed' GROUP BY prompt ORDER BY 2 DESC, 1"
        )
        return [(prompt, rows, Amount(*cost)) for prompt, rows, *cost in self._db.execute(query)]

    def pending(self, limit: int) -> list[Pending]:
        """Give the next requests that have no final answer, in the order of the source."""
        query = (
            "SELECT first, fingerprint, rows, fields FROM requests LEFT JOIN answers USING (fingerprint) "
            "WHERE first > ? AND (status IS NULL OR status = 'failed') ORDER BY first LIMIT ?"
        )
        found = [Pending(*row) for row in self._db.execute(query, (self._after, limit))]
        self._after = found[-1].first if found else self._after
        return found

    def row_at(self, position: int) -> tuple[int, str, str]:
        """Give position, key and columns of a row."""
        query = "SELECT position, key, columns FROM rows WHERE position = ?"
        found: tuple[int, str, str] = self._db.execute(query, (position,)).fetchone()
        return found

    def valid_rows(self) -> Iterator[tuple[int, str]]:
        """Return position and columns of the rows that can be sent, in the order of the source."""
        return iter(self._db.execute("SELECT position, columns FROM rows WHERE fingerprint NOTNULL ORDER BY position"))

    def results(self) -> Iterator[tuple[int, str, str, str | None, str | None, bool]]:
        """
        Give position, key, columns, error and answer of all rows in the order of the source.

        The last tells whether the answer was made for an earlier row with the same request.
        """
        query = (
            "SELECT position, key, columns, error, answer, first < position FROM rows "
            "LEFT JOIN answers USING (fingerprint) LEFT JOIN requests USING (fingerprint) ORDER BY position"
        )
        return iter(self._db.execute(query))

    def counts(self) -> dict[str, int]:
        """Give how many rows have each status; `missing` are those without an answer."""
        query = (
            "SELECT CASE WHEN fingerprint IS NULL THEN 'invalid' ELSE coalesce(status, 'missing') END, count(*) "
            "FROM rows LEFT JOIN answers USING (fingerprint) GROUP BY 1"
        )
        return dict(self._db.execute(query))

    def requests_left(self) -> int:
        """Give how many requests have no final answer."""
        query = (
            "SELECT count(*) FROM requests LEFT JOIN answers USING (fingerprint) "
            "WHERE status IS NULL OR status = 'failed'"
        )
        return int(self._db.execute(query).fetchone()[0])

    def first_invalid(self) -> tuple[int, str, str] | None:
        """Give position, key and error of the first row that is not sent."""
        query = "SELECT position, key, error FROM rows WHERE fingerprint IS NULL ORDER BY position LIMIT 1"
        found: tuple[int, str, str] | None = self._db.execute(query).fetchone()
        return found
