"""Twisted's own TCP and UDP transports over simulated sockets.

Only where a socket comes from differs; buffering, producers, closing, half-closing,
aborting and the errors reported are those of the real reactors, because it is their
code that runs.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import tcp, udp

from .datagram_sockets import DatagramSocket
from .stream_sockets import StreamSocket

if TYPE_CHECKING:
    from .reactor import HostReactor

__all__ = [
    "SimulatedClient",
    "SimulatedConnector",
    "SimulatedMulticastPort",
    "SimulatedTCPPort",
    "SimulatedUDPPort",
]


class SimulatedClient(tcp.Client):
    """The transport of an outgoing TCP connection."""

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of the simulated host."""
        # The reactor is not set yet when Twisted asks for the socket.
        reactor = self.connector.reactor
        skt = StreamSocket(reactor.host, self.addressFamily)
        return cast(socket.socket, skt)


class SimulatedConnector(tcp.Connector):
    """Drives an outgoing TCP connection."""

    def _makeTransport(self) -> tcp.Client:
        return SimulatedClient(  # type: ignore[no-untyped-call]
            self.host, self.port, self.bindAddress, self, self.reactor
        )


class SimulatedTCPPort(tcp.Port):
    """A listening TCP port."""

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of the simulated host with the options asked for."""
        skt = StreamSocket(_host_reactor(self.reactor).host, self.addressFamily)
        _set_reuse(skt, self)
        return cast(socket.socket, skt)


class SimulatedUDPPort(udp.Port):
    """A UDP port."""

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of the simulated host."""
        skt = DatagramSocket(_host_reactor(self.reactor).host, self.addressFamily)
        return cast(socket.socket, skt)


class SimulatedMulticastPort(udp.MulticastPort):
    """A UDP port that can join groups."""

    def createInternetSocket(self) -> socket.socket:
        """Return a socket of the simulated host, shared if that was asked for."""
        skt = DatagramSocket(_host_reactor(self.reactor).host, self.addressFamily)
        if self.listenMultiple:
            _share(skt)
        return cast(socket.socket, skt)


def _host_reactor(reactor: Any) -> HostReactor:
    return cast("HostReactor", reactor)


def _set_reuse(skt: StreamSocket, port: Any) -> None:
    if port._reuseAddress:
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port._reusePort:
        skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _share(skt: DatagramSocket) -> None:
    skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    skt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
