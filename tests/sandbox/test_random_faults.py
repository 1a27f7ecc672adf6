"""Random faults: the same calls fail each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from airflow_provider_responses.exceptions import ConfigurationError
from airflow_provider_responses.sandbox import Sandbox
from airflow_provider_responses.sandbox.state.random_faults import Faults, FaultSampler

from .conftest import HEADERS, HELLO, send_and_wait, wait_for

RATES = {"429": 0.3, "500": 0.2, "failed-server": 0.1}


def statuses(sandbox: Sandbox, calls: int = 30) -> list[int]:
    with httpx.Client(base_url=sandbox.base_url, headers=HEADERS, timeout=30) as client:
        return [client.post("/responses", json=HELLO | {"input": f"row {n}"}).status_code for n in range(calls)]


def test_the_same_calls_fail_each_time():
    rounds = []
    for _ in range(2):
        with Sandbox(seed=7, fault_rates=RATES) as sandbox:
            rounds.append(statuses(sandbox))
            sandbox.reset()
            rounds.append(statuses(sandbox))
    assert all(one == rounds[0] for one in rounds)
    assert set(rounds[0]) == {200, 429, 500}
    with Sandbox(seed=8, fault_rates=RATES) as sandbox:
        assert statuses(sandbox) != rounds[0]


def test_faults_happen_at_the_given_rates():
    sampler = FaultSampler(Faults(seed=1, rates=RATES))
    picked = Counter(step and (step.status or step.failed) for step in (sampler.next(str(n)) for n in range(5000)))
    shares = {name: count / 5000 for name, count in picked.items()}
    assert shares == pytest.approx({429: 0.3, 500: 0.2, "server": 0.1, None: 0.4}, abs=0.03)


def test_the_order_of_other_calls_changes_nothing():
    bodies = [str(number) for number in range(50)]
    forwards, backwards = (FaultSampler(Faults(rates=RATES)) for _ in range(2))
    first = {body: forwards.next(body) for body in bodies}
    second = {body: backwards.next(body) for body in reversed(bodies)}
    assert first == second


def test_the_same_body_is_drawn_for_each_time_it_is_sent():
    sampler = FaultSampler(Faults(rates={"500": 0.5}))
    assert len({sampler.next("body") for _ in range(40)}) == 2


def test_a_script_takes_precedence_over_random_faults(sandbox, http):
    sandbox.faults = {"rates": {"500": 1.0}}
    sandbox.script({}, {"status": 429})
    assert [http.post("/responses", json=HELLO).status_code for _ in range(3)] == [200, 429, 500]


def test_faults_are_named_like_models(sandbox):
    sandbox.faults = {"seed": 3, "rates": {"hang": 1}}
    send_and_wait(sandbox, HELLO).close()
    assert wait_for(sandbox, lambda entry: entry.outcome != "running").outcome == "dropped"


def test_faults_are_set_over_http_and_restored_by_reset(sandbox, http):
    response = http.put(f"{sandbox.url}/_sandbox/faults", json={"seed": 7, "rates": {"503": 1}})
    assert response.json() == {"data": {"seed": 7, "rates": {"503": 1}}}
    assert http.post("/responses", json=HELLO).status_code == 503
    sandbox.reset()
    assert sandbox.faults == {"seed": 0, "rates": {}}
    assert http.post("/responses", json=HELLO).status_code == 200


WRONG: list[tuple[Any, str]] = [
    ({"seed": "7"}, "seed"),
    ({"rates": {"200": 0.1}}, "200"),
    ({"rates": {"sometimes": 0.1}}, "sometimes"),
    ({"rates": {"429": 1.5}}, "429"),
    ({"rates": {"429": "0.5"}}, "429"),
    ({"rates": {"429": 0.6, "500": 0.6}}, "add up"),
    ({"rates": [1]}, "faults"),
    ({"shares": {}}, "shares"),
    (3, "faults"),
]


@pytest.mark.parametrize(("given", "named"), WRONG)
def test_invalid_faults_are_refused(sandbox, http, given, named):
    response = http.put(f"{sandbox.url}/_sandbox/faults", json=given)
    assert response.status_code == 400
    assert named in response.json()["error"]["message"]
    if isinstance(given, Mapping) and isinstance(given.get("rates"), Mapping):
        with pytest.raises(ConfigurationError, match=named):
            Sandbox(fault_rates=given["rates"])
