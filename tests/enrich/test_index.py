"""The local index: order, duplicates, and which outcome counts."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_responses.enrich.index import Index, IndexedOutcome, IndexedRow, PendingRequest
from airflow_provider_responses.enrich.next_step import Step
from airflow_provider_responses.enrich.outcome_json import without_cost
from airflow_provider_responses.enrich.result import result_lines
from airflow_provider_responses.exceptions import RequestValidationError

Make = Callable[[], Index]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Return a function that makes indexes."""
    folder, made = tmp_path_factory.mktemp("indexes"), list[Index]()

    def new() -> Index:
        made.append(Index(Path(folder) / f"{len(made)}.sqlite"))
        return made[-1]

    yield new
    for index in made:
        index.close()


@pytest.fixture
def index(make: Make) -> Index:
    return make()


def row(position: int, request: str | None, key: str | None = None, error: str | None = None) -> IndexedRow:
    """Return a row whose request is identified by a word."""
    fingerprint = None if request is None else request.encode()
    fields = None if request is None else json.dumps({"input": request})
    return IndexedRow(position, key or str(position), fingerprint, json.dumps({"n": position}), error, fields)


def fill(index: Index, requests: str) -> None:
    """Return one row for each letter; a dot is a row that is not sent."""
    index.add([row(n, None, error="bad") if word == "." else row(n, word) for n, word in enumerate(requests)])
    index.check_keys(None)


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_duplicate_key_is_refused_with_both_rows(index: Index, chunk: int) -> None:
    keys = ["a", "b", "c", "b", "d", "a", "a"]
    rows = [row(n, "x", key) for n, key in enumerate(keys)]
    for start in range(0, len(rows), chunk):
        index.add(rows[start : start + chunk])
    with pytest.raises(RequestValidationError, match=r"key: rows 0 and 6 have the same 'id', 'a'") as caught:
        index.check_keys("id")
    assert caught.value.fields == ("key",)


def test_unique_keys_are_accepted(index: Index) -> None:
    index.add([row(0, "x", "a"), row(1, "x", "A"), row(2, None, "a ")])
    index.check_keys("id")
    assert index.counts() == {"missing": 2, "invalid": 1}


def test_rows_without_a_key_may_be_equal(index: Index) -> None:
    index.add([row(0, "x", "a"), row(1, "x", "a")])
    index.check_keys(None)
    assert index.counts() == {"missing": 2}


def winner(statuses: tuple[str, ...]) -> int:
    """Return the outcome that counts, of several for one request."""
    if "ok" in statuses:
        return statuses.index("ok")
    final = [n for n, status in enumerate(statuses) if status != "failed"]
    return final[0] if final else len(statuses) - 1


@pytest.mark.parametrize("at_once", [True, False])
def test_the_first_ok_outcome_counts_otherwise_the_first_final_one_otherwise_the_last_failure(
    make: Make, at_once: bool
) -> None:
    kinds = ("ok", "refused", "invalid_output", "failed")
    for statuses in itertools.chain.from_iterable(itertools.product(kinds, repeat=n) for n in (1, 2, 3)):
        index = make()
        fill(index, "x")
        outcomes = [IndexedOutcome(b"x", status, f'{{"n":{n}}}') for n, status in enumerate(statuses)]
        for some in [outcomes] if at_once else [[outcome] for outcome in outcomes]:
            index.add_outcomes(iter(some))
        expected = winner(statuses)
        [(_, _, _, _, outcome, _)] = index.results()
        assert outcome == f'{{"n":{expected}}}', statuses
        assert index.counts() == {statuses[expected]: 1}
        assert index.count_pending() == (statuses[expected] == "failed")
        index.close()


def test_requests_without_a_final_outcome_are_pending_in_the_order_of_the_source(index: Index) -> None:
    fill(index, "abac.dbea")
    index.add_outcomes(
        [IndexedOutcome(b"b", "ok", "{}"), IndexedOutcome(b"c", "failed", "{}"), IndexedOutcome(b"d", "refused", "{}")]
    )
    assert index.count_pending() == 3
    first = index.next_pending(2)
    assert first == [PendingRequest(0, b"a", 3, '{"input": "a"}'), PendingRequest(3, b"c", 1, '{"input": "c"}')]
    index.add_outcomes(
        [IndexedOutcome(b"a", "failed", "{}"), IndexedOutcome(b"c", "ok", "{}")]
    )  # a request is returned once
    assert [pending.fingerprint for pending in index.next_pending(2)] == [b"e"]
    assert index.next_pending(2) == []
    assert index.next_pending(2) == []
    assert index.counts() == {"failed": 3, "ok": 3, "invalid": 1, "refused": 1, "missing": 1}


@given(
    requests=st.text("abcdefgh.", max_size=40),
    outcomes=st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["ok", "refused", "failed"])),
    size=st.integers(1, 5),
)
def test_pages_of_pending_requests_are_complete(make: Make, requests: str, outcomes: dict[str, str], size: int) -> None:
    index = make()
    fill(index, requests)
    index.add_outcomes(IndexedOutcome(word.encode(), status, "{}") for word, status in outcomes.items())
    found: list[PendingRequest] = []
    while page := index.next_pending(size):
        assert len(page) <= size
        found += page
    left = [word for word in dict.fromkeys(requests.replace(".", "")) if outcomes.get(word, "failed") == "failed"]
    assert [pending.fingerprint.decode() for pending in found] == left
    assert [pending.row_count for pending in found] == [requests.count(word) for word in left]
    assert [pending.first_row for pending in found] == [requests.index(word) for word in left]
    assert index.count_pending() == len(left)
    assert sum(index.counts().values()) == len(requests)
    assert [result[0] for result in index.results()] == list(range(len(requests)))
    index.close()


