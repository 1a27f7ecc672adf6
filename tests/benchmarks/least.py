"""The least that sends a request off the worker: what Airflow itself takes, beside which ours are measured."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any, ClassVar, Final

from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TaskSuccessEvent, TriggerEvent

from airflow_provider_responses.client import AsyncResponsesClient, ClientConfig

REQUEST: Final = {"model": "openai/gpt-4o-mini", "input": "Hello"}


class LeastTrigger(BaseTrigger):
    """
    Sends with the bare client; all share one, which is never closed.

    :param ends: whether it ends its task, without an XCom; else its event holds the text.
    """

    client: ClassVar[AsyncResponsesClient | None] = None

    def __init__(self, url: str, conn_id: str | None = None, ends: bool = False) -> None:
        super().__init__()
        self.url, self.conn_id, self.ends = url, conn_id, ends

    def serialize(self) -> tuple[str, dict[str, Any]]:
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {"url": self.url, "conn_id": self.conn_id, "ends": self.ends}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if LeastTrigger.client is None:
            LeastTrigger.client = AsyncResponsesClient(ClientConfig(api_key="none", base_url=self.url))
            await LeastTrigger.client.__aenter__()
            gc.freeze()  # as ours do
        response = await LeastTrigger.client.send(REQUEST)
        yield TaskSuccessEvent() if self.ends else TriggerEvent({"error": None, "text": response.output_text})


class LeastOperator(BaseOperator):
    """
    A task that such a trigger ends.

    :param starts: whether it starts in the triggerer.
    """

    def __init__(self, *, url: str, starts: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url
        self.start_from_trigger = starts
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=f"{LeastTrigger.__module__}.{LeastTrigger.__qualname__}",
            trigger_kwargs={"url": url, "ends": True},
            next_method="execute_complete",
            next_kwargs=None,
            timeout=None,
        )

    def execute(self, context: Any) -> None:
        self.defer(trigger=LeastTrigger(self.url, ends=True), method_name="execute_complete")

    def execute_complete(self, context: Any, event: Any) -> None:
        raise RuntimeError(f"the trigger has not ended the task: {event}")
