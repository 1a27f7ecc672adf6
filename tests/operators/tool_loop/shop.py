"""A shop whose functions are tools, and what the requests and ``usage`` have of their calls."""

from __future__ import annotations

from airflow_provider_responses.tools import IdempotencyKey
from tests.airflow_fakes import TaskInstance

FOREVER = "sandbox/calls-1000"


class Shop:
    """Functions with effects, which are counted."""

    def __init__(self) -> None:
        self.charged: list[int] = []
        self.keys: list[str] = []
        self.failures: list[Exception] = []

    def charge(self, order: int, *, key: IdempotencyKey) -> dict[str, int]:
        """Charge an order."""
        self.charged.append(order)
        self.keys.append(key)
        if self.failures:
            raise self.failures.pop(0)
        return {"charged": order}

    def find(self, name: str) -> str:
        """Find a customer."""
        return f"customer {name}"


def calling(*calls: tuple[str, object]) -> dict[str, object]:
    return {"calls": [{"name": name, "arguments": arguments} for name, arguments in calls]}


def outputs(body: dict) -> list[str]:
    return [item["output"] for item in body["input"] if item.get("type") == "function_call_output"]


def outputs_of(body: dict) -> list[str]:
    return outputs(body) if isinstance(body["input"], list) else []


def statuses(ti: TaskInstance) -> list[list[str]]:
    return [[call["status"] for call in step["calls"]] for step in ti.xcoms["usage"]["steps"]]
