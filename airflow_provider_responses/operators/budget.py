"""The limits of what single requests cost: ``max_cost`` of a task, and the ``Budget`` of a DAG run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_0_PLUS

from airflow_provider_responses.exceptions import BudgetExceededError, ConfigurationError
from airflow_provider_responses.operators.base import BaseResponsesOperator
from airflow_provider_responses.task.arguments import is_lazy
from airflow_provider_responses.task.cost_total import short_dollars
from airflow_provider_responses.task.idempotency import region_of
from airflow_provider_responses.task.xcom import USAGE_KEY, VERSION
from airflow_provider_responses.validation import check_number, check_type

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_responses.client.config import ClientConfig
    from airflow_provider_responses.models.request import ResponsesRequest
    from airflow_provider_responses.models.response import Response
    from airflow_provider_responses.task.cost import CostLedger
    from airflow_provider_responses.task.prices import TokenPrice

__all__ = ["Budget"]

ROUNDING: Final = 1e-9  # of a limit, which sums of prices may exceed by rounding

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """
    A limit of cost that tasks share.

    It is checked by each task before a send. Tasks that run at the same moment do not see each other's requests in
    flight, so the limit may be exceeded by the highest price of one request for each of them; docs/costs.md has more.

    :param dag_run: US dollars for all tasks of this provider in the DAG run.
    :raises RequestValidationError: naming the argument, what was expected and what was given.
    """

    dag_run: float

    def __post_init__(self) -> None:
        check_number("budget: dag_run", self.dag_run, above=0, unit="US dollars")


def check_limits(max_cost: Any, budget: Any) -> None:
    """
    Refuse wrong arguments.

    :raises RequestValidationError: naming the argument.
    """
    check_number("max_cost", max_cost, above=0, unit="US dollars", optional=True, lazy=is_lazy)
    if not is_lazy(budget):
        check_type("budget", budget, Budget, expected="Budget(dag_run=...)", optional=True)


class SpendingCheck:
    """
    Refuses a send whose highest price no longer fits into the limits of its task.

    :param max_cost: US dollars of the task, None without a limit.
    :param budget: of the DAG run, None without one.
    :param run: finds the costs of the other tasks.
    """

    def __init__(self, max_cost: float | None, budget: Budget | None, run: RunCosts) -> None:
        self._max_cost, self._budget, self._run = max_cost, budget, run
        self._worst_case = 0.0  # US dollars
        self._prices: Mapping[str, TokenPrice] | None = None

    @classmethod
    def of(cls, task: Any, context: Context) -> Self | None:
        """Return the check of a task's attempt, None if the task has no limits."""
        if task.max_cost is None and task.budget is None:
            return None
        ti: Any = context["ti"]
        if task.max_cost is not None and context.get("task_state_store") is None and ti.try_number > 1:
            log.warning("max_cost counts this attempt alone: Airflow before 3.3 does not store what earlier ones cost")
        return cls(task.max_cost, task.budget, RunCosts(ti.dag_id, ti.run_id, task.get_dag(), ti))

    def read_prices(
        self,
        request: ResponsesRequest,
        config: ClientConfig,
        larger: Mapping[int, tuple[ResponsesRequest, Any]] = MappingProxyType({}),
    ) -> None:
        """
        Read the highest price of a send.

        :param larger: requests for larger models, which may follow it, and whose prices must be known.
        :raises ConfigurationError: if it is unknown.
        :raises RequestValidationError: if the request has no ``max_output_tokens``, and the model has no limit.
        """
        from airflow_provider_responses.operators.before_paying import read_model_prices
        from airflow_provider_responses.task.prices import highest_price

        for each, _ in larger.values():
            self.read_prices(each, config)
        limits = " and ".join(
            name for name, limit in (("max_cost", self._max_cost), ("budget", self._budget)) if limit is not None
        )
        prices = self._prices or read_model_prices(config)
        self._prices = None if isinstance(prices, str) else prices
        files = sum(content.length for content in request.contents.values())
        found = prices if isinstance(prices, str) else highest_price(request.to_bytes(), prices, files=files)
        if isinstance(found, str):
            raise ConfigurationError(
                f"{limits} cannot be checked: {found}. Nothing was sent. Remove it, and set a limit of the key"
            )
        self._worst_case = found

    def refusal(self, ledger: CostLedger, responses: Iterable[Response] = ()) -> BudgetExceededError | None:
        """
        Return why the next send is refused, None if it fits.

        :param ledger: the costs of earlier attempts.
        :param responses: of this attempt.
        """
        price, own = self._worst_case, ledger.at_most(self._worst_case)
        own += sum(0.0 if it.cached else price if it.usage.cost is None else it.usage.cost for it in responses)
        at_most = f"the next request may cost {short_dollars(price)}"
        advice = "Raise the limit, or lower max_output_tokens"
        if (limit := self._max_cost) is not None and own + price > limit * (1 + ROUNDING):
            return BudgetExceededError(
                f"max_cost of {short_dollars(limit)} leaves no room: the task has spent {short_dollars(own)}, and "
                f"{at_most}. {advice}"
            )
        if self._budget is None:
            return None
        limit, spent = self._budget.dag_run, own + self._run.total(price)
        if spent + price > limit * (1 + ROUNDING):
            return BudgetExceededError(
                f"budget.dag_run of {short_dollars(limit)} leaves no room: the DAG run has spent "
                f"{short_dollars(spent)}, and {at_most}. {advice}"
            )
        return None


