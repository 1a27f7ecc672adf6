"""
Reads of Airflow's metadata database: XComs, task instances and progress. It is never written.

XComs are in one table up to Airflow 3.3, and from 3.4 on in one by attempt, beside those of before the upgrade. All
statements are plain joins and comparisons, which SQLite, PostgreSQL and MySQL have.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from airflow.models import xcom
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.providers.common.compat.version_compat import AIRFLOW_V_3_3_PLUS, AIRFLOW_V_3_4_PLUS
from sqlalchemy import and_, exists, func, literal_column, select

from airflow_provider_responses.task.xcom import RETURN_KEY, USAGE_KEY

FINISHED: Final = ("success", "failed")
CHUNK: Final = 1000  # rows that are fetched at once
# Ids of XComs and task instances begin with the time at which they were made, so their index serves for times. A task
# instance is made long before its end; one that took longer is not in the count of those without `usage`.
XCOM_AGE: Final = datetime.timedelta(days=7)
INSTANCE_AGE: Final = datetime.timedelta(days=60)
EPOCH: Final = datetime.datetime.fromtimestamp(0, datetime.UTC)

TI: Final[Any] = TaskInstance.__table__
RUN: Final[Any] = DagRun.__table__


def _public_map_index() -> Any:
    """Return the map index of a task instance that Airflow shows: -1 for a task in a loop that is not mapped."""
    if not AIRFLOW_V_3_4_PLUS:
        return TI.c.map_index
    from airflow.models import task_coordinates

    coordinates: Any = task_coordinates
    return coordinates.public_map_index_expression(TI)


_MAP_INDEX: Final = _public_map_index()


class TaskKey(NamedTuple):
    """The names of a task instance; its map index is the one that Airflow shows."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True, slots=True)
class Region:
    """
    The place of a task instance in Airflow 3.4's loops and mapped tasks.

    :param index: of the iteration of a loop, or of the map; None for any.
    """

    id: uuid.UUID | None
    index: int | None


class UsageTask(NamedTuple):
    """
    A task with XComs ``usage``.

    :param is_archived: whether they are of attempts before a clear, which Airflow 3.4 keeps.
    """

    dag_id: str
    task_id: str
    is_archived: bool


