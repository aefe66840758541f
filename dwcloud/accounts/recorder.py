"""What a mediator sees of systems, written to the store once a second."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.accounts.audit import record
from dwcloud.accounts.store import Store
from dwcloud.accounts.systems import note_server
from dwcloud.accounts.transactions import Transaction

__all__ = ["Connection", "Recorder"]

_DELAY = 1.0
_MOST = 5_000


@attrs.frozen
class Connection:
    """How an introduction of a client to a system ended.

    :ivar session: what logs of all sides call the connect session.
    :ivar server: the one that was chosen, None if there was none.
    :ivar who: the account, empty for a public system's guest.
    :ivar client: what the client calls itself.
    :ivar outcome: ``ok``, or the reason of the failure.
    :ivar path: kind of path, empty without one.
    :ivar seconds: from the request to the verified path, None if not told.
    :ivar address: the IP address that the client asked from.
    """

    session: uuid.UUID
    system: uuid.UUID
    server: uuid.UUID | None
    account: uuid.UUID | None
    who: str
    client: str
    outcome: str
    path: str = ""
    seconds: float | None = None
    address: str = ""


class Recorder:
    """Collects what happens, so that a thousand events are one transaction.

    What comes faster than can be written is dropped, the newest first.

    :ivar dropped: how much was.
    """

    _log = Logger()

    def __init__(self, reactor: IReactorTime, store: Store) -> None:
        self.dropped = 0
        self._reactor = reactor
        self._store = store
        self._servers: dict[tuple[uuid.UUID, uuid.UUID], None] = {}
        self._connections: list[Connection] = []
        self._timer: IDelayedCall | None = None
        self._writing: Deferred[None] | None = None

    def server_seen(self, system: uuid.UUID, server: uuid.UUID) -> None:
        """A server is, or was until now, online."""
        if len(self._servers) >= _MOST:
            self.dropped += 1
            return
        self._servers[system, server] = None
        self._arm()

    def connection(self, connection: Connection) -> None:
        """An introduction ended."""
        if len(self._connections) >= _MOST:
            self.dropped += 1
            return
        self._connections.append(connection)
        self._arm()

    def _arm(self) -> None:
        if self._timer is None and self._writing is None:
            self._timer = self._reactor.callLater(_DELAY, self._due)

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def flush(self) -> Deferred[None]:
        """Write what has come so far; fires when that is done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        servers, self._servers = list(self._servers), {}
        connections, self._connections = self._connections, []
        if not (servers or connections):
            return succeed(None)
        writing = self._store.run(_write, servers, connections)
        self._writing = writing
        writing.addErrback(self._failed).addBoth(self._written)
        return writing

    def _failed(self, failure: Failure) -> None:
        self._log.failure("what happened to systems could not be written", failure)

    def _written(self, result: None) -> None:
        self._writing = None
        if self._servers or self._connections:
            self._arm()


def _write(
    transaction: Transaction,
    servers: Sequence[tuple[uuid.UUID, uuid.UUID]],
    connections: Sequence[Connection],
) -> None:
    for system, server in servers:
        note_server(transaction, system, server)
    for made in connections:
        record(
            transaction,
            "connection",
            outcome=made.outcome,
            account=made.account,
            who=made.who,
            system=made.system,
            detail={
                "session": str(made.session),
                "server": None if made.server is None else str(made.server),
                "client": made.client[:200],
                "path": made.path,
                "seconds": made.seconds,
            },
            address=made.address,
        )
