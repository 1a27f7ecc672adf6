"""The value of a column that neither the template nor the result uses."""

from __future__ import annotations

from typing import NoReturn


class UnreadValue:
    """
    A value that was not read, so that it can neither stop the table nor use memory.

    :param column: of the source.
    """

    __slots__ = ("_column",)

    def __init__(self, column: str) -> None:
        self._column = column

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"column {self._column!r} was not read, since neither the template nor `columns` names it")

    __str__ = __iter__ = __len__ = __bool__ = __getitem__ = __eq__ = __lt__ = __add__ = __radd__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"UnreadValue({self._column!r})"
