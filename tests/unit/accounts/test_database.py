"""The file of the store, and transactions that are tried again."""

from __future__ import annotations

import os
import sqlite3
import stat
import uuid
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.enterprise.adbapi import ConnectionLost
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.accounts.audit import Actor
from dwcloud.accounts.database import (
    PooledDatabase,
    SQLiteDatabase,
    migrate,
    open_database,
)
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.schema import MIGRATIONS
from dwcloud.accounts.sessions import BEARER, session_of
from dwcloud.accounts.tokens import hash_secret
from dwcloud.accounts.transactions import Transaction
from dwcloud.errors import ConfigurationError
from tests.unit.accounts.store_world import MemoryDatabase

ANN, SESSION = uuid.UUID(int=1), uuid.UUID(int=2)


class FileTests(SynchronousTestCase):
    """A database in a file."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def database(self, path: Path | None = None) -> SQLiteDatabase:
        return SQLiteDatabase(Clock(), lambda: 5.0, path or self.path)

    def carry_out(self, statement: str) -> Any:
        def work(transaction: Transaction) -> Any:
            return transaction.one(statement)

        return self.database().run_now(work)

    def test_private(self) -> None:
        """It is for its owner alone, and what was deleted is not left in it."""
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.assertEqual(self.carry_out("PRAGMA journal_mode"), ("wal",))
        self.assertEqual(self.carry_out("PRAGMA foreign_keys"), (1,))
        self.assertEqual(self.carry_out("PRAGMA secure_delete"), (1,))
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_undone(self) -> None:
        """What raises leaves nothing behind."""
        self.carry_out("SELECT 1")

        def work(transaction: Transaction) -> None:
            transaction.execute("CREATE TABLE a (x TEXT)")
            raise Refused(409, "x", "no")

        self.assertRaises(Refused, self.database().run_now, work)
        found = self.carry_out("SELECT COUNT(*) FROM sqlite_master")
        self.assertEqual(found, (0,))

    def test_unusable(self) -> None:
        """What cannot be used is told by its path."""
        self.path.write_bytes(b"this is no database, but a text of some length" * 20)
        for path in (self.path, self.path / "below", Path("/nowhere/accounts.sqlite")):
            error = self.assertRaises(ConfigurationError, self.database(path).open)
            self.assertIn(str(path), str(error))

    def test_url(self) -> None:
        """Without a URL it is the file."""
        database = open_database(Clock(), lambda: 0.0, self.path, None)
        self.assertIsInstance(database, SQLiteDatabase)


class Pool:
    """Connections that fail as told."""

    def __init__(self, failures: list[BaseException]) -> None:
        self.failures = failures
        self.tried = 0
        self.closed = False

    def runInteraction(self, interact: Any, work: Any) -> Deferred[Any]:
        self.tried += 1
        return execute(self._interact, interact, work)

    def _interact(self, interact: Any, work: Any) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        return interact(sqlite3.connect(":memory:").cursor(), work)

    def close(self) -> None:
        self.closed = True


class AttemptTests(SynchronousTestCase):
    """Transactions that may succeed when done again."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.database = PooledDatabase(self.clock, lambda: 5.0)

    def run_with(self, *failures: BaseException) -> tuple[Pool, Deferred[Any]]:
        pool = Pool(list(failures))
        self.database._pool = pool  # type: ignore[assignment]
        running = self.database.run(lambda transaction: transaction.now)
        self.clock.pump([0.1] * 10)
        return pool, running

    def test_first(self) -> None:
        """Most succeed at once; the time is that of the database's clock."""
        pool, running = self.run_with()
        self.assertEqual(self.successResultOf(running), 5000)
        self.assertEqual(pool.tried, 1)

    def test_again(self) -> None:
        """A lost connection is made again."""
        pool, running = self.run_with(ConnectionLost(), ConnectionLost())
        self.assertEqual(self.successResultOf(running), 5000)
        self.assertEqual(pool.tried, 3)

    def test_given_up(self) -> None:
        """After eight tries 503 is the answer, and the log tells why."""
        pool, running = self.run_with(*[ConnectionLost() for _ in range(9)])
        failure = self.failureResultOf(running, Refused)
        self.assertEqual((failure.value.status, failure.value.retry_after), (503, 5.0))
        self.assertEqual(pool.tried, 8)

    def test_mistake(self) -> None:
        """What would fail again is not tried again."""
        pool, running = self.run_with(ZeroDivisionError())
        self.failureResultOf(running, ZeroDivisionError)
        self.assertEqual(pool.tried, 1)

    def test_closed(self) -> None:
        """A database that was closed says so."""
        pool, _ = self.run_with()
        self.database.close()
        self.database.close()
        self.assertTrue(pool.closed)
        failure = self.failureResultOf(self.database.run(lambda t: None), Refused)
        self.assertEqual(failure.value.code, "unavailable")


class MigrationTests(SynchronousTestCase):
    """Tables that an older program has made."""

    def test_from_the_first(self) -> None:
        """What is in them stays, and what is new works."""
        database = MemoryDatabase()
        self.addCleanup(database.close)
        serial = SQLiteDatabase.serial
        first = MIGRATIONS[:1]
        database.run_now(lambda t: migrate(t, serial=serial, migrations=first))

        def fill(transaction: Transaction) -> None:
            transaction.execute(
                "INSERT INTO accounts (id, name, password_hash, created)"
                " VALUES (?, 'ann', 'x', 0)",
                str(ANN),
            )
            transaction.execute(
                "INSERT INTO sessions (id, account, kind, access_hash, access_expires,"
                " refreshed, created, used, expires, address, agent)"
                " VALUES (?, ?, ?, ?, ?, 0, 0, 0, ?, '', '')",
                str(SESSION),
                str(ANN),
                BEARER,
                hash_secret("token"),
                transaction.now + 1000,
                transaction.now + 1000,
            )

        database.run_now(fill)
        database.open()
        actor = database.run_now(lambda t: session_of(t, "token", BEARER, "192.0.2.1"))
        self.assertEqual(actor, Actor(ANN, "ann", SESSION, "192.0.2.1"))
        self.assertEqual(
            database.run_now(lambda t: migrate(t, serial=serial)), len(MIGRATIONS)
        )


class TextTests(SynchronousTestCase):
    """Text of strangers in statements."""

    @given(st.text(st.characters(exclude_categories=())))
    def test_any(self, text: str) -> None:
        """Whatever it is, it is kept as text that each database takes."""
        database = MemoryDatabase()
        row = database.run_now(lambda t: t.one("SELECT ?", text))
        assert row is not None
        self.assertNotIn("\0", row[0])
        row[0].encode("utf-8")
        if "\0" not in text and not any(0xD800 <= ord(c) < 0xE000 for c in text):
            self.assertEqual(row[0], text)
        database.close()
