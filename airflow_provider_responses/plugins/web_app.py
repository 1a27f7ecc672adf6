"""The pages of the plugin and their API, which reads and never writes. Only the API server imports this module."""

from __future__ import annotations

import csv
import datetime
import json
import mimetypes
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Query
from starlette.responses import FileResponse, Response, StreamingResponse

from airflow_provider_responses.operators.progress_report import STATE_KEY
from airflow_provider_responses.plugins import metadata
from airflow_provider_responses.plugins.access import ReadableDags
from airflow_provider_responses.plugins.spend import Filters, Spend, SpendRow, csv_lines
from airflow_provider_responses.plugins.task_view import task_view
from airflow_provider_responses.plugins.usage_values import is_usage, parts_of
from airflow_provider_responses.plugins.xcom_backend import UnreadableError, XComValues

STATIC: Final = Path(__file__).parent / "static"
DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 3660
MAX_CSV_BYTES: Final = 4 * 1024 * 1024  # in memory; more is in a temporary file
NOT_FOUND: Final = "There is no such task instance, or you may not read its DAG, its task instances or its XComs"
OPERATORS: Final = frozenset(
    {
        "ResponsesOperator",
        "ResponsesEnrichOperator",
        "_ResponsesDecoratedOperator",
        "_ResponsesEnrichDecoratedOperator",
    }
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
DATA_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

User = Annotated[Any, Depends(get_user)]
Names = Annotated[list[str] | None, Query()]


def make_app() -> FastAPI:
    """Return the app, which Airflow mounts."""
    app = FastAPI(title="Responses", docs_url=None, redoc_url=None, openapi_url=None)
    app.get("/spend")(_page)
    app.get("/task")(_page)
    app.get("/static/{name}")(_static_file)
    app.get("/api/task")(_get_task)
    app.get("/api/spend")(_get_spend)
    app.get("/api/spend.csv")(_get_spend_csv)
    return app


class AsciiResponse(Response):
    """JSON that holds any text, also half of a surrogate pair, which UTF-8 does not have."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of a value."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def _page() -> Response:
    """Return the page without Airflow's frame; it holds no data, and its script asks the API for them."""
    return _file("index.html")


def _static_file(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    path = STATIC / name
    if name not in _file_names() or not path.is_file():
        raise HTTPException(404, "There is no such file")
    media_type = MEDIA_TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=media_type, headers=PAGE_HEADERS)


def _file_names() -> frozenset[str]:
    return frozenset(path.name for path in STATIC.iterdir()) if STATIC.is_dir() else frozenset()


def _get_task(
    user: User,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int = -1,
    *,
    region_id: uuid.UUID | None = None,
    region_index: int | None = None,
) -> Response:
    """Return one task instance; Airflow 3.4 names an iteration of a loop by its region."""
    key = metadata.TaskKey(dag_id, run_id, task_id, map_index)
    with create_session() as session:
        if not ReadableDags(user, session).may_read(dag_id, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM):
            raise HTTPException(404, NOT_FOUND)
        instance = metadata.read_instance(session, key, metadata.Region(region_id, region_index))
        if instance is None:
            raise HTTPException(404, NOT_FOUND)
        xcoms = metadata.read_xcoms(session, instance)
        progress = metadata.read_state(session, key, instance.region, STATE_KEY)
    return AsciiResponse(key._asdict() | task_view(instance, xcoms, progress, XComValues()), headers=DATA_HEADERS)


@dataclass(frozen=True, slots=True)
class _Window:
    """
    The rows that a request asks for.

    :param days: the first and the last.
    """

    days: tuple[datetime.date, datetime.date]
    filters: Filters

    @property
    def times(self) -> tuple[datetime.datetime, datetime.datetime]:
        """The times at which the window begins and ends."""
        midnight = datetime.time(tzinfo=datetime.UTC)
        first, last = self.days
        return (
            datetime.datetime.combine(first, midnight),
            datetime.datetime.combine(last, midnight) + datetime.timedelta(days=1),
        )


def _window(
    start: datetime.date | None = None,
    end: datetime.date | None = None,
    dag_id: Names = None,
    task_id: Names = None,
    model: Names = None,
) -> _Window:
    today = datetime.datetime.now(datetime.UTC).date()
    last = end or max(start or today, today)
    first = start or last - datetime.timedelta(days=min(DEFAULT_DAYS, last.toordinal()) - 1)
    if not 0 <= (last - first).days < MAX_DAYS or last == datetime.date.max:
        raise HTTPException(422, f"end must be from start to {MAX_DAYS} days later, got {first} to {last}")
    given = (frozenset(it or ()) for it in (dag_id, task_id, model))
    dag_ids, task_ids, models = given
    return _Window((first, last), Filters(dag_ids=dag_ids, task_ids=task_ids, models=models))


Window = Annotated[_Window, Depends(_window)]


class _SpendReader:
    """Reads the ``usage`` of all task instances in a window that a user may read, and counts what is missing."""

    def __init__(self, user: Any, session: Any, window: _Window) -> None:
        self._session, self._window = session, window
        self._readable, self._values = ReadableDags(user, session), XComValues()
        self._operators = set(OPERATORS)
        self._unread: list[str | None] = []  # operators of XComs that the backend could not read
        self._not_ours = 0
        self._has_earlier = False

    def rows(self) -> Iterator[SpendRow]:
        """Yield the rows; whatever filters leave out is among them, for the choices."""
        tasks = metadata.find_usage_tasks(self._session, *self._window.times)
        readable = self._readable.among({it.dag_id for it in tasks}, DagAccessEntity.XCOM)  # before rows are read
        self._has_earlier = any(
            it.is_archived and it.dag_id in readable and self._window.filters.has_task(it.dag_id, it.task_id)
            for it in tasks
        )
        for row in metadata.read_usages(self._session, *self._window.times):
            if row.dag_id not in readable:
                continue
            try:
                usage = self._values.read(row.key, row.value, is_usage)
            except UnreadableError:
                if self._window.filters.has_task(row.dag_id, row.task_id):
                    self._unread.append(row.operator)
                continue
            if not is_usage(usage):
                self._not_ours += self._window.filters.has_task(row.dag_id, row.task_id)
                continue
            if row.operator:
                self._operators.add(row.operator)
            yield SpendRow(
                row.dag_id,
                row.task_id,
                row.run_id,
                row.map_index,
                row.try_number,
                row.timestamp.astimezone(datetime.UTC).date(),
                row.run_started,
                parts_of(usage),
            )

    def missing(self) -> dict[str, Any]:
        """Return what the rows do not have; call it after :meth:`rows` has ended."""
        ours = sum(operator in self._operators for operator in self._unread)
        counts = metadata.count_without_usage(self._session, *self._window.times, self._operators)
        readable = self._readable.among(
            {dag_id for dag_id, _ in counts}, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM
        )
        return {
            "unreadable": ours,
            "not_ours": self._not_ours + len(self._unread) - ours,
            "without_usage": sum(
                number
                for (dag_id, task_id), number in counts.items()
                if dag_id in readable and self._window.filters.has_task(dag_id, task_id)
            ),
            "earlier_attempts": self._has_earlier,
            "backend": self._values.backend,
        }


def _get_spend(user: User, window: Window) -> Response:
    """Return the sums of a window."""
    spend = Spend(window.days, window.filters)
    with create_session() as session:
        reader = _SpendReader(user, session, window)
        for row in reader.rows():
            spend.add(row)
        missing = reader.missing()
    return AsciiResponse(spend.to_json() | {"missing": missing}, headers=DATA_HEADERS)


def _get_spend_csv(user: User, window: Window) -> Response:
    """Return the rows of a window as a file; it is written first, since a slow reader must not hold a connection."""
    # Its end is that of the response.
    file = tempfile.SpooledTemporaryFile(  # noqa: SIM115
        MAX_CSV_BYTES, "w+", encoding="utf-8", errors="replace", newline=""
    )
    with create_session() as session:
        csv.writer(file).writerows(csv_lines(_SpendReader(user, session, window).rows(), window.filters))
    file.seek(0)
    first, last = window.days
    headers = DATA_HEADERS | {"Content-Disposition": f'attachment; filename="llm-spend-{first}-{last}.csv"'}
    return StreamingResponse(_pieces(file), media_type="text/csv; charset=utf-8", headers=headers)


def _pieces(file: Any) -> Iterator[str]:
    with file:
        while piece := file.read(65_536):
            yield cast("str", piece)
