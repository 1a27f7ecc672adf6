<<<<<<< HEAD
"""The counts of an attempt, as one process hands them to the next."""
=======
"""The counts of an attempt, which pass through a deferral as JSON."""
>>>>>>> 06ade22 (An attempt that resends requests between two batches can be deferred again: its counters pass through JSON)

from __future__ import annotations

import json
from collections import Counter

from airflow_provider_responses.enrich.progress import Progress


<<<<<<< HEAD
def test_counts_of_an_attempt_with_failures_pass_through_json():
    progress = Progress(done=3, sent=5, cost=0.25, in_flight=2, down_since=7.0, has_price=True)
    progress.failures["BadRequestResponseError"] += 2
    progress.resent["429"] += 1

    restored = Progress.from_json(json.loads(json.dumps(progress.to_json())))

    assert restored == Progress(
        done=3,
        sent=5,
        cost=0.25,
        has_price=True,
        failures=Counter(BadRequestResponseError=2),
        resent=Counter({"429": 1}),
    )
    restored.resent["429"] += 1
    assert restored.resent.total() == 2
=======
def test_counts_pass_through_json_without_those_of_the_moment():
    counters = {"failures": Counter({"RefusalError": 2, "APIError": 1}), "resent": Counter({"429": 3})}
    progress = Progress(done=5, cost=0.25, in_flight=4, down_since=1.5, has_price=True, **counters)
    found = Progress.from_json(json.loads(json.dumps(progress.to_json())))
    assert found == Progress(done=5, cost=0.25, has_price=True, **counters)
    assert isinstance(found.resent, Counter)
>>>>>>> 06ade22 (An attempt that resends requests between two batches can be deferred again: its counters pass through JSON)