class RunCosts:
    """
    The costs of the tasks of a DAG run, from their XComs.

    :param dag: as the worker has parsed it; None counts nothing.
    :param own: the task instance whose own XCom does not count: its ledger has its costs.
    """

    def __init__(self, dag_id: str, run_id: str, dag: Any, own: Any = None) -> None:
        self._dag_id, self._run_id, self._own = dag_id, run_id, own
        found: list[str] = []
        for task in [] if dag is None else dag.tasks:
            kind = getattr(task, "operator_class", type(task))  # of a mapped task, its operator's class
            if isinstance(kind, type) and issubclass(kind, BaseResponsesOperator):
                found.append(task.task_id)
        self._task_ids = found

    def total(self, unknown: float) -> float:
        """
        Return the US dollars that the tasks have spent at most.

        :param unknown: counted for each request whose cost is unknown.
        """
        usages = self._read()
        valid = [it for it in usages if _is_usage(it)]
        strange = sum(it.get("cost") is not None and not _is_cost(it["cost"]) for it in valid)
        if strange or any(not _is_usage(it) for it in usages):
            log.warning("The DAG run has XComs `usage` of another form, or without a valid cost")
        return sum(_highest_cost(it, unknown) for it in valid)

    def _read(self) -> list[Mapping[str, Any]]:
        found = _read_xcoms(self._dag_id, self._run_id, self._task_ids, USAGE_KEY, self._own) if self._task_ids else []
        return [it if isinstance(it, Mapping) else {} for it in found]


def _is_usage(value: Mapping[str, Any]) -> bool:
    return value.get("version") == VERSION and isinstance(value.get("sends"), list)


def _is_cost(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


def _highest_cost(usage: Mapping[str, Any], price: float) -> float:
    """
    Return the US dollars of a ``usage``, at most.

    :param price: counted for each request whose cost is unknown.
    """
    models = usage.get("models")
    counts = [it for it in models if isinstance(it, Mapping)] if isinstance(models, list) else []
    unpriced = sum(int(it["unpriced"]) for it in counts if _is_count(it.get("unpriced")))
    cost: Any = usage.get("cost")
    if _is_cost(cost):
        return float(cost) + price * unpriced
    known: float = sum(float(it["cost"]) for it in counts if _is_cost(it.get("cost")))
    paid: Any = usage.get("cost_this_attempt")
    if not counts and _is_cost(paid):  # a cost of earlier attempts is unknown
        return float(paid) + price
    return known + price * float(max(1, unpriced, len(usage["sends"])))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= sys.maxsize


def shares_budget(task: Any) -> bool:
    """Return whether a task of the DAG has a budget, which needs the costs of the others while they run."""
    return any(_has_budget(it) for it in (task, *getattr(task.get_dag(), "tasks", ())))


def _has_budget(task: Any) -> bool:
    if (arguments := getattr(task, "partial_kwargs", None)) is None:  # it is not mapped
        return getattr(task, "budget", None) is not None
    if arguments.get("budget") is not None:
        return True
    given = getattr(getattr(task, "expand_input", None), "value", None)
    dicts = [given] if isinstance(given, Mapping) else given if isinstance(given, list) else [{"budget": given}]
    return any(isinstance(it, Mapping) and it.get("budget") is not None for it in dicts)


def _read_xcoms(dag_id: str, run_id: str, task_ids: Sequence[str], key: str, own: Any) -> list[Any]:
    """
    Return the values of an XCom of tasks, of all their map indexes.

    :param own: the task instance whose value is left out; None for none.
    """
    if not AIRFLOW_V_3_0_PLUS:
        from airflow.models.xcom import XCom as XComTable
        from airflow.utils.session import create_session

        table: Any = XComTable
        mine = None if own is None else (own.task_id, own.map_index)
        with create_session() as session:
            rows = table.get_many(run_id=run_id, key=key, dag_ids=dag_id, task_ids=list(task_ids), session=session)
            return [row.value for row in rows if (row.task_id, row.map_index) != mine]
    from airflow.sdk.execution_time.xcom import XCom

    found: list[Any] = []
    for task_id in task_ids:
        is_own = own is not None and task_id == own.task_id
        if is_own and own.map_index in {None, -1} and region_of(own) is None:
            continue
        values = list(XCom.get_all(key=key, dag_id=dag_id, task_id=task_id, run_id=run_id) or ())
        if is_own:  # values have no map index
            value = XCom.get_one(key=key, dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=own.map_index)
            if value in values:
                values.remove(value)
        found += values
    return found
