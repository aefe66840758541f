"""A server's connection that ends in this process, where a browser's requests are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.internet.protocol import Factory
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure

from dwcloud.net.liveness import watch_busy_connection
from dwcloud.relay.gateway.statistics import GatewayStatistics

__all__ = ["InnerTunnel"]


class _ServerEnd(ProtocolWrapper):
    """Passes on and counts."""

    def __init__(self, tunnel: InnerTunnel, protocol: IProtocol) -> None:
        # There is no listener whose connections are to be counted.
        factory: WrappingFactory[_ServerEnd] = WrappingFactory(Factory())
        super().__init__(factory, protocol)
        self._tunnel = tunnel

    def connectionMade(self) -> None:
        """The server's connection belongs to the protocol from now on."""
        self._tunnel.statistics.streams += 1
        watch_busy_connection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Pass on."""
        self._tunnel.count(to_client=len(data))
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def write(self, data: bytes) -> None:
        """Pass on."""
        self._tunnel.count(to_server=len(data))
        super().write(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The server's connection has ended."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self._tunnel.end_lost(reason)


class InnerTunnel:
    """Stands where a :class:`~dwcloud.relay.tunnels.Tunnel` does.

    :param protocol: gets the server's connection.
    :param statistics: of the gateway.
    :param ended: called with the tunnel when the connection is gone.
    :ivar reason: why it ended, for the log.
    :ivar connect_session: what logs call the session.
    :ivar bytes_to_server: as they go, encrypted.
    :ivar bytes_to_client: as they come, encrypted.
    """

    spliced = False

    def __init__(
        self,
        reactor: IReactorTime,
        session_id: str,
        ended: Callable[[Any], None],
        protocol: IProtocol,
        statistics: GatewayStatistics,
    ) -> None:
        self.statistics = statistics
        self.session_id = session_id
        self.began = reactor.seconds()
        self.reason = ""
        self.connect_session = ""
        self.bytes_to_server = 0
        self.bytes_to_client = 0
        self._ended = ended
        self.server_end = _ServerEnd(self, protocol)
        self.client_end = self

    def count(self, *, to_server: int = 0, to_client: int = 0) -> None:
        """Count bytes, for this tunnel and for all."""
        self.bytes_to_server += to_server
        self.bytes_to_client += to_client
        self.statistics.bytes_to_server += to_server
        self.statistics.bytes_to_client += to_client

    def end_lost(self, reason: Failure) -> None:
        """The server's connection is gone."""
        self.statistics.streams -= 1
        self.reason = reason.getErrorMessage()
        self._ended(self)

    def abort(self) -> None:
        """Break the connection, if it is there."""
        if self.server_end.transport is not None:
            cast(Any, self.server_end.transport).abortConnection()
