"""The store: transactions on a database, and word of what they changed."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from dwcloud.accounts.changes import AccessChange, AccessSnapshot
from dwcloud.accounts.database import Database
from dwcloud.accounts.members import role_of
from dwcloud.accounts.roles import Role
from dwcloud.accounts.systems import load_access
from dwcloud.accounts.transactions import Transaction

__all__ = ["Store"]

ResultT = TypeVar("ResultT")


class Store:
    """Accounts, systems, roles and sessions.

    What can be done is written as functions of a transaction, in the modules
    beside this one; :meth:`run` carries one out.

    :param database: where it is kept; open.
    :ivar on_change: called with each change of access that counts now, in the reactor's
        thread, in the order in which they came to count.
    """

    _log = Logger()

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_change: list[Callable[[AccessChange], None]] = []

    def run(
        self, function: Callable[..., ResultT], *arguments: object, **named: object
    ) -> Deferred[ResultT]:
        """Carry out ``function(transaction, ...)``.

        It runs in a thread, perhaps more than once. What it raises undoes all of it.
        Cancelling the Deferred does not stop it.
        """

        def work(transaction: Transaction) -> tuple[ResultT, list[AccessChange]]:
            result = function(transaction, *arguments, **named)
            return result, transaction.changes

        outcome: Deferred[ResultT] = Deferred()

        def finished(kept: tuple[ResultT, list[AccessChange]]) -> None:
            result, changes = kept
            for change in changes:
                self._tell(change)
            outcome.callback(result)

        # Told even if nobody waits for the result any more.
        self._database.run(work).addCallbacks(finished, outcome.errback)
        return outcome

    def _tell(self, change: AccessChange) -> None:
        for told in self.on_change:
            try:
                told(change)
            except Exception:
                self._log.failure("{change} was not taken in", change=change)

    def load_access(self) -> AccessSnapshot:
        """Return what counts now; this waits, before the reactor runs."""
        return self._database.run_now(load_access)

    def role_of(self, account: uuid.UUID, system: uuid.UUID) -> Deferred[Role | None]:
        """Return the role of an account on a system, None without one."""
        return self.run(role_of, account, system)
