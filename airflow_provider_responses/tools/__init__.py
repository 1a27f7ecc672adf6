"""
Python functions as tools of a model, and the loop that calls them. No Airflow.

``ResponsesOperator(tools=[…])`` uses it. Public are :class:`Tool` and :class:`IdempotencyKey`.
"""

from __future__ import annotations

from airflow_provider_responses.tools.function_tool import IdempotencyKey, Tool

__all__ = ["IdempotencyKey", "Tool"]
