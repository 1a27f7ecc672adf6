"""PostgreSQL's values as Python objects: the same types with psycopg2 and psycopg 3, whichever a worker has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

# Numbers (OIDs) of types. A value that Python's types cannot hold (infinity, years before 1 and after 9999, 24:00)
# stays PostgreSQL's text.
_TIMES: Final = {"date": 1082, "time": 1083, "timestamp": 1114, "timestamptz": 1184, "interval": 1186, "timetz": 1266}
_TIME_ARRAYS: Final = (1182, 1183, 1115, 1185, 1187, 1270)
_BYTEA, _BYTEA_ARRAY = 17, 1001
# The drivers return different types for these; here all are PostgreSQL's text.
_TEXTS: Final = {
    "inet": 869,
    "cidr": 650,
    "uuid": 2950,
    "record": 2249,
    "int4range": 3904,
    "int8range": 3926,
    "numrange": 3906,
    "daterange": 3912,
    "tsrange": 3908,
    "tstzrange": 3910,
    "int4multirange": 4451,
    "int8multirange": 4536,
    "nummultirange": 4532,
    "datemultirange": 4535,
    "tsmultirange": 4533,
    "tstzmultirange": 4534,
}
_TEXT_ARRAYS: Final = (1041, 651, 2951, 2287, 3905, 3927, 3907, 3913, 3909, 3911, 6150, 6157, 6151, 6155, 6152, 6153)


def register_types(cursor: Any) -> None:
    """Register these types with one cursor, of either driver."""
    if type(cursor).__module__.partition(".")[0] == "psycopg":
        _register_with_psycopg3(cursor)
    else:
        _register_with_psycopg2(cursor)


def _register_with_psycopg2(cursor: Any) -> None:
    import psycopg2
    from psycopg2 import extensions as ext

    def add(name: str, oids: tuple[int, ...], array_oids: tuple[int, ...], cast: Callable[[Any, Any], Any]) -> None:
        scalar = ext.new_type(oids, name, cast)
        ext.register_type(scalar, cursor)
        ext.register_type(ext.new_array_type(array_oids, f"{name}[]", scalar), cursor)

    def or_text(name: str, cast: Any) -> Callable[[Any, Any], Any]:
        def read(text: str | None, cursor: Any) -> Any:
            # psycopg2 reads infinity as the year 9999, and 24:00 as 0:00.
            if text is None or text.endswith("infinity") or (name.startswith("time") and text.startswith("24:")):
                return text
            try:
                return cast(text, cursor)
            except (ValueError, OverflowError, psycopg2.Error):
                return text

        return read

    casts = (ext.PYDATE, ext.PYTIME, ext.PYDATETIME, ext.PYDATETIMETZ, ext.PYINTERVAL, ext.PYTIME)
    for (name, oid), array_oid, cast in zip(_TIMES.items(), _TIME_ARRAYS, casts, strict=True):
        add(name.upper(), (oid,), (array_oid,), or_text(name, cast))
    add("TEXTS", tuple(_TEXTS.values()), _TEXT_ARRAYS, lambda text, _: text)
    add(
        "BYTEA", (_BYTEA,), (_BYTEA_ARRAY,), lambda text, at: None if text is None else bytes(psycopg2.BINARY(text, at))
    )


def _register_with_psycopg3(cursor: Any) -> None:
    import psycopg
    from psycopg.types import datetime as times
    from psycopg.types.string import TextLoader

    def or_text(loader: Any) -> Any:
        # A subclass of a loader in Python: those in C do not call `load`.
        class Loader(loader):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except (ValueError, OverflowError, psycopg.DataError):
                    return bytes(data).decode()

        return Loader

    loaders = (times.DateLoader, times.TimeLoader, times.TimestampLoader, times.TimestamptzLoader)
    for oid, loader in zip(_TIMES.values(), (*loaders, times.IntervalLoader, times.TimetzLoader), strict=True):
        cursor.adapters.register_loader(oid, or_text(loader))
    for oid in _TEXTS.values():
        cursor.adapters.register_loader(oid, TextLoader)
