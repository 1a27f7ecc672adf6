"""A model that looks orders up, decides, and refunds: two Python functions as tools, and SQL that only reads."""

from __future__ import annotations

import datetime

from airflow.providers.common.compat.sdk import dag, task

from airflow_provider_responses.tools import IdempotencyKey

ORDERS = {7: {"item": "umbrella", "paid": 19.5, "arrived": "broken"}}


# [start tools]
def find_order(number: int) -> dict:
    """Return an order: its item, the amount paid, and its condition on arrival.

    :param number: the number of the order.
    """
    return ORDERS.get(number) or {"error": "there is no such order"}


def refund(number: int, reason: str, key: IdempotencyKey) -> str:
    """Refund an order in full.

    :param number: the number of the order.
    :param reason: one sentence for the customer.
    """
    # The payment service ignores a key that it has seen.
    print(f"POST /refunds Idempotency-Key: {key}, reason: {reason}")
    return f"order {number} is refunded"


# [end tools]


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def refunds():
    # [start task]
    @task.responses(
        model="openai/gpt-4o-mini",
        instructions="Refund orders that arrived broken. Then reply to the customer in one sentence.",
        tools=[find_order, refund],
        max_steps=6,
        request={"max_output_tokens": 300},
        max_cost=0.05,
        execution_timeout=datetime.timedelta(minutes=5),
        retries=2,
    )
    def reply(mail: str) -> str:
        return mail

    # [end task]

    reply("My umbrella of order 7 arrived broken. Please find_order and refund it.")


refunds()
