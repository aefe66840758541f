"""A store on a database in memory, at once and on a simulated clock."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import argon2
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.python.failure import Failure

from dwcloud.accounts.audit import Actor
from dwcloud.accounts.changes import AccessChange
from dwcloud.accounts.database import SQLiteDatabase, migrate
from dwcloud.accounts.people import OPEN, Account, Credentials, create_account
from dwcloud.accounts.sealing import Seal
from dwcloud.accounts.store import Store
from dwcloud.accounts.systems import System, bind_system, new_challenge
from dwcloud.accounts.transactions import Transaction

ResultT = TypeVar("ResultT")

START = 1_700_000_000.0

CHEAP = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes as fast as possible."""


class Inline:
    """Does slow work at once, and counts it."""

    def __init__(self) -> None:
        self.done = 0

    def run(self, work: Callable[[], ResultT]) -> Deferred[ResultT]:
        self.done += 1
        return execute(work)


class MemoryDatabase:
    """The real tables in memory; transactions are done when asked for."""

    def __init__(self) -> None:
        self.now = START
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute("PRAGMA foreign_keys = ON")

    def open(self) -> None:
        self.run_now(lambda t: migrate(t, serial=SQLiteDatabase.serial))

    def run_now(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        transaction = Transaction(self.connection.cursor(), int(self.now * 1000))
        transaction.execute("BEGIN IMMEDIATE")
        try:
            result = work(transaction)
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()
        return result

    def run(self, work: Callable[[Transaction], ResultT]) -> Deferred[ResultT]:
        try:
            return succeed(self.run_now(work))
        except Exception:
            return fail(Failure())

    def close(self) -> None:
        self.connection.close()


class StoreWorld:
    """A store with people in it.

    :ivar changes: what the store told of changes.
    """

    def __init__(self, database: Any = None) -> None:
        self.database: Any = database or MemoryDatabase()
        self.database.open()
        self.store = Store(self.database)
        self.seal = Seal(bytes(32))
        self.changes: list[AccessChange] = []
        self.store.on_change.append(self.changes.append)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.database.now += seconds

    def run(
        self, function: Callable[..., ResultT], *args: Any, **named: Any
    ) -> ResultT:
        """Carry out a transaction; raises what it raises."""
        results: list[Any] = []
        self.store.run(function, *args, **named).addBoth(results.append)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        result: ResultT = results[0]
        return result

    def account(self, name: str, registration: str = OPEN, **named: Any) -> Account:
        """Make an account, whose password hash is ``hash of NAME``."""
        named.setdefault("invitation", None)
        return self.run(
            create_account,
            name,
            f"hash of {name}",
            registration=registration,
            address="192.0.2.1",
            **named,
        )

    def credentials(self, account: Account) -> Credentials:
        """What the right password of an account has shown."""
        return Credentials(account.id, account.name, f"hash of {account.name}", False)

    def actor(self, name: str) -> Actor:
        """Make an account and return it as signed in."""
        return Actor(self.account(name).id, name, uuid.uuid4(), "192.0.2.1")

    def system(self, owner: Actor, name: str = "garage") -> System:
        """Bind a new system to an account."""
        nonce = self.run(new_challenge, owner)
        return self.run(
            bind_system,
            owner,
            name,
            system=uuid.uuid4(),
            public_key=b"key",
            nonce=nonce,
        )
