"""OpenRouter's batch API: a submit holds the requests, the batch holds the results. No I/O."""

from __future__ import annotations

from functools import partial
from typing import Any, NoReturn

from airflow_provider_responses.client.batch_body import BatchBody, BatchHead
from airflow_provider_responses.client.batch_protocol import (
    BatchProtocol,
    Download,
    Flow,
    Found,
    ItemFlow,
    ReadBatch,
    SendJson,
    SendRequests,
)
from airflow_provider_responses.client.batch_results import ResultsDownload, read_batch, read_result
from airflow_provider_responses.client.batches import BatchPages, ResultPages, batch_path, id_of, not_finished
from airflow_provider_responses.exceptions import (
    APIError,
    ConfigurationError,
    NotFoundResponseError,
    TransportError,
)
from airflow_provider_responses.models.batch import Batch


class OpenRouterBatches(BatchProtocol):
    """OpenRouter's batch API."""

    body = BatchBody
    head = BatchHead

    def submit(self, head: BatchHead, upload: Any) -> Flow[Batch]:
        """Return the flow that submits a batch."""
        call = self._call("POST", "/batches", "submit", note=f"model {head.model}")
        call = call.as_submit(can_repeat=upload.can_repeat)
        batch: Batch = yield SendRequests(call=call, upload=upload, read=partial(read_batch, request=call.summary))
        return batch

    def get(self, batch_id: str) -> Flow[Batch]:
        """Return the flow that reads a batch."""
        batch: Batch = yield ReadBatch(call=self._call("GET", batch_path(batch_id), "read"))
        return batch

    def list(self, **filters: Any) -> ItemFlow:
        """Return the flow that yields batches."""
        return self._list(BatchPages(**filters))

    def results(self, batch: Batch | str) -> ItemFlow:
        """Return the flow that yields the results of a batch: in pages, or from the batch if the server has none."""
        batch_path(id_of(batch))  # refuses another id at once
        return self._results(id_of(batch))

    def cancel(self, batch_id: str) -> NoReturn:
        """
        Refuse to cancel a batch.

        :raises ConfigurationError: always.
        """
        batch_path(batch_id)
        raise ConfigurationError(
            f"OpenRouter cannot cancel a batch: batch {batch_id} runs on, and is billed. Its results can be read once "
            "it has finished, within 24 hours"
        )

    def delete(self, batch_id: str) -> Flow[dict[str, Any]]:
        """Return the flow that deletes a batch."""
        try:
            report: dict[str, Any] = yield SendJson(call=self._call("DELETE", batch_path(batch_id), "delete"))
        except NotFoundResponseError as error:
            if any(isinstance(earlier, TransportError) for earlier in error.previous):
                return {"id": batch_id, "object": "batch"}  # an earlier send deleted it, and its response was lost
            raise
        return report

    def _list(self, pages: BatchPages) -> ItemFlow:
        while path := pages.next_path():
            page = yield SendJson(call=self._call("GET", path, "list"))
            yield Found(items=pages.read(page))

    def _results(self, batch_id: str) -> ItemFlow:
        pages = ResultPages(batch_id)
        while path := pages.next_path():
            try:
                page = yield SendJson(call=self._call("GET", path, "read"))
                items = pages.read(page)
            except APIError as error:
                if not pages.is_unknown(error):
                    raise
                items = None
            if items is None:
                break
            yield Found(items=(read_result(item, batch_id) for item in items))
        else:
            return
        call = self._call("GET", batch_path(batch_id), "read")
        results = ResultsDownload(call.summary)
        yield Download(call=call, results=results, read=partial(read_result, batch_id=batch_id))
        if results.is_empty:
            batch: Batch = yield ReadBatch(call=call)
            if not batch.is_finished:
                raise not_finished(batch, call.summary.label)
