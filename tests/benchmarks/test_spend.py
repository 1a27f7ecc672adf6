"""
The time of ``/responses/api/spend`` for 10,000 task instances. ``make bench`` prints the figures.

The page's first chart needs it. The ratio is taken within one run, over interleaved rounds: these machines are shared.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_1_PLUS

from tests.plugins.conftest import anonymous, database, login, parent  # noqa: F401  fixtures
from tests.plugins.seed import seed

COUNT = 10_000
ROUNDS = 5
# Times the CPU of `json.loads` on the same values. Most of the rest is SQLAlchemy's rows, and the sums.
RATIO = 12.0

pytestmark = pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.1 is the first with the page")


@pytest.fixture
def seeded(database: Callable[..., None]) -> Iterator[list[str]]:  # noqa: F811
    """The values of 10,000 task instances, as JSON."""
    from airflow.models import xcom
    from airflow.utils.session import create_session
    from sqlalchemy import select

    assert seed(COUNT) == COUNT
    table: Any = getattr(xcom, "XComModelV2", None) or xcom.XComModel
    with create_session() as session:
        yield [json.dumps(value) for value in session.scalars(select(table.__table__.c.value))]


def test_the_page_of_ten_thousand_task_instances(seeded: list[str], login: Any, record_property: Any) -> None:  # noqa: F811
    client = login()
    assert client.get("/responses/api/spend").json()["totals"]["task_instances"] == COUNT
    loads, pages, walls = [], [], []
    for _ in range(ROUNDS):
        began = time.process_time()
        for text in seeded:
            json.loads(text)
        loads.append(time.process_time() - began)
        began, clock = time.process_time(), time.perf_counter()
        response = client.get("/responses/api/spend")
        pages.append(time.process_time() - began)
        walls.append(time.perf_counter() - clock)
        assert response.status_code == 200
    ratio = min(pages) / min(loads)
    line = (
        f"/responses/api/spend, {COUNT} task instances: {min(walls):.2f} s, CPU {min(pages):.2f} s, "
        f"{ratio:.1f} times json.loads of the values; {len(response.content) / 1024:.0f} KiB"
    )
    print(line)
    record_property("counted", line)
    assert ratio < RATIO