@dataclass(frozen=True, slots=True)
class XComRow:
    """An XCom of a task instance, its value as the database has it."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int | None
    operator: str | None
    run_started: datetime.datetime | None
    key: str
    timestamp: datetime.datetime
    value: Any


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """A task instance, of which Airflow 3.4 has one row for each attempt."""

    id: Any
    try_number: int | None
    max_tries: int | None
    state: str | None
    operator: str | None
    region: Region


def find_usage_tasks(session: Any, start: datetime.datetime, end: datetime.datetime) -> list[UsageTask]:
    """Return the tasks whose XComs ``usage`` were pushed in a window, in one statement."""
    statements: list[Any] = []
    for table, joined, rule in _xcom_tables():
        window = _in_window(table, start, end)
        if not AIRFLOW_V_3_4_PLUS:
            statements.append(_tasks_of(table, "0").where(*window).distinct())
            continue
        statements.append(_tasks_of(TI, "0").select_from(joined).where(*window, *rule))
        if not _is_legacy(table):
            statements.append(_tasks_of(TI, "1").select_from(joined).where(*window, *_is_before_clear()))
    first, *others = statements
    found = session.execute(first.union(*others) if others else first)
    return [UsageTask(dag_id, task_id, bool(is_archived)) for dag_id, task_id, is_archived in found]


def read_usages(session: Any, start: datetime.datetime, end: datetime.datetime) -> Iterator[XComRow]:
    """Yield the XComs ``usage`` that were pushed in a window; until the last, the session executes nothing else."""
    for table, joined, rule in _xcom_tables():
        statement = (
            select(
                TI.c.dag_id,
                TI.c.task_id,
                TI.c.run_id,
                _MAP_INDEX,
                TI.c.try_number,
                TI.c.operator,
                RUN.c.start_date,
                table.c.key,
                table.c.timestamp,
                table.c.value,
            )
            .select_from(joined.outerjoin(RUN, and_(RUN.c.dag_id == TI.c.dag_id, RUN.c.run_id == TI.c.run_id)))
            .where(*_in_window(table, start, end), *rule)
        )
        for row in session.execute(statement.execution_options(yield_per=CHUNK)):
            yield XComRow(*row)


def count_without_usage(
    session: Any, start: datetime.datetime, end: datetime.datetime, operators: Collection[str]
) -> Mapping[tuple[str, str], int]:
    """Return the number of finished task instances of operators without an XCom ``usage``, by DAG and task."""
    statement = select(TI.c.dag_id, TI.c.task_id, func.count()).where(
        TI.c.end_date >= start,
        TI.c.end_date < end,
        TI.c.state.in_(FINISHED),
        TI.c.operator.in_(sorted(operators)),
        *([TI.c.working_set.is_(True)] if AIRFLOW_V_3_4_PLUS else []),
        *(~exists().where(condition, table.c.key == USAGE_KEY) for table, condition in _xcoms_of_instance()),
    )
    if _is_by_time(TI.c.id):
        statement = statement.where(TI.c.id >= _first_id(TI.c.id, start, INSTANCE_AGE))
    found = session.execute(statement.group_by(TI.c.dag_id, TI.c.task_id))
    return {(dag_id, task_id): number for dag_id, task_id, number in found}


def read_instance(session: Any, key: TaskKey, region: Region) -> InstanceRow | None:
    """
    Return a task instance, None if there is none.

    :param region: instead of the map index; without any, a task in a loop has that of its latest iteration.
    """
    is_named = [key.map_index == _MAP_INDEX]
    if not AIRFLOW_V_3_4_PLUS:
        columns: list[Any] = [literal_column("NULL"), TI.c.map_index]
    else:
        columns = [TI.c.region_id, TI.c.region_index]
        given = zip(columns, (region.id, region.index), strict=True)
        is_named = [column == value for column, value in given if value is not None] or is_named
        is_named.append(TI.c.working_set.is_(True))
    operator = func.coalesce(TI.c.custom_operator_name, TI.c.operator)
    statement = (
        select(TI.c.id, TI.c.try_number, TI.c.max_tries, TI.c.state, operator, *columns)
        .where(TI.c.dag_id == key.dag_id, TI.c.run_id == key.run_id, TI.c.task_id == key.task_id, *is_named)
        .order_by(TI.c.start_date.is_(None), TI.c.start_date.desc(), TI.c.id.desc())  # null is not first anywhere
        .limit(1)
    )
    row = session.execute(statement).first()
    if row is None:
        return None
    instance_id, try_number, max_tries, state, operator_name, *region_of_row = row
    return InstanceRow(instance_id, try_number, max_tries, state, operator_name, Region(*region_of_row))


def read_xcoms(session: Any, instance: InstanceRow) -> Mapping[str, Any]:
    """Return the values of a task instance's XComs ``usage`` and ``return_value``, as the database has them."""
    found: dict[str, Any] = {}
    for table, condition in _xcoms_of_instance():
        statement = (
            select(table.c.key, table.c.value)
            .select_from(TI.join(table, condition) if not _is_legacy(table) else _legacy_join())
            .where(TI.c.id == instance.id, table.c.key.in_((USAGE_KEY, RETURN_KEY)))
        )
        found = {it.key: it.value for it in session.execute(statement)} | found
    return found


def read_state(session: Any, key: TaskKey, region: Region, name: str) -> str | None:
    """Return a record of the task state store, which Airflow has from 3.3 on."""
    if not AIRFLOW_V_3_3_PLUS:
        return None
    from airflow.models.task_state_store import TaskStateStoreModel

    table: Any = TaskStateStoreModel.__table__
    if AIRFLOW_V_3_4_PLUS:
        place = [table.c.region_id == region.id, table.c.region_index == region.index]
    else:
        place = [table.c.map_index == region.index]
    statement = (
        select(table.c.value)
        .where(
            table.c.dag_id == key.dag_id,
            table.c.run_id == key.run_id,
            table.c.task_id == key.task_id,
            table.c.key == name,
            *place,
        )
        .order_by(table.c.updated_at.desc())
        .limit(1)
    )
    return session.scalar(statement)  # type: ignore[no-any-return]


