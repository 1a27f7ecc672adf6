"""Extract the line items of an invoice, choose a category, and read one fact: each with a type of its own."""

from __future__ import annotations

import datetime
from typing import Literal

from airflow.providers.common.compat.sdk import dag, task
from pydantic import BaseModel, Field

INVOICE = (
    "Invoice 17: 2 chairs at 45.50 each, 1 desk at 210.00. Delivery on 1 December 2026. Thank you, Harbour Office."
)


# [start dag]
class Item(BaseModel):
    name: str
    count: int = Field(ge=1)
    price: float = Field(ge=0, description="Of one piece.")


DELIVERY = {
    "title": "Delivery",
    "type": "object",
    "properties": {
        "sender": {"type": "string", "description": "Company that wrote the invoice."},
        "day": {"type": ["string", "null"], "format": "date"},
    },
    "required": ["sender", "day"],
}


@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1), catchup=False, tags=["responses"])
def typed_outputs():
    @task.responses(model="openai/gpt-4o-mini")
    def items(invoice: str) -> list[Item]:
        return f"List the items of this invoice:\n\n{invoice}"

    @task.responses(model="openai/gpt-4o-mini")
    def category(invoice: str) -> Literal["furniture", "travel", "other"]:
        return f"Which category is this invoice?\n\n{invoice}"

    @task.responses(model="openai/gpt-4o-mini", output_type=DELIVERY, output_retries=2)
    def delivery(invoice: str) -> str:
        return f"Who delivers, and when?\n\n{invoice}"

    report(items(INVOICE), category(INVOICE), delivery(INVOICE))
    # [end dag]


@task
def report(items: list[dict], category: str, delivery: dict) -> None:
    """Print the outputs."""
    print(f"category  {category}")
    print(f"sender    {delivery['sender']}, delivers on {delivery['day']}")
    for item in items:
        print(f"item      {item['count']} x {item['name']} at {item['price']}")


typed_outputs()
