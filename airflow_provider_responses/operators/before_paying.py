"""The price of an enrichment before it is paid: the estimate, the preview, and the limit of the key."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.exceptions import APIError, ResponsesError, TransportError
from airflow_provider_responses.operators.batches import batch_options
from airflow_provider_responses.task.arguments import is_lazy, read_boolean
from airflow_provider_responses.task.escalation import check_escalations
from airflow_provider_responses.task.texts import parse_number
from airflow_provider_responses.validation import check_choice, check_number

if TYPE_CHECKING:
    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.enrich.index import Index
    from airflow_provider_responses.enrich.job import Environment, Job
    from airflow_provider_responses.enrich.output_store import OutputStore
    from airflow_provider_responses.enrich.preview import Preview
    from airflow_provider_responses.enrich.report import Report
    from airflow_provider_responses.task.prices import TokenPrice

MAX_PREVIEW: Final = 200  # rows, since they are in the XCom
BATCH_SHARE: Final = 0.5  # the price of a batch, if `/models` does not list it
LOOKUP_TIMEOUT: Final = 20.0  # seconds

log = logging.getLogger(__name__)


def check_arguments(estimate_only: Any, preview: Any) -> None:
    """
    Refuse wrong arguments.

    :raises RequestValidationError: naming the argument.
    """
    check_choice("estimate_only", read_boolean(estimate_only), (True, False), lazy=is_lazy)
    check_number("preview", read_preview(preview), whole=True, at_least=2, at_most=MAX_PREVIEW, optional=True)


def read_preview(value: Any) -> Any:
    """Return the number of rows, None if there is no preview; a template may have rendered either as text."""
    if is_lazy(value) or value is None or value is False:
        return None
    if isinstance(value, str) and value.strip().lower() in {"", "none", "false", "0"}:
        return None
    return parse_number(value)


def estimate(job: Job, environment: Environment, mode: str) -> dict[str, Any]:
    """
    Return and log the estimate of an enrichment. Nothing is sent to a model.

    :param mode: ``live``, ``batch``, or ``auto``, whose requests are counted as live ones.
    """
    from airflow_provider_responses.batch.enrichment import BatchEnrichment
    from airflow_provider_responses.enrich.estimate import Estimate, describe_estimate

    prices = read_model_prices(job.config.for_call(job.options))
    enrichment = BatchEnrichment(job, batch_options({"mode": mode}), environment)

    def read(index: Index, report: Report) -> dict[str, Any]:
        _hold_batched(index, enrichment.store)
        return Estimate(index, report, job, prices, _price_mode(mode)).to_dict()

    found = enrichment.examine(read)
    for line in describe_estimate(found):
        log.info("%s", line)
    return found


def make_preview(job: Job, environment: Environment, count: int, mode: str) -> Preview:
    """
    Return the preview of an enrichment, which is sent live.

    :param mode: of the full run.
    """
    from airflow_provider_responses.enrich.preview import Preview

    share = _batch_share(job) if mode == "batch" else 1.0
    job = replace(job, check_price=None)  # the key's limit need not suffice for all rows
    return Preview(job, environment, count=count, mode=_price_mode(mode), batch_share=share, hold=_hold_batched)


def _hold_batched(index: Index, store: OutputStore) -> list[bytes]:
    """Hold the requests that are in batches, which the server runs and bills; return their fingerprints."""
    from airflow_provider_responses.batch.journal import BatchJournal, attempt_id

    journal = BatchJournal(store, attempt_id(store.writer))
    journal.read()
    found = [bytes.fromhex(it) for record in journal.unlanded for it in record.intent.fingerprints]
    index.hold(found)
    return found


def _batch_share(job: Job) -> float:
    """Return the price of a batch as a share of the live price, of the model that all rows share."""
    from airflow_provider_responses.enrich.estimate import price_of
    from airflow_provider_responses.task.prices import TokenPrice

    prices = read_model_prices(job.config.for_call(job.options))
    model = str((job.prompt or {}).get("model") or "")
    live, batch = (prices if isinstance(prices, str) else price_of(prices, model, kind) for kind in ("live", "batch"))
    if isinstance(live, TokenPrice) and isinstance(batch, TokenPrice) and live.output:
        return batch.output / live.output
    log.info("A batch is estimated at half the live price: %s", batch if isinstance(batch, str) else live)
    return BATCH_SHARE


def estimate_request(task: Any, context: Any) -> dict[str, Any]:
    """
    Return the estimate of a task that sends one request, in the form of an enrichment's.

    :param task: a ``ResponsesOperator``, its templates rendered.
    :raises ResponsesError: if its arguments are wrong.
    """
    from airflow_provider_responses.client.config import RequestOptions
    from airflow_provider_responses.enrich.estimate import estimate_one
    from airflow_provider_responses.hooks.responses import ResponsesHook

    request = task.request_to_estimate(context)
    config = ResponsesHook(task.conn_id).config.for_call(RequestOptions.parse(task.options))
    prepared, _ = request.prepare(config, RequestOptions.parse(task.options))
    return estimate_one(prepared.to_bytes(), read_model_prices(config), check_escalations(task.escalate))


def key_limit_check(mode: str) -> Callable[[Job, Index, Report, OutputStore], None]:
    """Return a function that compares the estimate of an enrichment with the rest of the key's limit."""

    def check(job: Job, index: Index, report: Report, store: OutputStore) -> None:
        from airflow_provider_responses.enrich.estimate import Estimate, check_key_limit

        config = job.config.for_call(job.options)
        if not config.is_openrouter or (remaining := _limit_remaining(config)) is None:
            return
        held = _hold_batched(index, store)
        found = Estimate(index, report, job, read_model_prices(config), _price_mode(mode)).to_dict()
        index.release(held)  # those that their batch has not served are submitted again
        if found["cost"] is None:
            log.info("The key's limit may not suffice: the cost is unknown, since %s", found["cost_unknown_because"])
        check_key_limit(found, remaining)

    return check


def _price_mode(mode: str) -> str:
    return "batch" if mode == "batch" else "live"


def read_model_prices(config: ClientConfig) -> Mapping[str, TokenPrice] | str:
    """Return the prices of a server's models, or why they are unknown."""
    from airflow_provider_responses.task.prices import read_prices

    try:
        with _client(config) as client:
            prices = read_prices(client.get_models())
    except (APIError, TransportError) as error:
        return f"the server's /models cannot be read ({error.headline})"
    return prices or "the server's /models lists no prices"


def _limit_remaining(config: ClientConfig) -> float | None:
    """Return the US dollars that the limit of the key leaves, None without a limit, or if it cannot be read."""
    try:
        with _client(config) as client:
            found = client.get_key().get("limit_remaining")
    except ResponsesError as error:
        log.info("The limit of the key is unknown: %s", error)
        return None
    is_amount = isinstance(found, (int, float)) and not isinstance(found, bool)
    return float(found) if is_amount else None


def _client(config: ClientConfig) -> Any:
    from airflow_provider_responses.client import ResponsesClient
    from airflow_provider_responses.client.sync_pool import SyncPool

    config = replace(config, timeout=min(config.timeout, LOOKUP_TIMEOUT), max_retries=min(config.max_retries, 1))
    return ResponsesClient(config, pool=SyncPool(route=config.route))