def _xcom_tables() -> list[tuple[Any, Any, list[Any]]]:
    """Return each table of XComs, its join with task instances, and the rule for its rows."""
    if not AIRFLOW_V_3_4_PLUS:
        table: Any = xcom.XComModel.__table__
        return [(table, table.join(TI, _has_coordinates(table)), [])]
    new: Any = xcom.XComModelV2.__table__
    is_live = TI.c.working_set.is_(True)
    old = _legacy()
    replaced = exists().where(new.c.task_instance_id == TI.c.id, new.c.key == old.c.key)
    return [
        (new, new.join(TI, new.c.task_instance_id == TI.c.id), [is_live]),
        (old, _legacy_join(), [is_live, ~replaced]),
    ]


def _tasks_of(names: Any, is_archived: str) -> Any:
    return select(names.c.dag_id, names.c.task_id, literal_column(is_archived))


def _in_window(table: Any, start: datetime.datetime, end: datetime.datetime) -> list[Any]:
    """Return the conditions that an XCom is a ``usage`` that was pushed in a window."""
    conditions = [table.c.key == USAGE_KEY, table.c.timestamp >= start, table.c.timestamp < end]
    if "id" in table.c and _is_by_time(table.c.id):
        conditions.append(table.c.id >= _first_id(table.c.id, start, XCOM_AGE))
    return conditions


def _is_before_clear() -> list[Any]:
    """Return the conditions that an attempt is archived and a clear came after it: only a clear changes `max_tries`."""
    live = TI.alias("live")
    same = ("dag_id", "run_id", "task_id", "region_id", "region_index", "max_tries")
    is_retried = exists().where(live.c.working_set.is_(True), *(live.c[name] == TI.c[name] for name in same))
    return [TI.c.working_set.is_(None), ~is_retried]


def _xcoms_of_instance() -> list[tuple[Any, Any]]:
    """Return each table of XComs, and the condition that a row of it belongs to the task instance of the statement."""
    if not AIRFLOW_V_3_4_PLUS:
        table: Any = xcom.XComModel.__table__
        return [(table, _has_coordinates(table))]
    new: Any = xcom.XComModelV2.__table__
    old, owner = _legacy(), _owner()
    is_owned = and_(
        owner.c.task_instance_id == TI.c.id,
        *(owner.c[name] == old.c[name] for name in ("dag_id", "task_id", "run_id", "map_index")),
    )
    return [(new, new.c.task_instance_id == TI.c.id), (old, is_owned)]


def _legacy() -> Any:
    return xcom.XComModelV1.__table__


def _owner() -> Any:
    from airflow.models import taskinstance

    owner: Any = taskinstance
    return owner.LegacyTaskDataOwner.__table__


def _is_legacy(table: Any) -> bool:
    return AIRFLOW_V_3_4_PLUS and table is _legacy()


def _legacy_join() -> Any:
    old, owner = _legacy(), _owner()
    same = and_(*(owner.c[name] == old.c[name] for name in ("dag_id", "task_id", "run_id", "map_index")))
    return old.join(owner, same).join(TI, owner.c.task_instance_id == TI.c.id)


def _has_coordinates(table: Any) -> Any:
    return and_(*(table.c[name] == TI.c[name] for name in ("dag_id", "task_id", "run_id", "map_index")))


def _is_by_time(column: Any) -> bool:
    """Return whether Airflow makes the ids of a column by time."""
    return getattr(getattr(column.default, "arg", None), "__name__", "") == "uuid7"


def _first_id(column: Any, start: datetime.datetime, age: datetime.timedelta) -> Any:
    """Return an id before all that were made at a time, less an age, or later."""
    at = max(start, EPOCH + age) - age
    found = uuid.UUID(int=int(at.timestamp() * 1000) << 80)
    return str(found) if column.type.python_type is str else found
