"""The settings of the garbage collector are restored after an attempt, however it ended."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from airflow_provider_responses.enrich.garbage_collection import THRESHOLD, fewer_collections
from airflow_provider_responses.exceptions import ResponsesError
from tests.enrich.jobs import enrich, table


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.unfreeze()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize("ends", [None, KeyboardInterrupt])
def test_the_settings_are_restored(ends):
    before = gc.get_threshold()
    try:
        with fewer_collections():
            assert gc.get_threshold()[0] == THRESHOLD
            assert gc.get_freeze_count() > 1000
            if ends is not None:
                raise ends
    except KeyboardInterrupt:
        assert ends is KeyboardInterrupt
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_objects_that_others_froze_stay_frozen():
    gc.freeze()
    count = gc.get_freeze_count()
    with fewer_collections():
        assert count * 0.9 < gc.get_freeze_count() <= count  # some are freed by their counts of references
    assert gc.get_freeze_count() > count * 0.9


@pytest.mark.parametrize("before", [(0, 10, 10), (50_000, 5, 1000)])
def test_a_higher_threshold_or_a_disabled_collector_is_not_changed(before):
    gc.set_threshold(*before)
    with fewer_collections():
        assert gc.get_threshold() == before
    assert gc.get_threshold() == before


def test_an_attempt_restores_the_settings(responses_sandbox, tmp_path):
    before, seen = gc.get_threshold(), []
    ask = lambda row: (seen.append(gc.get_threshold()[0]), {"model": "openai/gpt-4o-mini", "input": row["text"]})[1]  # noqa: E731
    enrich(responses_sandbox, tmp_path / "one", table(3), row_fields=ask)
    responses_sandbox.script({"status": 401})
    with pytest.raises(ResponsesError):
        enrich(responses_sandbox, tmp_path / "two", table(3))
    assert set(seen) == {max(before[0], THRESHOLD)}
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
