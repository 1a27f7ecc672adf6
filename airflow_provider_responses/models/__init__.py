"""
Requests, responses, batches, stream events and typed outputs of the Responses API.

No I/O and no Airflow. The names load on first use, so that importing a single module stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_responses.models.batch import Batch as Batch
    from airflow_provider_responses.models.batch import BatchRequest as BatchRequest
    from airflow_provider_responses.models.batch import BatchResult as BatchResult
    from airflow_provider_responses.models.events import StreamEvent as StreamEvent
    from airflow_provider_responses.models.messages import ResponseMessage as ResponseMessage
    from airflow_provider_responses.models.output import json_schema_format as json_schema_format
    from airflow_provider_responses.models.output import parse_output as parse_output
    from airflow_provider_responses.models.request import ResponsesRequest as ResponsesRequest
    from airflow_provider_responses.models.response import Response as Response
    from airflow_provider_responses.models.response import Usage as Usage

_MODULES = {
    "Batch": "batch",
    "BatchRequest": "batch",
    "BatchResult": "batch",
    "Response": "response",
    "ResponseMessage": "messages",
    "ResponsesRequest": "request",
    "StreamEvent": "events",
    "Usage": "response",
    "json_schema_format": "output",
    "parse_output": "output",
}
__all__ = [
    "Batch",
    "BatchRequest",
    "BatchResult",
    "Response",
    "ResponseMessage",
    "ResponsesRequest",
    "StreamEvent",
    "Usage",
    "json_schema_format",
    "parse_output",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
