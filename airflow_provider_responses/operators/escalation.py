"""Escalation of requests to larger models, as an argument of the operators."""

from __future__ import annotations

from airflow_provider_responses.task.escalation import Escalation

__all__ = ["Escalation"]
