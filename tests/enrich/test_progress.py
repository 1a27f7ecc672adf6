"""The counts of an attempt, as one process hands them to the next."""

from __future__ import annotations

import json
from collections import Counter

from airflow_provider_responses.enrich.model_counts import ModelCounts
from airflow_provider_responses.enrich.progress import Progress


def test_counts_of_an_attempt_with_failures_pass_through_json():
    progress = Progress(done=3, sent=5, cost=0.25, in_flight=2, down_since=7.0, has_price=True)
    progress.failures["BadRequestResponseError"] += 2
    progress.resent["429"] += 1
    progress.models["acme/one"] = ModelCounts(requests=2, cost=0.25, priced=2)

    restored = Progress.from_json(json.loads(json.dumps(progress.to_json())))

    assert restored == Progress(
        done=3,
        sent=5,
        cost=0.25,
        has_price=True,
        failures=Counter(BadRequestResponseError=2),
        resent=Counter({"429": 1}),
        models={"acme/one": ModelCounts(requests=2, cost=0.25, priced=2)},
    )
    restored.resent["429"] += 1
    assert restored.resent.total() == 2
