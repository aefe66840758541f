"""Databases that the store can be kept in, without a wait in the reactor's thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from twisted.enterprise.adbapi import ConnectionLost, ConnectionPool
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.schema import MIGRATIONS, SERIAL
from dwcloud.accounts.transactions import Transaction
from dwcloud.errors import ConfigurationError

__all__ = ["Database", "PooledDatabase", "SQLiteDatabase", "migrate", "open_database"]

ResultT = TypeVar("ResultT")
Work = Callable[[Transaction], ResultT]

_ATTEMPTS = 8
_PAUSE = 0.01
_LATER = 5.0
_BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process that uses the file, such as a backup."""


class Database(Protocol):
    """Where the store is kept."""

    def open(self) -> None:
        """Bring the tables up to date and make transactions possible.

        This waits: it is called before the reactor runs.

        :raises ConfigurationError: if the database cannot be used, or another mediator
            uses it.
        """

    def run_now(self, work: Work[ResultT]) -> ResultT:
        """Carry out a transaction and wait for it: only before the reactor runs."""

    def run(self, work: Work[ResultT]) -> Deferred[ResultT]:
        """Carry out a transaction; what ``work`` raises undoes it.

        ``work`` may be called again if another transaction came between. Fails with
        :class:`~dwcloud.accounts.refusals.Refused` (503) if the database is away.
        """

    def close(self) -> None:
        """Give all connections up."""


def migrate(
    transaction: Transaction,
    *,
    serial: str,
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
) -> int:
    """Bring the tables up to date; return the version they had.

    :param serial: the type of a number that the database counts up.
    :raises ConfigurationError: if the tables are of a newer program.
    """
    transaction.execute(
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"
    )
    row = transaction.one("SELECT version FROM schema_version")
    if row is None:
        transaction.execute("INSERT INTO schema_version VALUES (0)")
    version = 0 if row is None else int(row[0])
    if version > len(migrations):
        raise ConfigurationError(
            f"the database of accounts has version {version}, and this program knows "
            f"only up to {len(migrations)}: it was used by a newer dwcloud; use that, "
            "or restore the copy from before its first start"
        )
    for statements in migrations[version:]:
        for statement in statements:
            transaction.execute(statement.replace(SERIAL, serial))
    transaction.execute("UPDATE schema_version SET version = ?", len(migrations))
    return version


class PooledDatabase:
    """A database behind a pool of threads (:mod:`twisted.enterprise.adbapi`).

    :param clock: tells the time, seconds since 1970.
    """

    _log = Logger()

    placeholder = "?"
    begin: str | None = None
    serial = ""

    def __init__(self, reactor: Any, clock: Callable[[], float]) -> None:
        self._reactor = reactor
        self._clock = clock
        self._pool: ConnectionPool | None = None

    def connect(self) -> Any:
        """Make a connection outside the pool.

        :raises ConfigurationError: if that is not possible.
        """
        raise AssertionError("each kind of database connects in its own way")

    def make_pool(self) -> ConnectionPool:
        """Make the pool of connections."""
        raise AssertionError("each kind of database has a pool of its own")

    def is_passing(self, error: BaseException) -> bool:
        """Tell whether a transaction that failed so may succeed if done again."""
        return isinstance(error, ConnectionLost)

    def open(self) -> None:
        """See :meth:`Database.open`."""
        self.run_now(self._migrate)
        self._pool = self.make_pool()

    def _migrate(self, transaction: Transaction) -> None:
        migrate(transaction, serial=self.serial)

    def run_now(self, work: Work[ResultT]) -> ResultT:
        """See :meth:`Database.run_now`."""
        connection = self.connect()
        try:
            return self._carry_out(connection, work)
        finally:
            connection.close()

    def _carry_out(self, connection: Any, work: Work[ResultT]) -> ResultT:
        result = self._interact(connection.cursor(), work)
        connection.commit()
        return result

    def _interact(self, cursor: Any, work: Work[ResultT]) -> ResultT:
        now = int(self._clock() * 1000)
        transaction = Transaction(cursor, now, self.placeholder)
        if self.begin is not None:
            transaction.execute(self.begin)
        return work(transaction)

    def run(self, work: Work[ResultT]) -> Deferred[ResultT]:
        """See :meth:`Database.run`."""
        return self._run(work, 1)

    def _run(self, work: Work[ResultT], attempt: int) -> Deferred[ResultT]:
        if self._pool is None:
            stops = Refused(503, "unavailable", "This service is being stopped.")
            return fail(stops)
        pool: Any = self._pool

        def again(failure: Failure) -> Any:
            error = cast(BaseException, failure.value)
            if not self.is_passing(error):
                return failure
            if attempt >= _ATTEMPTS:
                self._log.error("the database fails: {reason}", reason=str(error))
                raise Refused(
                    503,
                    "unavailable",
                    "The database of this cloud cannot be reached; try again later.",
                    retry_after=_LATER,
                ) from error
            pause = _PAUSE * attempt
            return deferLater(self._reactor, pause, self._run, work, attempt + 1)

        running: Deferred[Any] = pool.runInteraction(self._interact, work)
        return running.addErrback(again)

    def close(self) -> None:
        """See :meth:`Database.close`."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class SQLiteDatabase(PooledDatabase):
    """A database in one file, used by one thread.

    Whoever opens it holds the directory (:meth:`AccountsDirectory.lock`).

    :param path: the file; made if it is not there, for nobody else to read.
    """

    # Writers come one after the other from the start, instead of failing in the middle.
    begin = "BEGIN IMMEDIATE"
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def __init__(self, reactor: Any, clock: Callable[[], float], path: Path) -> None:
        super().__init__(reactor, clock)
        self._path = path

    def connect(self) -> sqlite3.Connection:
        """See :meth:`PooledDatabase.connect`."""
        try:
            # SQLite gives the files beside it the same permissions.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = sqlite3.connect(
                self._path, isolation_level=None, timeout=_BUSY_TIMEOUT
            )
            self._prepare(connection)
        except OSError as error:
            raise ConfigurationError(
                f"cannot use {self._path}: {error.strerror}"
            ) from error
        except sqlite3.Error as error:
            raise ConfigurationError(f"cannot use {self._path}: {error}") from error
        return connection

    @staticmethod
    def _prepare(connection: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # What was deleted shall not be found in the file any more.
        connection.execute("PRAGMA secure_delete = ON")

    def make_pool(self) -> ConnectionPool:
        """See :meth:`PooledDatabase.make_pool`."""
        return ConnectionPool(
            "sqlite3",
            str(self._path),
            isolation_level=None,
            timeout=_BUSY_TIMEOUT,
            check_same_thread=False,
            cp_min=1,
            cp_max=1,
            cp_openfun=self._prepare,
            cp_reactor=self._reactor,
            cp_noisy=False,
            cp_name="accounts",
        )


def open_database(
    reactor: Any, clock: Callable[[], float], path: Path, url: str | None
) -> Database:
    """Return the database that a URL names, or the one in a file; not open yet.

    :raises ConfigurationError: if the URL names none.
    """
    if url is None:
        return SQLiteDatabase(reactor, clock, path)
    if url.startswith(("postgresql://", "postgres://")):
        from dwcloud.accounts.postgresql import PostgreSQLDatabase

        return PostgreSQLDatabase(reactor, clock, url)
    raise ConfigurationError(
        f"{url.partition('@')[2] or url!r} is no database that can be used: expected a "
        "URL such as postgresql://user@host/name"
    )
