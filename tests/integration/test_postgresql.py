"""The store in a real PostgreSQL: the same tests as in SQLite, and its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from twisted.internet.defer import (
    Deferred,
    fail,
    inlineCallbacks,
    succeed,
)
from twisted.logger import capturedLogs
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from dwcloud.accounts import postgresql
from dwcloud.accounts.database import open_database
from dwcloud.accounts.people import OPEN, create_account
from dwcloud.accounts.postgresql import PostgreSQLDatabase
from dwcloud.accounts.refusals import Refused
from dwcloud.accounts.store import Store
from dwcloud.accounts.transactions import Transaction
from dwcloud.errors import ConfigurationError
from tests.integration import test_accounts
from tests.integration.postgresql import fresh_database, server
from tests.unit.accounts import (
    test_invitations,
    test_lock_out,
    test_people,
    test_system_tokens,
    test_systems,
)
from tests.unit.accounts.store_world import START, StoreWorld

ResultT = TypeVar("ResultT")


class InlinePostgreSQL(PostgreSQLDatabase):
    """Transactions that are done when asked for, on a simulated clock."""

    def __init__(self, url: str) -> None:
        self.now = START
        super().__init__(None, lambda: self.now, url)
        self._connection: Any = None

    def open(self) -> None:
        self._connection = self.connect()
        self.run_now(self._migrate)

    def run_now(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        try:
            result = self._interact(self._connection.cursor(), work)
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()
        return result

    def run(self, work: Callable[[Transaction], ResultT]) -> Deferred[ResultT]:
        try:
            return succeed(self.run_now(work))
        except Exception:
            return fail(Failure())

    def close(self) -> None:
        self._connection.close()


class _PostgreSQLMixin:
    """Lets the tests of a store run on PostgreSQL."""

    def make_world(self) -> StoreWorld:
        test: Any = self
        world = StoreWorld(InlinePostgreSQL(fresh_database(test)))
        test.addCleanup(world.database.close)
        return world


def _on_postgresql(module: Any) -> dict[str, type]:
    """Return the test cases of a module, on PostgreSQL."""
    base = module.StoreCase
    return {
        name: type(name, (_PostgreSQLMixin, kind), {"__doc__": kind.__doc__})
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base
    }


globals().update(_on_postgresql(test_people))
globals().update(_on_postgresql(test_systems))
globals().update(_on_postgresql(test_invitations))
globals().update(_on_postgresql(test_system_tokens))
globals().update(_on_postgresql(test_lock_out))


class RoleMachineTests(SynchronousTestCase):
    """Roles under all histories."""

    def test_histories(self) -> None:
        """Nobody without a role ever gets in, and a system has exactly one owner."""
        test = self

        class Machine(test_systems.RoleMachine):
            def make_world(self) -> StoreWorld:
                return StoreWorld(InlinePostgreSQL(fresh_database(test)))

        run_state_machine_as_test(
            Machine,
            settings=settings(max_examples=8, stateful_step_count=20, deadline=None),
        )


class _ServiceMixin:
    """Lets the tests of a mediator with accounts run on PostgreSQL."""

    def make_options(self) -> dict[str, Any]:
        if not hasattr(self, "_url"):
            self._url = fresh_database(self)
        return {"database": self._url}


class ServiceSignInTests(_ServiceMixin, test_accounts.SignInTests):
    """From registration to the end of a session."""


class ServiceSystemTests(_ServiceMixin, test_accounts.SystemTests):
    """Systems and who may do what with them."""


class ServiceInvitedTests(_ServiceMixin, test_accounts.InvitedTests):
    """A cloud whose operator lets only invited people in."""


class ServiceTheftTests(_ServiceMixin, test_accounts.TheftTests):
    """What a thief of the database has."""

    def stored(self) -> tuple[str, bytes]:
        """Return all rows, as text."""
        import psycopg

        with psycopg.connect(self._url) as connection:
            tables = connection.execute(
                "SELECT table_name FROM information_schema.tables"
                " WHERE table_schema = current_schema()"
            ).fetchall()
            rows = [
                row
                for (table,) in tables
                for row in connection.execute(f"SELECT * FROM {table}")  # type: ignore[arg-type]
            ]
        text = "\n".join(map(repr, rows))
        return text, text.encode()


class MediatorTests(TestCase):
    """One mediator on one database, and a database that is away."""

    timeout = 120

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.url = fresh_database(self)

    def database(self) -> PostgreSQLDatabase:
        """Return the database as one mediator has it."""
        return PostgreSQLDatabase(self.reactor, self.reactor.seconds, self.url)

    def register(self, store: Store, name: str) -> Deferred[Any]:
        return store.run(
            create_account,
            name,
            "hash",
            registration=OPEN,
            invitation=None,
            address="192.0.2.1",
        )

    @inlineCallbacks
    def test_second_mediator(self) -> Generator[Any, Any, None]:
        """It refuses to start and tells who is there, until that one ends."""
        first = self.database()
        first.open()
        yield self.register(Store(first), "ann")
        second = self.database()
        error = self.assertRaises(ConfigurationError, second.open)
        self.assertIn(f"dwcloud mediator, process {os.getpid()} on ", str(error))
        self.assertIn(" UTC", str(error))
        self.assertIn("--database", str(error))
        yield self.register(Store(first), "bob")
        first.close()
        second.open()
        self.addCleanup(second.close)
        yield self.assertFailure(self.register(Store(second), "ann"), Refused)

    def test_other_schema(self) -> None:
        """Another cloud in the same database, with tables of its own, is no matter."""
        for url in (self.url, fresh_database(self)):
            database = PostgreSQLDatabase(self.reactor, self.reactor.seconds, url)
            database.open()
            self.addCleanup(database.close)

    @inlineCallbacks
    def test_taken_over(self) -> Generator[Any, Any, None]:
        """One that was away while another took its place does not go on as before."""
        first, second = self.database(), self.database()
        first.open()
        self.addCleanup(first.close)
        yield self.register(Store(first), "ann")
        self.cut()
        yield self.register(Store(first), "bob")
        self.cut()
        second.open()
        self.addCleanup(second.close)
        yield self.refused(first, "uses the database of --database already (dwcloud")
        second.close()
        yield self.refused(first, "has used the database of --database meanwhile")
        # adbapi tells of each connection that it could not roll back.
        self.flushLoggedErrors()

    @inlineCallbacks
    def refused(self, database: PostgreSQLDatabase, why: str) -> Any:
        """Check that requests get 503, and that the log tells why."""
        with capturedLogs() as events:
            trying = self.register(Store(database), "cat")
            error = yield self.assertFailure(trying, Refused)
        self.assertEqual((error.status, error.code), (503, "unavailable"))
        reasons = [event["reason"] for event in events if "reason" in event]
        self.assertEqual(len(reasons), 1)
        self.assertIn(why, reasons[0])

    def cut(self) -> None:
        """Break the connection that holds the lock, and wait until it is gone."""
        import psycopg

        holding = (
            "FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            " AND objid = hashtext(current_schema())::oid"
        )
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"SELECT pg_terminate_backend(pid) {holding}")  # type: ignore[arg-type]
            while connection.execute(f"SELECT 1 {holding}").fetchone():  # type: ignore[arg-type]
                pass

    @inlineCallbacks
    def test_outage(self) -> Generator[Any, Any, None]:
        """While the server is away 503 says so; when it is back, all goes on."""
        database = self.database()
        database.open()
        self.addCleanup(database.close)
        store = Store(database)
        yield self.register(store, "ann")
        server().stop()
        try:
            error = yield self.assertFailure(self.register(store, "bob"), Refused)
            self.assertEqual((error.status, error.code), (503, "unavailable"))
        finally:
            server().start()
        bob = yield self.register(store, "bob")
        self.assertEqual(bob.name, "bob")
        yield self.assertFailure(self.register(store, "ann"), Refused)
        # adbapi tells of each connection that it could not roll back.
        self.flushLoggedErrors()


class ConfigurationTests(SynchronousTestCase):
    """What is told of databases that cannot be used."""

    def test_unreachable(self) -> None:
        """A server that is not there is told, without the password of the URL."""
        fresh_database(self)
        database = PostgreSQLDatabase(
            None, lambda: 0.0, "postgresql://me:secret@127.0.0.1:1/accounts"
        )
        error = self.assertRaises(ConfigurationError, database.open)
        self.assertIn("--database", str(error))
        self.assertNotIn("secret", str(error))

    def test_missing_package(self) -> None:
        """Without psycopg the error names what to install."""
        self.patch(postgresql, "psycopg", None)
        error = self.assertRaises(
            ConfigurationError,
            open_database,
            None,
            lambda: 0.0,
            Path("x"),
            "postgresql://me@host/name",
        )
        self.assertIn("dwcloud[postgres]", str(error))

    def test_other(self) -> None:
        """Another kind of database is refused, with the form that is right."""
        error = self.assertRaises(
            ConfigurationError,
            open_database,
            None,
            lambda: 0.0,
            Path("x"),
            "mysql://me:secret@host/name",
        )
        self.assertIn("postgresql://user@host/name", str(error))
        self.assertNotIn("secret", str(error))
