"""Submits the requests that are left: packs them, writes an intent for each batch, submits it, and writes its id."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.batch.journal import NONCE_DIGITS, Intent
from airflow_provider_responses.batch.packing import Candidate, Package, Packer
from airflow_provider_responses.batch.recovery import NONCE_KEY
from airflow_provider_responses.client.batch_body import HEAD_ROOM
from airflow_provider_responses.enrich.next_step import FIRST
from airflow_provider_responses.exceptions import (
    APIError,
    BatchError,
    BudgetExceededError,
    ConfigurationError,
    NotFoundResponseError,
    ResponsesError,
)
from airflow_provider_responses.task.cost_total import short_dollars
from airflow_provider_responses.task.prices import TokenPrice, batch_prices, estimate

if TYPE_CHECKING:
    from airflow_provider_responses.batch.context import Leftovers, StepContext
    from airflow_provider_responses.batch.journal import BatchRecord
    from airflow_provider_responses.batch.requests import Group
    from airflow_provider_responses.enrich.index import Index, PendingRequest
    from airflow_provider_responses.models.batch import PreparedBatchRequest

log = logging.getLogger(__name__)

READ_AHEAD: Final = 500  # requests
MAX_RESUBMITS: Final = 2  # of a request in one attempt, after batches that failed, expired or were cancelled


class Submission:
    """
    See the module.

    :param leftovers: of the batches that have landed in this attempt.
    """

    def __init__(self, context: StepContext, leftovers: Leftovers) -> None:
        self._context, self._leftovers = context, leftovers
        self._has_unlanded = bool(context.journal.unlanded)
        # Requests that a batch, or an earlier attempt, could not serve.
        failed = {it.hex() for it in context.index.failed_requests()}
        self._failed = (failed | leftovers.resend) - leftovers.put_back
        self._prices: Mapping[str, TokenPrice] = {}
        self._exhausted: list[bytes] = []  # requests that were in too many batches
        self._live: Counter[str] = Counter()  # numbers of requests that are sent live, by the reason
        self._has_batches = True
        self._refused: set[Group] = set()  # whose model has no batches

    def run(self) -> ResponsesError | None:
        """
        Submit the requests that are not held; those that are to be sent live are left, and not held.

        Return why the attempt must stop although requests are left.

        :raises ResponsesError: if a batch was refused.
        """
        if not self._wants_batches():
            return None
        if self._context.options.is_over(self._context.started, self._context.now()):
            return self._hold_overdue()
        limits, left_out, count = self._context.job.limits, list[bytes](), 0
        packer = Packer(limits, room=self._room(), has_pilot=not self._has_unlanded)
        self._prices = self._read_prices()
        for package in packer.pack(self._candidates(), lambda request: left_out.append(request.fingerprint)):
            self._context.check()
            if self._submit(package):
                count += 1
            elif not self._has_batches:
                return None  # all requests that are left are sent live
            else:
                self._refused.add(package.group)
        self._context.index.hold(left_out)
        for reason, number in self._live.items():
            log.info("%d requests are sent live: %s", number, reason)
        if self._exhausted:
            return BatchError(
                f"{len(self._exhausted)} requests were in {MAX_RESUBMITS + 1} batches that did not complete, and are "
                "not submitted again in this attempt. Set on_batch_failure='live' to send such requests live"
            )
        if packer.is_out_of_money and not count and not self._has_unlanded:
            return BudgetExceededError(
                f"limits.max_cost of {short_dollars(limits.max_cost or 0.0)} leaves no room for {len(left_out)} "
                f"requests: {self._context.report.cost} so far. All responses are saved; raise the limit to continue "
                "from there"
            )
        return None

    def _hold_overdue(self) -> BatchError | None:
        """Hold all requests that are left, since ``finish_within`` is over; return the error, if there are any."""
        count = 0
        for requests in chunks(self._context.index):
            self._context.index.hold(request.fingerprint for request in requests)
            count += len(requests)
        if not count:
            return None
        return BatchError(
            f"finish_within is over and {count} requests are left; none of them is submitted. All responses are saved: "
            "clear the task to submit the rest, with more time"
        )

    def _wants_batches(self) -> bool:
        """Return whether ``mode`` asks for batches of the requests that are left."""
        options = self._context.options
        if options.mode != "auto":
            return options.mode == "batch"
        # The first step reads the source before it gets here, which is no reason against a batch.
        started = self._context.started
        if not options.has_time(started, self._context.now() if self._context.journal.records else started):
            log.info("Sending live: finish_within leaves less than 24 hours for a batch")
            return False
        count, threshold = self._context.index.count_first_steps(), options.batch_threshold
        if not self._context.journal.records and count < threshold:
            log.info("Sending live: %d requests are fewer than batch_threshold (%d)", count, threshold)
            return False
        return True

    def _candidates(self) -> Iterator[Candidate]:
        """Yield the requests that go into batches; hold those that are not sent at all, and leave the others."""
        is_few = self._are_leftovers_few()
        for requests in chunks(self._context.index):
            exhausted = []
            for request in requests:
                if request.step != FIRST:
                    continue  # sent live, once all batches have landed
                if self._is_exhausted(request):
                    exhausted.append(request.fingerprint)
                elif (reason := self._reason_to_send_live(request, is_few=is_few)) is not None:
                    self._live[reason] += 1
                elif (candidate := self._candidate(request)).group in self._refused:
                    self._live["their model has no batches"] += 1
                else:
                    yield candidate
            self._context.index.hold(exhausted)
            self._exhausted += exhausted

    def _is_exhausted(self, request: PendingRequest) -> bool:
        fingerprint = request.fingerprint.hex()
        return (
            fingerprint in self._leftovers.put_back
            and self._context.options.on_batch_failure != "live"
            and self._leftovers.put_backs[fingerprint] > MAX_RESUBMITS
        )

    def _reason_to_send_live(self, request: PendingRequest, *, is_few: bool) -> str | None:
        fingerprint = request.fingerprint.hex()
        if fingerprint in self._leftovers.put_back:
            return "their batch did not complete" if self._context.options.on_batch_failure == "live" else None
        if is_few and fingerprint in self._failed:
            return "they are left over, and fewer than batch_threshold"
        if self._context.options.mode == "auto":
            body = self._context.requests.body(request.fields, fingerprint)
            return self._context.requests.problem_of(request.fields, len(body))
        return None  # with "batch", the rows of other requests are invalid

    def _are_leftovers_few(self) -> bool:
        """Return whether the requests that are sent again are too few for a batch, and there are no others."""
        if not 0 < len(self._failed) < self._context.options.batch_threshold:
            return False
        pending = itertools.chain.from_iterable(chunks(self._context.index))
        others = (
            it
            for it in pending
            if it.step == FIRST and it.fingerprint.hex() not in self._failed and not self._is_exhausted(it)
        )
        return all(self._reason_to_send_live(it, is_few=False) is not None for it in others)

    def _candidate(self, request: PendingRequest) -> Candidate:
        requests = self._context.requests
        body, group = requests.body(request.fields, request.fingerprint.hex()), requests.group_of(request.fields)
        price: float | None = None
        if self._is_price_known:
            price = self._context.report.progress.highest_prices.get(FIRST.price_kind, 0.0)
        elif self._context.job.limits.max_cost is not None:
            price = estimate(request.fields, len(body), self._prices.get(group.model))
        return Candidate(request, group, requests.size_of(body), price)

    @property
    def _is_price_known(self) -> bool:
        """Whether a response of this output had a price, which may be 0."""
        return self._context.report.cost.priced > 0

    def _read_prices(self) -> Mapping[str, TokenPrice]:
        if self._context.job.limits.max_cost is None or self._is_price_known:
            return {}
        try:
            return batch_prices(self._context.client.get_models())
        except APIError as error:
            if error.retryable:
                raise
            log.info("The prices of models are unknown: %s", error)
            return {}

    def _room(self) -> float | None:
        """Return the US dollars that batches may still cost, None without a limit."""
        limit = self._context.job.limits.max_cost
        if limit is None:
            return None
        expected = sum(record.intent.estimate or 0.0 for record in self._context.journal.unlanded)
        return limit - self._context.report.cost.known - expected

    def _submit(self, package: Package) -> bool:
        """Submit a batch; return False if there are no batches, so that ``auto`` sends live."""
        context = self._context
        intent = Intent(
            nonce=secrets.token_hex(NONCE_DIGITS // 2),
            created=context.now(),
            model=package.group.model,
            fingerprints=[fingerprint.hex() for fingerprint in package.fingerprints],
            estimate=package.estimate,
            number=context.journal.next_number,
        )
        context.store.renew()  # another writer would submit the same rows
        record = context.journal.add(intent)
        context.index.hold(package.fingerprints)
        # OpenRouter's batches have no metadata.
        more: dict[str, Any] = {} if context.is_openrouter else {"metadata": {NONCE_KEY: intent.nonce}}
        try:
            batch = context.client.create_batch(
                lambda: self._items(intent),
                model=package.group.model,
                callback_url=context.options.callback_url,
                **more,
            )
        except ResponsesError as error:
            return self._note_failed_submit(record, error)
        context.report.progress.sent += len(intent.fingerprints)
        context.journal.set_id(record, batch.id)
        log.info(
            "Submitted batch %s: %d requests to %s, %.1f MB%s",
            batch.id,
            len(intent.fingerprints),
            package.group.model,
            (package.size - HEAD_ROOM) / 1e6,
            f", at most about {short_dollars(package.estimate)}" if package.estimate else "",
        )
        return True

    def _note_failed_submit(self, record: BatchRecord, error: ResponsesError) -> bool:
        context, count = self._context, len(record.intent.fingerprints)
        if error.ambiguous:
            log.warning("It is unknown whether a batch of %d requests was submitted: %s", count, error)
            context.report.progress.sent += count
            return True
        context.journal.discard(record)
        is_unsupported = isinstance(error, (ConfigurationError, NotFoundResponseError))
        if not (context.options.mode == "auto" and is_unsupported):
            raise error
        self._has_batches = isinstance(error, NotFoundResponseError)
        log.warning("Sending live: there are no batches for these requests. %s", error)
        context.index.release(map(bytes.fromhex, record.intent.fingerprints))
        return False

    def _items(self, intent: Intent) -> Iterator[PreparedBatchRequest]:
        for fingerprint in intent.fingerprints:
            self._context.check()
            found = self._context.index.find_request(bytes.fromhex(fingerprint))
            assert found is not None  # noqa: S101  it was packed from the index
            yield self._context.requests.to_item(intent, fingerprint, found[0].fields)


def chunks(index: Index) -> Iterator[list[PendingRequest]]:
    """Yield the requests that are not held, in chunks, in the order of the source."""
    last = -1
    while found := index.pending(last, READ_AHEAD):
        last = found[-1].first_row
        yield found
