"""The store and its API as a part of a mediator."""

from __future__ import annotations

import os
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.accounts.access import AccessTable
from dwcloud.accounts.api.application import AccountsAPI
from dwcloud.accounts.api.events import EventBus
from dwcloud.accounts.api.services import Limits, Presence, Services
from dwcloud.accounts.audit import forget_old_entries
from dwcloud.accounts.database import Database, SQLiteDatabase
from dwcloud.accounts.directory import AccountsDirectory
from dwcloud.accounts.members import invite_to_register
from dwcloud.accounts.passwords import Passwords, PasswordThreads
from dwcloud.accounts.people import INVITED, OPEN
from dwcloud.accounts.recorder import Recorder
from dwcloud.accounts.store import Store
from dwcloud.accounts.systems import forget_old_secrets
from dwcloud.accounts.tokens import hash_secret
from dwcloud.accounts.transactions import Transaction
from dwcloud.net.private_files import replace_file
from dwcloud.protocol.gateway.hosts import WebGateway

__all__ = ["AccountsService"]

_TIDY_EVERY = 3600.0


class AccountsService(Service):
    """Keeps accounts while it runs.

    :param directory: where keys are, and the database unless another one is given.
    :param registration: who may register: ``open``, ``invited`` or ``closed``.
    :param relays: URLs of the cloud's relays.
    :param gateways: relays that let browsers in.
    :param limits: how often may be asked.
    :raises ConfigurationError: if a key cannot be read or made.
    :ivar access: decides who may connect.
    :ivar store: the store.
    :ivar events: tells browsers what happens.
    :ivar recorder: writes down what happens to systems.
    """

    _log = Logger(namespace="dwcloud.accounts")

    def __init__(
        self,
        reactor: Any,
        directory: AccountsDirectory,
        *,
        database: Database | None = None,
        registration: str = OPEN,
        relays: tuple[str, ...] = (),
        gateways: tuple[WebGateway, ...] = (),
        limits: Limits | None = None,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self._registration = registration
        self._relays = relays
        self._gateways = gateways
        self._limits = limits or Limits()
        self._database: Database = database or SQLiteDatabase(
            reactor, reactor.seconds, directory.database
        )
        self._seal = directory.seal()
        self._threads = PasswordThreads(reactor)
        self._passwords = Passwords(self._threads)
        self._lock: int | None = None
        self._tidying = LoopingCall(self._tidy)
        self._tidying.clock = reactor
        self.store = Store(self._database)
        self.events = EventBus(reactor)
        self.recorder = Recorder(reactor, self.store)
        self.access = AccessTable(directory.cloud_key(), reactor.seconds, os.urandom)
        self.store.on_change += [self.access.apply, self.events.access_changed]

    def application(self, presence: Presence) -> AccountsAPI:
        """Return the API.

        :param presence: tells which servers are online.
        """
        return AccountsAPI(
            Services(
                store=self.store,
                passwords=self._passwords,
                seal=self._seal,
                access=self.access,
                clock=self._reactor.seconds,
                events=self.events,
                operator_hash=hash_secret(self._directory.operator_key()),
                presence=presence,
                limits=self._limits,
                registration=self._registration,
                relays=self._relays,
                gateways=self._gateways,
            )
        )

    def startService(self) -> None:
        """Open the database; this waits, before the reactor runs.

        :raises ConfigurationError: if it cannot be used, or another mediator does.
        """
        lock = self._directory.lock()
        try:
            self._database.open()
            self.access.load_snapshot(self.store.load_access())
            if self._registration == INVITED:
                self._invite_the_first()
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        super().startService()  # type: ignore[no-untyped-call]
        self._threads.start()
        self._tidying.start(_TIDY_EVERY).addErrback(self._untidy)

    def _invite_the_first(self) -> None:
        """Leave an invitation for the first account, which nobody else can invite."""
        code = self._database.run_now(_first_invitation)
        if code is not None:
            path = self._directory.path / "invitation"
            replace_file(path, f"{code}\n".encode())
            self._log.info(
                "the first account registers by the invitation in {path}",
                path=str(path),
            )

    def _tidy(self) -> Deferred[None]:
        return self.store.run(_forget)

    def _untidy(self, failure: Failure) -> None:
        self._log.failure("old entries could not be removed", failure)

    @inlineCallbacks
    def stopService(self) -> Any:
        """Finish what has been begun, and close the database."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._tidying.running:
            self._tidying.stop()
        self.events.close()
        yield self.recorder.flush()
        self._threads.stop()
        self._database.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _first_invitation(transaction: Transaction) -> str | None:
    if transaction.one("SELECT 1 FROM accounts LIMIT 1") is not None:
        return None
    return invite_to_register(transaction)


def _forget(transaction: Transaction) -> None:
    forget_old_secrets(transaction)
    forget_old_entries(transaction)
