"""OpenAI's batch API: the requests are an uploaded file, the results are files to download. No I/O."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from functools import partial
from logging import getLogger
from typing import Any

from airflow_provider_responses.client.batch_protocol import (
    BatchProtocol,
    Download,
    Flow,
    Found,
    ItemFlow,
    ReadBatch,
    SendJson,
    SendRequests,
    Step,
)
from airflow_provider_responses.client.batch_results import (
    LinesReader,
    ResultsDownload,
    read_batch,
    read_file_id,
    read_result,
)
from airflow_provider_responses.client.batches import (
    NO_SUCH_PATH,
    OpenAIBatchPages,
    batch_path,
    file_path,
    id_of,
    not_deletable,
    not_finished,
)
from airflow_provider_responses.client.call import Call
from airflow_provider_responses.client.openai_batch_body import OpenAIBatchBody, OpenAIBatchHead
from airflow_provider_responses.exceptions import (
    APIError,
    ConfigurationError,
    NotFoundResponseError,
    ResponsesError,
    TransportError,
)
from airflow_provider_responses.models.batch import Batch

log = getLogger(__name__)

CANCELLED: frozenset[str | None] = frozenset({"cancelling", "cancelled"})


class OpenAIBatches(BatchProtocol):
    """The batch API of OpenAI, and of servers that imitate it."""

    body = OpenAIBatchBody
    head = OpenAIBatchHead

    def submit(self, head: OpenAIBatchHead, upload: Any) -> Flow[Batch]:
        """Return the flow that uploads the requests, and then submits them. If that fails, the file is deleted."""
        file_id = yield from self._upload(head, upload)
        call = self._call("POST", "/batches", "submit", note=f"model {head.model}").as_submit(can_repeat=True)
        call = call.with_content(head.to_bytes(file_id))
        try:
            batch: Batch = yield SendJson(call=call, read=partial(read_batch, request=call.summary))
        except ResponsesError as error:
            if not error.ambiguous:
                yield from self._delete_unused(file_id)
                yield from self._check_has_batches(error)
            raise
        return batch

    def get(self, batch_id: str) -> Flow[Batch]:
        """Return the flow that reads a batch."""
        batch: Batch = yield ReadBatch(call=self._call("GET", batch_path(batch_id), "read"))
        return batch

    def list(self, **filters: Any) -> ItemFlow:
        """Return the flow that yields batches. Their server has no filters."""
        return self._list(OpenAIBatchPages(**filters))

    def results(self, batch: Batch | str) -> ItemFlow:
        """Return the flow that yields the results of a batch: of the requests that succeeded, then of the others."""
        batch_path(id_of(batch))  # refuses another id at once
        return self._results(batch)

    def cancel(self, batch_id: str) -> Flow[Batch]:
        """Return the flow that cancels a batch."""
        call = self._call("POST", batch_path(batch_id, "cancel"), "cancel")
        call = replace(call, headers={name: text for name, text in call.headers.items() if name != "content-type"})
        try:
            batch: Batch = yield SendJson(call=call, read=partial(read_batch, request=call.summary))
        except APIError as error:
            if not _lost_a_response(error):
                raise
            batch = yield from self.get(batch_id)
            if batch.status not in CANCELLED:
                raise
        return batch

    def delete(self, batch_id: str) -> Flow[dict[str, Any]]:
        """Return the flow that deletes the files of a batch. The batch itself cannot be deleted."""
        call = self._call("GET", batch_path(batch_id), "read")
        batch: Batch = yield ReadBatch(call=call)
        if not batch.is_finished:
            raise not_deletable(batch, call.summary.label)
        deleted = []
        for file_id in (batch.input_file_id, batch.output_file_id, batch.error_file_id):
            if file_id and (yield from self._delete_file(file_id)):
                deleted.append(file_id)
        return {"id": batch_id, "object": "batch", "deleted_files": deleted}

    def _upload(self, head: OpenAIBatchHead, upload: Any) -> Flow[str]:
        """Upload the requests and return the id of their file. This bills nothing."""
        form = {"content-type": f"multipart/form-data; boundary={head.boundary}"}
        call = self._call("POST", "/files", "upload", note=f"model {head.model}", headers=form)
        call = call.as_submit(can_repeat=upload.can_repeat)
        read = partial(read_file_id, request=call.summary)
        try:
            file_id: str = yield SendRequests(call=call, upload=upload, read=read)
        except APIError as error:
            if error.status_code in NO_SUCH_PATH:
                raise self._no_batches(call, error) from error
            raise
        return file_id

    def _delete_unused(self, file_id: str) -> Generator[Step, Any, None]:
        try:
            yield from self._delete_file(file_id)
        except ResponsesError as error:
            log.warning("The file %s of a batch that was not submitted could not be deleted: %s", file_id, error)

    def _delete_file(self, file_id: str) -> Flow[bool]:
        """Delete a file, and return whether there was one."""
        try:
            yield SendJson(call=self._call("DELETE", file_path(file_id), "delete"))
        except NotFoundResponseError as error:
            return _lost_a_response(error)  # an earlier send may have deleted it
        return True

    def _check_has_batches(self, failed: ResponsesError) -> Generator[Step, Any, None]:
        """
        Check, after a submit that failed, whether the server has batches: it may have files only.

        :raises ConfigurationError: if it has none.
        """
        if failed.status_code not in NO_SUCH_PATH:
            return
        call = self._call("GET", "/batches?limit=1", "list")
        try:
            yield SendJson(call=call)
        except ResponsesError as error:
            if isinstance(error, APIError) and error.status_code in NO_SUCH_PATH:
                raise self._no_batches(call, error) from error
            log.debug("It is unknown whether the server has batches: %s", error)

    def _no_batches(self, call: Call, error: APIError) -> ConfigurationError:
        path = call.url.removeprefix(self.config.base_url).partition("?")[0]
        return ConfigurationError(
            f"{self.config.base_url} has no batches: it responds to {call.method} {path} with status "
            f"{error.status_code}. Nothing was submitted, and nothing is billed. Send the requests one by one; or, if "
            "this server passes requests to OpenRouter unchanged, set the connection's extra `dialect` to openrouter"
        )

    def _list(self, pages: OpenAIBatchPages) -> ItemFlow:
        while path := pages.next_path():
            call = self._call("GET", path, "list")
            try:
                page = yield SendJson(call=call)
            except APIError as error:
                if error.status_code in NO_SUCH_PATH and "after=" not in path:  # a 404 may be that of the batch `after`
                    raise self._no_batches(call, error) from error
                raise
            yield Found(items=pages.read(page))

    def _results(self, batch: Batch | str) -> ItemFlow:
        if isinstance(batch, Batch) and batch.is_finished:
            finished = batch
        else:
            call = self._call("GET", batch_path(id_of(batch)), "read")
            finished = yield ReadBatch(call=call)
            if not finished.is_finished:
                raise not_finished(finished, call.summary.label)
        read = partial(read_result, batch_id=finished.id, is_openrouter=False)
        for file_id in (finished.output_file_id, finished.error_file_id):
            if file_id:
                call = self._call("GET", file_path(file_id, "content"), "content", headers={"accept": "*/*"})
                yield Download(call=call, results=ResultsDownload(call.summary, LinesReader), read=read)


def _lost_a_response(error: ResponsesError) -> bool:
    """Return whether an earlier send may have had the effect of the one that failed."""
    return any(isinstance(earlier, TransportError) for earlier in error.previous)
