"""One connection of a client on its way."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence

import attrs
from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.logger import Logger

from dwcloud.errors import AllAttemptsFailed, SessionRefused
from dwcloud.net.path import Path
from dwcloud.peer.connect_options import ConnectOptions
from dwcloud.peer.connector import Attempt, CloudConnector
from dwcloud.peer.head_start import HeadStarts
from dwcloud.peer.status import AttemptFailure, ConnectionReport
from dwcloud.protocol.grants.possession import ClientGrant
from dwcloud.protocol.log_ids import log_id
from dwcloud.protocol.mediation.messages import ConnectResponse
from dwcloud.protocol.mediation.parameters import Transport
from dwcloud.protocol.names import PeerName

__all__ = ["ANNOUNCEMENT", "ConnectRequest", "came_too_early"]

ANNOUNCEMENT = 0.5
"""Seconds for the mediator's word to reach a server that knew nothing of a session."""


def came_too_early(error: AllAttemptsFailed) -> bool:
    """Whether a server refused a session that it will perhaps know a moment later.

    A client that does not punch is answered before the server has confirmed.
    """
    return any(reason.check(SessionRefused) for reason in error.reasons.values())


@attrs.define(eq=False)
class ConnectRequest:
    """What is wanted, and what has come of it so far.

    :ivar started: when it began, seconds of the reactor's clock.
    :ivar failures: the paths that failed.
    :ivar begins: whether the service is requested with the first path.
    :ivar session: the last connect session that it took part in.
    :ivar server: which server of the system it is to be, once that is known.
    :ivar introduced: told what the mediator says.
    :ivar grant: what says that this client may connect.
    :ivar grant_problem: why there is none, if nobody could be asked.
    :ivar head_starts: connections to relays that were begun before they are named.
    """

    _log = Logger()

    peer: PeerName
    service: str
    factory: IProtocolFactory
    options: ConnectOptions
    started: float
    failures: list[AttemptFailure] = attrs.field(factory=list)
    begins: bool = True
    session: uuid.UUID | None = None
    server: PeerName | None = None
    introduced: Callable[[ConnectResponse], None] = lambda _: None
    grant: ClientGrant | None = None
    grant_problem: str = ""
    head_starts: HeadStarts = attrs.field(factory=HeadStarts)

    @property
    def encoded_grant(self) -> bytes | None:
        """The grant for the wire, if there is one."""
        return None if self.grant is None else self.grant.encoded

    @property
    def log_id(self) -> str | None:
        """What logs call the session."""
        return None if self.session is None else log_id(self.session)

    def begin(self, path: Path) -> bool:
        """Request the service by a path that is not selected yet."""
        return path.begin(self.service, self.factory)

    def wants(self, *paths: str) -> bool:
        """Whether one of these kinds of path may be used."""
        return self.options.path == "auto" or self.options.path in paths

    def connector(
        self,
        reactor: IReactorTime,
        attempts: Sequence[Attempt],
        timeout: float,
        response: ConnectResponse | None,
        on_better: Callable[[Path], None] | None,
    ) -> CloudConnector:
        """Make a race for it, as its options and the mediator want it.

        :param response: what the mediator says, if it was asked.
        """
        prefer, grace = self.options.prefer, 0.3
        if response is not None:
            preferred = response.parameters.preferred_transport
            if prefer is None and preferred is not Transport.NONE:
                prefer = preferred.name.lower()
            grace = response.parameters.relay_grace
        return CloudConnector(
            reactor,
            attempts,
            peer=str(self.server or self.peer),
            connect_session_id=self.log_id,
            prefer=prefer,
            relay_grace=grace,
            timeout=timeout,
            begin=self.begin if self.begins else None,
            on_better=on_better,
        )

    def report(
        self, path: Path | None, error: str | None, *, now: float
    ) -> ConnectionReport:
        """How it went.

        :param path: what was found.
        :param error: why nothing was.
        """
        server = self.server or self.peer if path is None else path.server
        return ConnectionReport(
            event="connected" if error is None else "failed",
            peer=str(server),
            service=self.service,
            path=None if path is None else path.kind,
            remote_address=None if path is None else path.remote_address,
            connect_seconds=now - self.started,
            failures=tuple(self.failures),
            connect_session_id=self.log_id,
            error=error,
            method=None if path is None else path.method or None,
        )

    def log_end(self, report: ConnectionReport) -> None:
        """Write into the log how it went; ``dwcloud trace`` reads it."""
        start = "session {connect_session_id}: "
        if report.connect_session_id is None:
            start = "{peer}: "
        text = "connected by {path} to {remote_address} after {seconds:.3f} s"
        if report.error is not None:
            text = "failed after {seconds:.3f} s: {error}"
        self._log.info(
            start + text,
            connect_session_id=report.connect_session_id,
            peer=report.peer,
            service=report.service,
            path=None if report.path is None else report.path.value,
            remote_address=report.remote_address,
            seconds=report.connect_seconds,
            error=report.error,
        )
