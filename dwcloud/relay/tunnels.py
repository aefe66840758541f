"""One joined pair of a server's and a client's connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from dwcloud.net.liveness import watch_busy_connection
from dwcloud.net.pump import PumpEnd, join

__all__ = ["Tunnel", "TunnelEnd"]

_LINGER = 120.0  # seconds for one side to read what is left when the other has gone
_HALF_CLOSED_SILENCE = 600.0  # seconds without a byte while one direction has ended


class TunnelEnd(PumpEnd):
    """One of the two connections of a tunnel."""

    def __init__(self, tunnel: Tunnel) -> None:
        super().__init__()
        self._tunnel = tunnel
        self.connected_once = False

    def connectionMade(self) -> None:
        """Wait for the other one, or begin."""
        super().connectionMade()
        self.connected_once = True
        watch_busy_connection(self.transport)
        self._tunnel.end_connected()

    def readConnectionLost(self) -> None:
        """One direction has ended."""
        super().readConnectionLost()
        self._tunnel.direction_ended()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """This connection has ended, the other one follows."""
        super().connectionLost(reason)
        self._tunnel.end_lost(reason)

    def abort(self) -> None:
        """Break the connection, if it is there."""
        if self.connected_once and self.lost is None:
            cast(Any, self.transport).abortConnection()


class Tunnel:
    """Two ends that are to be joined when both are connected.

    :param ended: called with the tunnel when both connections are gone.
    :ivar reason: why the first connection ended, for the log.
    :ivar connect_session: what logs call the client's connect session.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        session_id: str,
        ended: Callable[[Tunnel], None],
    ) -> None:
        self.session_id = session_id
        self.began = reactor.seconds()
        self.reason = ""
        self.connect_session = ""
        self.server_end = TunnelEnd(self)
        self.client_end = TunnelEnd(self)
        self._reactor = reactor
        self._ended = ended
        self._limit: IDelayedCall | None = None

    @property
    def bytes_to_server(self) -> int:
        """How much came from the client."""
        return self.client_end.bytes_received

    @property
    def bytes_to_client(self) -> int:
        """How much came from the server."""
        return self.server_end.bytes_received

    @property
    def spliced(self) -> bool:
        """Whether the kernel passes the bytes on in both directions."""
        return self.client_end.spliced and self.server_end.spliced

    def end_connected(self) -> None:
        """One end is there: join when it was the second."""
        if self.server_end.connected_once and self.client_end.connected_once:
            join(self.server_end, self.client_end)

    def direction_ended(self) -> None:
        """Watch over a tunnel of which one direction has ended.

        Nothing is read there any more, so the loss of that side would stay unnoticed.
        """
        if self._limit is None:
            self._set_limit(_HALF_CLOSED_SILENCE, self._check_silence, self._carried())

    def end_lost(self, reason: Failure) -> None:
        """One end is gone: the other has some time to read what is left."""
        self.reason = self.reason or reason.getErrorMessage()
        self._cancel_limit()
        ends = (self.server_end, self.client_end)
        if all(end.lost is not None for end in ends):
            self._ended(self)
        else:
            self._set_limit(_LINGER, self.abort)

    def abort(self) -> None:
        """Break both connections."""
        self._cancel_limit()
        self.server_end.abort()
        self.client_end.abort()

    def _carried(self) -> int:
        return self.bytes_to_client + self.bytes_to_server

    def _check_silence(self, carried: int) -> None:
        if self._carried() == carried:
            self.abort()
        else:
            self._limit = None
            self.direction_ended()

    def _set_limit(
        self, delay: float, function: Callable[..., None], *args: object
    ) -> None:
        self._limit = self._reactor.callLater(delay, function, *args)

    def _cancel_limit(self) -> None:
        if self._limit is not None and self._limit.active():
            self._limit.cancel()
        self._limit = None
