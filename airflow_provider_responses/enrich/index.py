"""
The local index of one attempt: all rows, their requests, and the outcomes that are known. SQLite, in a temporary file.

It is built again by each attempt, from the source and the parts. It keeps rows in order, finds duplicates, and lets
rows with the same request share a response, without memory that grows with the rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from airflow_provider_responses.enrich.json_values import dump
from airflow_provider_responses.enrich.next_step import FIRST, Step
from airflow_provider_responses.exceptions import RequestValidationError
from airflow_provider_responses.task.cost_total import CostTotal

_SCHEMA: Final = """
CREATE TABLE rows (
    position INTEGER PRIMARY KEY, key TEXT NOT NULL, fingerprint BLOB, columns TEXT NOT NULL, error TEXT
);
CREATE TABLE requests (
    fingerprint BLOB PRIMARY KEY, first_row INTEGER NOT NULL, row_count INTEGER NOT NULL, fields TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE unused (
    key TEXT PRIMARY KEY, prompt TEXT NOT NULL, cost REAL, rank INTEGER NOT NULL, paid REAL
) WITHOUT ROWID;
CREATE TABLE outcomes (
    fingerprint BLOB PRIMARY KEY, status TEXT NOT NULL, columns TEXT NOT NULL, rank INTEGER NOT NULL, next INTEGER,
    failed INTEGER NOT NULL, score REAL, response TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE sums (fingerprint BLOB PRIMARY KEY, cost REAL, tokens INTEGER, sends INTEGER) WITHOUT ROWID;
CREATE TABLE held (fingerprint BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE VIEW pending AS
    SELECT first_row, fingerprint, row_count, fields, next, CASE WHEN next NOTNULL THEN columns END AS earlier, rank
    FROM requests LEFT JOIN outcomes USING (fingerprint)
    WHERE (status IS NULL OR status = 'failed' OR next NOTNULL)
    AND NOT EXISTS (SELECT 1 FROM held WHERE held.fingerprint = requests.fingerprint);
-- Of a request with a next step, one that has failed does not count: there is a response.
CREATE VIEW statuses AS
    SELECT fingerprint, CASE WHEN next NOTNULL THEN 'escalating' ELSE status END AS status FROM outcomes;
"""


class IndexedRow(NamedTuple):
    """A row as it is indexed; one without a fingerprint is not sent, and has an error instead."""

    position: int
    key: str
    fingerprint: bytes | None
    columns: str  # JSON object
    error: str | None
    fields: str | None  # of the request, as JSON


class PendingRequest(NamedTuple):
    """
    A request to send, for one row or more.

    :param fields: of the task's own model, as JSON.
    :param step: that is next.
    :param before: the step before it.
    :param earlier: the columns by the steps before it, as JSON; None before the first.
    """

    first_row: int
    fingerprint: bytes
    row_count: int
    fields: str
    step: Step = FIRST
    earlier: str | None = None
    before: Step = FIRST

    @classmethod
    def from_index(cls, row: Any) -> PendingRequest:
        """Return the request of a row with the rank of the step."""
        if row[4] is None:
            return cls(row[0], row[1], row[2], row[3])
        return cls(row[0], row[1], row[2], row[3], Step.of_rank(row[4]), row[5], Step.of_rank(row[6]))


class IndexedOutcome(NamedTuple):
    """
    The outcome of a step.

    :param status: of the row, as the result shows it.
    :param columns: JSON object.
    :param rank: of the step.
    :param next: the rank of the next step, None for the last.
    :param has_failed: whether the step failed, and is the next one again.
    :param score: of the row, if it has one.
    :param response: the status by the response, of one with a next step.
    """

    fingerprint: bytes
    status: str
    columns: str
    rank: int = 0
    next: int | None = None
    has_failed: bool = False
    score: float | None = None
    response: str = ""


class Scores(NamedTuple):
    """
    The scores of the rows.

    :param failed: number of rows whose judge has failed.
    """

    scored: int
    failed: int
    below_min_score: int
    mean: float | None


class WaitingOutcome(NamedTuple):
    """An outcome with a next step."""

    step: Step
    following: Step
    response: str  # the status by the response
    columns: str  # JSON object


class Sums(NamedTuple):
    """The cost, tokens and sends of all steps of a request so far."""

    fingerprint: bytes
    cost: float | None
    tokens: int | None
    sends: int | None


class FoundRow(NamedTuple):
    """The first row with a request, without the request."""

    position: int
    row_count: int
    status: str | None  # of the request's outcome
    key: str
    columns: str  # JSON object


class UnusedResponse(NamedTuple):
    """A response of an earlier attempt; one without a fingerprint cannot be used."""

    key: str
    prompt: str  # its fingerprint
    cost: float | None  # with that of the steps before
    fingerprint: bytes | None
    rank: int = 0  # of its step
    paid: float | None = None  # for this step


class IndexedResult(NamedTuple):
    """A row of the result; ``is_shared`` if an earlier row with the same request has the response, too."""

    position: int
    key: str
    columns: str
    error: str | None
    outcome: str | None
    is_shared: bool


class Index:
    """
    See the module.

    :param path: where the file is made.
    """

    def __init__(self, path: Path) -> None:
        # Airflow's timeouts and the part writer use it from other threads, never at the same time.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)
        path.unlink()  # the open file stays usable, and a worker that is killed leaves nothing on its disk
        self._last_row = -1  # whose request was returned as pending

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
            "INSERT INTO requests VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET row_count = row_count + 1",
            [(row.fingerprint, row.position, row.fields) for row in rows if row.fingerprint is not None],
        )
        self.commit()

    def check_keys(self, key: str | None) -> None:
        """
        Check that no two rows have the same key. Call it once, after the last row.

        :param key: the column; None for keys that are positions.
        :raises RequestValidationError: naming the key and two rows.
        """
        self._db.execute("CREATE INDEX by_first_row ON requests (first_row)")
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
                f"key: rows {first} and {second} have the same {key!r}, {twice!r}{mixed}; use a column whose values "
                "are unique, or omit `key` (a query needs one)",
                fields=("key",),
            ) from None

    def add_outcomes(self, outcomes: Iterable[IndexedOutcome]) -> None:
        """
        Add outcomes.

        A request keeps that of its last step; of the outcomes of one step the first that is ok, otherwise the first
        that is final, otherwise the last failure. A later step that failed changes what the result shows, no more.
        """
        failures: list[IndexedOutcome] = []
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT DO UPDATE SET status = excluded.status, columns = excluded.columns, rank = excluded.rank, "
            "next = excluded.next, failed = 0, score = excluded.score, response = excluded.response "
            "WHERE excluded.rank > rank OR (excluded.rank = rank AND "
            "((status = 'failed' AND next ISNULL) OR (excluded.status = 'ok' AND status <> 'ok')))",
            _responses(outcomes, failures),
        )
        self._db.executemany(
            "UPDATE outcomes SET status = ?, columns = ?, failed = 1, score = NULL WHERE fingerprint = ? AND next = ?",
            [(it.status, it.columns, it.fingerprint, it.rank) for it in failures],
        )
        self.commit()

    def waiting(self, fingerprint: bytes) -> WaitingOutcome | None:
        """Return the outcome of a request if it has a next step."""
        query = "SELECT rank, next, response, columns FROM outcomes WHERE fingerprint = ? AND next NOTNULL"
        row = self._db.execute(query, (fingerprint,)).fetchone()
        return None if row is None else WaitingOutcome(Step.of_rank(row[0]), Step.of_rank(row[1]), row[2], row[3])

    def set_next(self, outcome: IndexedOutcome) -> None:
        """Change the next step of an outcome."""
        self._db.execute(
            "UPDATE outcomes SET status = ?, columns = ?, next = ? WHERE fingerprint = ?",
            (outcome.status, outcome.columns, outcome.next, outcome.fingerprint),
        )

    def add_sums(self, sums: Iterable[Sums]) -> None:
        """Add the sums of outcomes that are not in the result, for :meth:`apply_sums`."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO sums VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "cost = coalesce(max(cost, excluded.cost), cost, excluded.cost), "
            "tokens = coalesce(max(tokens, excluded.tokens), tokens, excluded.tokens), "
            "sends = coalesce(max(sends, excluded.sends), sends, excluded.sends)",
            sums,
        )
        self.commit()

    def apply_sums(self) -> None:
        """Raise cost, tokens and sends of outcomes to the sums, which grow from step to step."""
        query = (
            "SELECT fingerprint, sums.cost, tokens, sends, outcomes.columns FROM sums "
            "JOIN outcomes USING (fingerprint) WHERE fingerprint > ? ORDER BY fingerprint LIMIT 1000"
        )
        last = b""
        while found := self._db.execute(query, (last,)).fetchall():
            last = found[-1][0]
            self._db.execute("BEGIN")
            self._db.executemany(
                "UPDATE outcomes SET columns = ? WHERE fingerprint = ?",
                [(_with_sums(columns, sums), fingerprint) for fingerprint, *sums, columns in found],
            )
            self.commit()

    def add_unused(self, responses: Iterable[UnusedResponse]) -> None:
        """Add responses of earlier attempts, leaving out those to a request of this attempt."""
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT INTO unused SELECT ?1, ?2, ?3, ?5, ?6 "
            "WHERE NOT EXISTS (SELECT 1 FROM requests WHERE fingerprint = ?4) "
            "ON CONFLICT DO UPDATE SET prompt = excluded.prompt, cost = excluded.cost, rank = excluded.rank, "
            "paid = excluded.paid",
            responses,
        )
        self.commit()

    def changed_requests(self) -> list[tuple[str, int, CostTotal]]:
        """
        Return by prompt the number of rows with an unused response that will be sent again, and its cost.

        Of a request with a next step, only an unused response of that step is sent again.
        """
        if self._db.execute("SELECT 1 FROM unused LIMIT 1").fetchone() is None:
            return []
        query = (
            "SELECT prompt, sum(row_count), total(cost), count(cost), count(*) - count(cost) FROM ("
            "SELECT prompt, row_count, CASE WHEN next ISNULL THEN cost ELSE paid END AS cost FROM requests "
            "JOIN rows ON position = first_row JOIN unused USING (key) "
            "LEFT JOIN outcomes ON outcomes.fingerprint = requests.fingerprint "
            "WHERE status IS NULL OR (status = 'failed' AND next ISNULL) OR next = unused.rank"
            ") GROUP BY prompt ORDER BY 2 DESC, 1"
        )
        return [(prompt, rows, CostTotal(*cost)) for prompt, rows, *cost in self._db.execute(query)]

    def hold(self, fingerprints: Iterable[bytes]) -> None:
        """Hold requests, so that :meth:`pending` leaves them out: a batch has them, or they are not sent now."""
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO held VALUES (?) ON CONFLICT DO NOTHING", ((it,) for it in fingerprints))
        self.commit()

    def release(self, fingerprints: Iterable[bytes]) -> None:
        """Hold requests no longer."""
        self._db.execute("BEGIN")
        self._db.executemany("DELETE FROM held WHERE fingerprint = ?", ((it,) for it in fingerprints))
        self.commit()

    def release_later_steps(self) -> None:
        """Hold requests no longer whose first step has ended, and that have a next one."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM held WHERE fingerprint IN (SELECT fingerprint FROM outcomes WHERE next NOTNULL)")
        self.commit()

    def pending(self, after: int, limit: int) -> list[PendingRequest]:
        """
        Return requests without a final outcome that are not held, in the order of the source.

        :param after: position of the row after which they begin.
        :param limit: maximum number of requests.
        """
        query = "SELECT * FROM pending WHERE first_row > ? ORDER BY first_row LIMIT ?"
        return [PendingRequest.from_index(row) for row in self._db.execute(query, (after, limit))]

    def pending_sizes(self) -> Iterator[tuple[bytes, int]]:
        """Yield the fingerprints and the bytes of the fields of pending requests, the smallest first."""
        query = "SELECT fingerprint, length(CAST(fields AS BLOB)) FROM pending ORDER BY 2, first_row"
        return iter(self._db.execute(query))

    def hold_all_but(self, fingerprints: Iterable[bytes]) -> None:
        """Hold all requests but a few."""
        self._db.execute("BEGIN")
        self._db.execute("INSERT INTO held SELECT fingerprint FROM requests WHERE true ON CONFLICT DO NOTHING")
        self.commit()
        self.release(fingerprints)

    def responses(self) -> Iterator[tuple[str, str]]:
        """Yield the fields of each request that had one response, and the columns of that, both as JSON."""
        query = (
            "SELECT fields, columns FROM outcomes JOIN requests USING (fingerprint) "
            "WHERE status <> 'failed' AND rank = 0"
        )
        return iter(self._db.execute(query))

    def next_pending(self, limit: int) -> list[PendingRequest]:
        """Return the next requests of :meth:`pending`, each once."""
        found = self.pending(self._last_row, limit)
        self._last_row = found[-1].first_row if found else self._last_row
        return found

    def find_request(self, fingerprint: bytes) -> tuple[PendingRequest, str | None] | None:
        """Return a request and the status of its outcome (None without one); None if no row has this request."""
        query = (
            "SELECT first_row, requests.fingerprint, row_count, fields, status FROM requests "
            "LEFT JOIN statuses USING (fingerprint) WHERE requests.fingerprint = ?"
        )
        row = self._db.execute(query, (fingerprint,)).fetchone()
        return None if row is None else (PendingRequest(*row[:4]), row[4])

    def find_row(self, fingerprint: bytes) -> FoundRow | None:
        """Return the first row with a request and the status of its outcome; None if no row has this request."""
        query = (
            "SELECT first_row, row_count, status, key, columns FROM requests JOIN rows ON position = first_row "
            "LEFT JOIN statuses ON statuses.fingerprint = requests.fingerprint WHERE requests.fingerprint = ?"
        )
        row = self._db.execute(query, (fingerprint,)).fetchone()
        return None if row is None else FoundRow._make(row)

    def name_row(self, fingerprint: bytes) -> str | None:
        """Return the name of the first row with a request, for errors; None if no row has this request."""
        query = "SELECT position, key FROM requests JOIN rows ON position = first_row WHERE requests.fingerprint = ?"
        row = self._db.execute(query, (fingerprint,)).fetchone()
        return None if row is None else f"row {row[0]} (key {row[1]})"

    def status_of(self, fingerprint: bytes) -> str | None:
        """Return the status of the outcome of a request, also of one that no row has; None without an outcome."""
        row = self._db.execute("SELECT status FROM statuses WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return None if row is None else str(row[0])

    def row_at(self, position: int) -> tuple[int, str, str]:
        """Return position, key and columns of a row."""
        query = "SELECT position, key, columns FROM rows WHERE position = ?"
        found: tuple[int, str, str] = self._db.execute(query, (position,)).fetchone()
        return found

    def valid_rows(self) -> Iterator[tuple[int, str]]:
        """Return position and columns of the rows that can be sent, in the order of the source."""
        return iter(self._db.execute("SELECT position, columns FROM rows WHERE fingerprint NOTNULL ORDER BY position"))

    def results(self) -> Iterator[IndexedResult]:
        """Yield the rows of the result, in the order of the source."""
        query = (
            "SELECT position, key, rows.columns, error, outcomes.columns, first_row < position FROM rows "
            "LEFT JOIN outcomes USING (fingerprint) LEFT JOIN requests USING (fingerprint) ORDER BY position"
        )
        return map(IndexedResult._make, self._db.execute(query))

    def counts(self) -> dict[str, int]:
        """Return the number of rows by status; rows without an outcome are `missing`."""
        query = (
            "SELECT CASE WHEN fingerprint IS NULL THEN 'invalid' ELSE coalesce(status, 'missing') END, count(*) "
            "FROM rows LEFT JOIN outcomes USING (fingerprint) GROUP BY 1"
        )
        return dict(self._db.execute(query))

    def count_pending(self) -> int:
        """Return the number of requests without a final outcome that are not held."""
        return int(self._db.execute("SELECT count(*) FROM pending").fetchone()[0])

    def count_first_steps(self) -> int:
        """Return the number of pending requests that have no response yet."""
        return int(self._db.execute("SELECT count(*) FROM pending WHERE next ISNULL").fetchone()[0])

    def scores(self, min_score: float | None) -> Scores:
        """Return the number and the mean of the scores of the rows."""
        query = (
            "SELECT total((score NOTNULL) * row_count), total((failed AND next % 2 = 1) * row_count), "
            "total((score < ?) * row_count), total(score * row_count) "
            "FROM requests JOIN outcomes USING (fingerprint) WHERE score NOTNULL OR failed"
        )
        scored, failed, below, total = self._db.execute(query, (min_score,)).fetchone()
        return Scores(int(scored), int(failed), int(below), total / scored if scored else None)

    def count_waiting(self) -> dict[int, int]:
        """Return by tier the number of requests that will be sent on to a larger model."""
        found: Counter[int] = Counter()
        query = (
            "SELECT rank, count(*) FROM requests JOIN outcomes USING (fingerprint) "
            "WHERE next NOTNULL AND next % 2 = 0 GROUP BY rank"
        )
        for rank, count in self._db.execute(query):
            step = Step.of_rank(rank)
            found[step.tier] += 0 if step.other else count
        return dict(found)

    def failed_requests(self) -> set[bytes]:
        """Return the fingerprints of the requests whose first step has failed, and that are not held."""
        query = (
            "SELECT fingerprint FROM requests JOIN outcomes USING (fingerprint) "
            "WHERE status = 'failed' AND next ISNULL "
            "AND NOT EXISTS (SELECT 1 FROM held WHERE held.fingerprint = requests.fingerprint)"
        )
        return {row[0] for row in self._db.execute(query)}

    def first_invalid(self) -> tuple[int, str, str] | None:
        """Return position, key and error of the first row that is not sent."""
        query = "SELECT position, key, error FROM rows WHERE fingerprint IS NULL ORDER BY position LIMIT 1"
        found: tuple[int, str, str] | None = self._db.execute(query).fetchone()
        return found


def _with_sums(columns: str, sums: Sequence[float | None]) -> str:
    found = json.loads(columns)
    for name, least in zip(("_cost", "_tokens", "_sends"), sums, strict=True):
        known = [it for it in (found.get(name), least) if it is not None]
        found[name] = max(known, default=None)
    return dump(found)


def _responses(outcomes: Iterable[IndexedOutcome], failures: list[IndexedOutcome]) -> Iterator[IndexedOutcome]:
    """Yield the outcomes with a response, and of first steps; collect those of later steps that failed."""
    for outcome in outcomes:
        if outcome[5]:
            failures.append(outcome)
        else:
            yield outcome
