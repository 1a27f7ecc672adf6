"""Sums of ``usage`` by DAG, task, model, day and run. No I/O."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final

from airflow_provider_responses.plugins.usage_values import Part

TOP_RUNS: Final = 20


@dataclass(frozen=True, slots=True)
class SpendRow:
    """The ``usage`` of one task instance."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    try_number: int | None
    day: datetime.date
    run_started: datetime.datetime | None
    parts: Sequence[Part]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """The rows that are counted: those with one of the values of each field; all, if there are none."""

    dag_ids: Collection[str] = ()
    task_ids: Collection[str] = ()
    models: Collection[str] = ()  # "" for an unknown one

    def has_task(self, dag_id: str, task_id: str) -> bool:
        """Return whether task instances of a task are counted."""
        return (not self.dag_ids or dag_id in self.dag_ids) and (not self.task_ids or task_id in self.task_ids)

    def parts(self, row: SpendRow) -> Sequence[Part]:
        """Return the parts of a row that are counted."""
        if not self.has_task(row.dag_id, row.task_id):
            return ()
        return row.parts if not self.models else [it for it in row.parts if (it.model or "") in self.models]


@dataclass(slots=True)
class Sums:
    """The sums of a group."""

    requests: int = 0
    cost: float = 0.0
    priced: int = 0  # parts with a cost
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    with_input: int = 0  # parts with a token count
    with_output: int = 0
    cached: int = 0
    failed: int = 0
    task_instances: int = 0
    parts: int = 0

    def add(self, part: Part) -> None:
        """Add the requests of one model."""
        self.parts += 1
        self.requests += part.requests
        self.cached += part.cached
        self.failed += part.failed
        self.unpriced += part.unpriced
        if part.cost is not None:
            self.cost += part.cost
            self.priced += 1
        if part.input_tokens is not None:
            self.input_tokens += part.input_tokens
            self.with_input += 1
        if part.output_tokens is not None:
            self.output_tokens += part.output_tokens
            self.with_output += 1

    def merge(self, other: Sums) -> None:
        """Add the sums of a group."""
        for it in fields(self):
            setattr(self, it.name, getattr(self, it.name) + getattr(other, it.name))

    def to_json(self) -> dict[str, Any]:
        """Return the sums; null where nothing is known."""
        is_empty = not self.parts
        return {
            "requests": self.requests,
            "cost": round(self.cost, 9) if self.priced or is_empty else None,
            "cost_is_minimum": bool(self.priced and self.unpriced),
            "unpriced": self.unpriced,
            "input_tokens": self.input_tokens if self.with_input or is_empty else None,
            "output_tokens": self.output_tokens if self.with_output or is_empty else None,
            "cached": self.cached,
            "failed": self.failed,
            "task_instances": self.task_instances,
        }


@dataclass
class Spend:
    """
    Sums that are filled row by row.

    :param days: the first and the last day of the window.
    :param filters: of the sums; the choices are those of all rows.
    """

    days: tuple[datetime.date, datetime.date]
    filters: Filters
    by_task: dict[tuple[str, str], Sums] = field(default_factory=dict)
    by_model: dict[str | None, Sums] = field(default_factory=dict)
    by_day: dict[datetime.date, Sums] = field(default_factory=dict)
    by_run: dict[tuple[str, str], Sums] = field(default_factory=dict)
    _starts: dict[tuple[str, str], datetime.datetime | None] = field(default_factory=dict)
    _tasks: set[tuple[str, str]] = field(default_factory=set)
    _models: set[str] = field(default_factory=set)

    def add(self, row: SpendRow) -> None:
        """Add a task instance."""
        task, run = (row.dag_id, row.task_id), (row.dag_id, row.run_id)
        self._tasks.add(task)
        self._models.update(it.model or "" for it in row.parts)
        if not (parts := self.filters.parts(row)):
            return
        self._starts[run] = row.run_started
        groups = (
            _of(self.by_task, task),
            _of(self.by_day, row.day),
            _of(self.by_run, run),
        )
        for sums in groups:
            sums.task_instances += 1
            for part in parts:
                sums.add(part)
        for model in {it.model for it in parts}:
            _of(self.by_model, model).task_instances += 1
        for part in parts:
            self.by_model[part.model].add(part)

    def to_json(self) -> dict[str, Any]:
        """Return the sums and the choices."""
        first, last = self.days
        days = [first + datetime.timedelta(days=n) for n in range((last - first).days + 1)]
        runs = _sorted(self.by_run)[:TOP_RUNS]
        total, by_dag = Sums(), dict[str, Sums]()
        for (dag_id, _), sums in self.by_task.items():
            total.merge(sums)
            _of(by_dag, dag_id).merge(sums)
        return {
            "start": first.isoformat(),
            "end": last.isoformat(),
            "totals": total.to_json(),
            "by_dag": _entries(by_dag, lambda dag_id: {"dag_id": dag_id}),
            "by_task": _entries(self.by_task, lambda task: {"dag_id": task[0], "task_id": task[1]}),
            "by_model": _entries(self.by_model, lambda model: {"model": model}),
            "by_day": [{"day": it.isoformat(), **self.by_day.get(it, Sums()).to_json()} for it in days],
            "top_runs": [
                {"dag_id": run[0], "run_id": run[1], "start": _iso(self._starts[run]), **sums.to_json()}
                for run, sums in runs
            ],
            "choices": {
                "dags": sorted({dag_id for dag_id, _ in self._tasks}),
                "tasks": sorted(map(list, self._tasks)),
                "models": sorted(filter(None, self._models)),
            },
        }


def _of(groups: dict[Any, Sums], key: Any) -> Sums:
    sums = groups.get(key)
    if sums is None:
        sums = groups[key] = Sums()
    return sums


def _sorted(groups: dict[Any, Sums]) -> list[tuple[Any, Sums]]:
    """Return groups, the most expensive first."""
    return sorted(groups.items(), key=lambda it: (it[1].priced == 0, -it[1].cost, -it[1].requests, str(it[0])))


def _entries(groups: dict[Any, Sums], names: Callable[[Any], dict[str, Any]]) -> list[dict[str, Any]]:
    return [names(key) | sums.to_json() for key, sums in _sorted(groups)]


def _iso(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def csv_lines(rows: Iterable[SpendRow], filters: Filters) -> Iterable[list[Any]]:
    """Yield the lines of the table as CSV: its head, then one line for each task instance and model."""
    yield [
        "day",
        "dag_id",
        "run_id",
        "task_id",
        "map_index",
        "try_number",
        "model",
        "provider",
        "status",
        "requests",
        "cached",
        "failed",
        "input_tokens",
        "output_tokens",
        "cost",
    ]
    for row in rows:
        for part in filters.parts(row):
            yield [
                row.day.isoformat(),
                *map(defused, (row.dag_id, row.run_id, row.task_id)),
                row.map_index,
                row.try_number,
                *map(defused, (part.model, part.provider, part.status)),
                part.requests,
                part.cached,
                part.failed,
                part.input_tokens,
                part.output_tokens,
                None if part.cost is None else f"{part.cost:.9f}".rstrip("0").rstrip("."),
            ]


def defused(value: str | None) -> str | None:
    """Return a text that no spreadsheet takes for a formula."""
    if (value and value.lstrip()[:1] in {"=", "+", "-", "@", "|", "%"}) or (value and value[0] in "\t\r\n"):
        return f"'{value}"
    return value