def test_rows_with_the_same_request_share_an_outcome_that_is_paid_once(index: Index) -> None:
    fill(index, "xyx.z")
    index.add_outcomes([IndexedOutcome(b"x", "ok", '{"output":"X","_status":"ok","_cost":0.5}')])
    index.add_outcomes([IndexedOutcome(b"y", "failed", '{"output":null,"_status":"failed","_cost":null}')])
    assert [(position, is_shared) for position, _, _, _, _, is_shared in index.results()] == [
        (0, 0),
        (1, 0),
        (2, 1),
        (3, None),
        (4, 0),
    ]
    written = [json.loads(line) for line in result_lines(index, {"output": None, "_status": None, "_cost": None})]
    assert written == [
        {"_row": 0, "n": 0, "output": "X", "_status": "ok", "_cost": 0.5},
        {"_row": 1, "n": 1, "output": None, "_status": "failed", "_cost": None},
        {"_row": 2, "n": 2, "output": "X", "_status": "ok", "_cost": 0.0},
        {"_row": 3, "n": 3, "output": None, "_status": "invalid", "_cost": 0.0, "_error": "bad", "_sends": 0},
        {"_row": 4, "n": 4, "output": None, "_status": "missing", "_cost": None},
    ]


def test_a_shared_outcome_is_free_unless_its_price_is_unknown() -> None:
    assert json.loads(without_cost('{"a":1,"_cost":0.25}')) == {"a": 1, "_cost": 0.0}
    assert json.loads(without_cost('{"a":1,"_cost":null}')) == {"a": 1, "_cost": None}


def test_rows_are_found_by_position(index: Index) -> None:
    fill(index, "xx")
    assert index.row_at(1) == (1, "1", '{"n": 1}')


def test_the_first_invalid_row_is_found(index: Index) -> None:
    fill(index, "x")
    assert index.first_invalid() is None
    index.add([row(2, None, "k2", "two"), row(1, None, "k1", "one")])
    assert index.first_invalid() == (1, "k1", "one")


def test_texts_are_stored_unchanged(index: Index) -> None:
    text = '{"a":"ä\U0001f600\u2028 \\u0000"}'
    index.add([IndexedRow(0, "k\x00ä", b"\x00\xff", text, None, text)])
    index.check_keys("id")
    index.add_outcomes([IndexedOutcome(b"\x00\xff", "ok", text)])
    assert list(index.results()) == [(0, "k\x00ä", text, None, text, 0)]
    assert index.next_pending(1) == []


def test_a_worker_that_is_killed_leaves_no_index_on_its_disk(tmp_path: Path) -> None:
    with contextlib.closing(Index(tmp_path / "index.sqlite")) as index:
        index.add([IndexedRow(0, "a", b"a", "{}", None, "{}")])
        assert not list(tmp_path.iterdir())
        assert index.count_pending() == 1


ESCALATING = IndexedOutcome(b"x", "escalating", '{"n": 0}', 0, Step(1).rank)
FAILED_LATER = IndexedOutcome(b"x", "failed", '{"n": 1}', Step(1).rank, None, True)
LAST = IndexedOutcome(b"x", "ok", '{"n": 2}', Step(1).rank, None)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("outcomes", "shown", "step"),
    [
        ([ESCALATING], (0, "escalating"), Step(1)),
        ([ESCALATING, FAILED_LATER], (1, "failed"), Step(1)),
        ([ESCALATING, FAILED_LATER, LAST], (2, "ok"), None),
        ([ESCALATING, LAST, FAILED_LATER], (2, "ok"), None),
        ([LAST, ESCALATING], (2, "ok"), None),
        ([FAILED_LATER, LAST], (2, "ok"), None),
        ([IndexedOutcome(b"x", "refused", '{"n": 0}'), FAILED_LATER], (0, "refused"), None),
        ([IndexedOutcome(b"x", "failed", '{"n": 0}'), ESCALATING], (0, "escalating"), Step(1)),
    ],
)
def test_the_outcome_of_the_last_step_counts_and_a_failed_step_is_pending(
    make: Make, outcomes: list[IndexedOutcome], shown: tuple[int, str], step: Step | None, at_once: bool
) -> None:
    index = make()
    fill(index, "x")
    for some in [outcomes] if at_once else [[outcome] for outcome in outcomes]:
        index.add_outcomes(some)
    [(_, _, _, _, columns, _)] = index.results()
    assert (json.loads(columns or "")["n"], index.counts()) == (shown[0], {shown[1]: 1})
    assert [it.step for it in index.pending(-1, 9)] == ([] if step is None else [step])
    assert [it.earlier for it in index.pending(-1, 9)] == ([] if step is None else [columns])
    assert index.count_pending() == (step is not None)
    assert (index.count_first_steps(), index.failed_requests()) == (0, set())


def test_a_failed_later_step_alone_is_no_outcome(index: Index) -> None:
    fill(index, "x")
    index.add_outcomes([FAILED_LATER])
    assert index.counts() == {"missing": 1}
    assert index.next_pending(1) == [PendingRequest(0, b"x", 1, '{"input": "x"}')]


def test_a_request_with_a_next_step_is_held_no_longer_once_its_batch_has_landed(index: Index) -> None:
    fill(index, "xy")
    index.hold([b"x", b"y"])
    index.add_outcomes([ESCALATING])
    index.release_later_steps()
    assert [it.fingerprint for it in index.pending(-1, 9)] == [b"x"]
    found = index.find_row(b"x")
    assert found is not None
    assert (found.status, index.status_of(b"x")) == ("escalating", "escalating")
