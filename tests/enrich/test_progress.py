"""The counts of an attempt, as one process hands them to the next."""

from __future__ import annotations

import json
from collections import Counter

from airflow_provider_responses.enrich.model_counts import ModelCounts
from airflow_provider_responses.enrich.progress import Progress


def test_counts_of_an_attempt_with_failures_pass_through_json():
    progress = Progress(done=3, sent=5, cost=0.25, in_flight=2, down_since=7.0)
    progress.note_price(2, 0.25)
    progress.note_price(2, 0.125)
    progress.priced_kinds |= {0, 2}
    progress.failures["BadRequestResponseError"] += 2
    progress.resent["429"] += 1
    progress.models["acme/one"] = ModelCounts(requests=2, cost=0.25, priced=2)

    restored = Progress.from_json(json.loads(json.dumps(progress.to_json())))

    assert restored == Progress(
        done=3,
        sent=5,
        cost=0.25,
        highest_prices={2: 0.25},
        priced_kinds={0, 2},
        failures=Counter(BadRequestResponseError=2),
        resent=Counter({"429": 1}),
        models={"acme/one": ModelCounts(requests=2, cost=0.25, priced=2)},
    )
    restored.resent["429"] += 1
    assert restored.resent.total() == 2


def test_counts_that_an_earlier_release_has_written_can_be_read():
    data = {**Progress(done=3).to_json(), "most_expensive": 0.25, "has_price": True}
    del data["highest_prices"], data["priced_kinds"]

    assert Progress.from_json(data) == Progress(done=3)
