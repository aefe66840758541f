"""One transaction of the store: SQL, the time, and what others must hear of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from dwcloud.accounts.changes import AccessChange

__all__ = ["Cursor", "Row", "Transaction"]

Row = tuple[Any, ...]


class Cursor(Protocol):
    """What is used of a cursor of the Python database interface (PEP 249)."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement concerned."""

    def execute(self, operation: Any, parameters: Any = ..., /) -> Any:
        """Carry out a statement."""

    def fetchone(self) -> Any:
        """Return the next row, None without one."""

    def fetchall(self) -> Any:
        """Return all rows that are left."""


class Transaction:
    """Carries out statements that count together or not at all.

    :param placeholder: how the database writes a parameter; statements say ``?``.
    :ivar now: milliseconds since 1970.
    :ivar changes: what is to be told once the transaction is kept.
    """

    def __init__(self, cursor: Cursor, now: int, placeholder: str = "?") -> None:
        self.now = now
        self.changes: list[AccessChange] = []
        self._cursor = cursor
        self._placeholder = placeholder

    def execute(self, statement: str, *parameters: Any) -> int:
        """Carry out a statement; return how many rows it concerned."""
        if self._placeholder != "?":
            statement = statement.replace("?", self._placeholder)
        self._cursor.execute(statement, tuple(map(_storable, parameters)))
        return self._cursor.rowcount

    def one(self, statement: str, *parameters: Any) -> Row | None:
        """Return the first row, None without one."""
        self.execute(statement, *parameters)
        row: Row | None = self._cursor.fetchone()
        return row

    def all(self, statement: str, *parameters: Any) -> Sequence[Row]:
        """Return all rows."""
        self.execute(statement, *parameters)
        rows: Sequence[Row] = self._cursor.fetchall()
        return rows


def _storable(parameter: Any) -> Any:
    """Return text as each database takes it: some know no zero character."""
    if not isinstance(parameter, str) or (
        parameter.isascii() and "\0" not in parameter
    ):
        return parameter
    replaced = parameter.replace("\0", "\ufffd")
    return replaced.encode("utf-8", "replace").decode("utf-8")
