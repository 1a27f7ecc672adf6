"""The record of what a task has spent, and of its model, in Airflow's task state store, which survives retries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_responses.task.cost import CostLedger

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.task.escalation import Escalation

SPENT_KEY: Final = "airflow_provider_responses.spent"
STORE: Final = "task_state_store"  # in the context of Airflow 3.3 and later


def load_ledger(context: Context, idempotency_key: str | None, escalations: Sequence[Escalation]) -> CostLedger:
    """Return the ledger with the costs of earlier attempts, and the model that they came to, as far as stored."""
    store: Any = context.get(STORE)
    stored: Any = (store.get(SPENT_KEY) if store is not None else None) or {}
    if stored.get("idempotency_key") != idempotency_key:
        stored = {}
    tier = stored.get("tier", 0)
    # The DAG may have changed since.
    is_known = 0 < tier <= len(escalations) and escalations[tier - 1].model == stored["model"]
    return CostLedger(
        dict(stored.get("spent", {})),
        complete=store is not None or context["ti"].try_number == 1,
        ambiguous=stored.get("ambiguous", 0),
        tier=tier if is_known else 0,
        escalated=stored["escalated"] if is_known else 0,
    )


def store_ledger(
    context: Context,
    idempotency_key: str | None,
    ledger: CostLedger,
    escalations: Sequence[Escalation],
    *,
    in_flight: int = 0,
) -> None:
    """
    Store the costs for later attempts, and whether a request is in flight, whose worker may be killed.

    :param in_flight: number of requests.
    """
    store: Any = context.get(STORE)
    if store is None:
        return
    stored: dict[str, Any] = {"idempotency_key": idempotency_key, "spent": dict(ledger.spent)}
    if ambiguous := ledger.ambiguous + in_flight:
        stored["ambiguous"] = ambiguous
    if ledger.tier:
        stored |= {"tier": ledger.tier, "model": escalations[ledger.tier - 1].model, "escalated": ledger.escalated}
    store.set(SPENT_KEY, stored)
