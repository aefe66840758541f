"""What carries datagrams for us: the interface, and the form every reactor offers.

There are three implementations: :class:`PlainUDPPort` here, on ``reactor.listenUDP``,
:class:`dwcloud.net.udp_direct.DirectUDPPort` on a descriptor of its own, and
:class:`dwcloud.net.udp_batch.BatchedUDPPort`, which uses the segmentation of the Linux
kernel. Callers cannot tell them apart except by speed.

A lost datagram is the normal case of UDP. Whatever the operating system answers to
a send is therefore loss: it is counted and never raised.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import attrs
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import (
    ConnectionDone,
    InvalidAddressError,
    MessageLengthError,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from dwcloud.net.udp_joining import MAX_DATAGRAM, DatagramJoiner

__all__ = [
    "DatagramPort",
    "DatagramReceiver",
    "PlainUDPPort",
    "UDPStatistics",
    "enlarge_buffers",
    "segments",
    "time_to_live",
]

_SOCKET_BUFFER = 4 * 1024 * 1024
"""Bytes asked of the kernel for each direction: 30 ms at 1 Gbit/s."""


@attrs.define
class UDPStatistics:
    """Counters of one UDP port.

    :ivar datagrams_sent: datagrams the operating system accepted.
    :ivar bytes_sent: their UDP payload, in bytes.
    :ivar datagrams_received: datagrams received, whatever they held.
    :ivar bytes_received: their UDP payload, in bytes.
    :ivar datagrams_lost: datagrams the operating system refused to send.
    :ivar last_loss: what it said when it last refused one.
    """

    datagrams_sent: int = 0
    bytes_sent: int = 0
    datagrams_received: int = 0
    bytes_received: int = 0
    datagrams_lost: int = 0
    last_loss: str = ""


class DatagramReceiver(Protocol):
    """Takes what a port receives."""

    def datagrams_received(
        self,
        data: bytes | memoryview,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """Take one datagram, or several of ``segment_size`` bytes back to back.

        Of several the last may be shorter. The memory is lent: it may change when the
        call is over.
        """

    def batch_ended(self) -> None:
        """Note that for now nothing more is waiting in the socket."""

    def port_closed(self, reason: Failure) -> None:
        """Note that the port is gone; called once, and before its socket closes
        where the reactor allows that."""


class DatagramPort(Protocol):
    """One bound UDP socket."""

    statistics: UDPStatistics

    def start(self) -> None:
        """Bind and begin to receive.

        :raises twisted.internet.error.CannotListenError: the address is not free.
        """

    def stop(self) -> Deferred[None]:
        """Close the socket; fires when it is closed."""

    def local_address(self) -> tuple[str, int]:
        """Return the IP address and port bound; the address may be the wildcard."""

    def send(
        self,
        data: bytes | bytearray,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """Send one datagram, or ``data`` cut into pieces of ``segment_size`` bytes."""

    def send_nearby(self, data: bytes, address: tuple[str, int], ttl: int) -> None:
        """Send one datagram that the router number ``ttl`` on its way drops."""


def segments(
    data: bytes | memoryview, segment_size: int | None
) -> Iterator[bytes | memoryview]:
    """Yield the datagrams of a batch one by one."""
    if segment_size is None or len(data) <= segment_size:
        yield data
        return
    for start in range(0, len(data), segment_size):
        yield data[start : start + segment_size]


def enlarge_buffers(handle: socket.socket) -> None:
    """Ask for socket buffers that hold what comes while Python is busy elsewhere.

    The system grants what its administrator allows (socket(7), rmem_max).
    """
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        handle.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)


@contextlib.contextmanager
def time_to_live(handle: socket.socket, ttl: int) -> Iterator[None]:
    """Let what a socket sends be passed on by ``ttl`` - 1 routers at most.

    :raises OSError: the operating system refuses that.
    """
    level, option = socket.IPPROTO_IP, socket.IP_TTL
    if handle.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS
    usual = handle.getsockopt(level, option)
    handle.setsockopt(level, option, ttl)
    try:
        yield
    finally:
        handle.setsockopt(level, option, usual)


class PlainUDPPort(DatagramProtocol):
    """A port on ``reactor.listenUDP``: one datagram a call, on every platform.

    :param only_ipv6: says that ``::`` is to leave IPv4 alone. Windows, the one system
        with this kind of port alone, does so always.
    :ivar statistics: what went through, :class:`UDPStatistics`.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        receiver: DatagramReceiver,
        *,
        interface: str,
        port: int,
        only_ipv6: bool = False,
    ) -> None:
        self.statistics = UDPStatistics()
        self._reactor = reactor
        self._receiver = receiver
        self._interface = interface
        self._port_number = port
        self._local = (interface or "0.0.0.0", port)
        self._port: Any = None
        self._batch_end: Any = None
        self._send_one: Callable[[bytes | memoryview, tuple[str, int]], object]
        self._send_one = self._write
        self._joiner = DatagramJoiner(receiver)
        self._announced_closing = False

    def __repr__(self) -> str:
        return f"<PlainUDPPort {self._local[0]}:{self._local[1]}>"

    def start(self) -> None:
        """See :meth:`DatagramPort.start`."""
        self._port = self._reactor.listenUDP(
            self._port_number,
            self,
            interface=self._interface,
            maxPacketSize=MAX_DATAGRAM,
        )
        if isinstance(self._port, Port):
            handle = self._port.getHandle()
            enlarge_buffers(handle)
            # Addresses here are numeric always: Twisted need not look at each again.
            self._send_one = handle.sendto
        host = self._port.getHost()
        self._local = (host.host, host.port)

    def stop(self) -> Deferred[None]:
        """See :meth:`DatagramPort.stop`."""
        self._announce_closing(Failure(ConnectionDone()))
        stopped: Deferred[None] = maybeDeferred(self._port.stopListening)
        return stopped

    def local_address(self) -> tuple[str, int]:
        """See :meth:`DatagramPort.local_address`."""
        return self._local

    def send(
        self,
        data: bytes | bytearray,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """See :meth:`DatagramPort.send`."""
        statistics, send = self.statistics, self._send_one
        for datagram in segments(memoryview(data), segment_size):
            try:
                send(datagram, address)
            except (OSError, InvalidAddressError, MessageLengthError) as error:
                statistics.datagrams_lost += 1
                statistics.last_loss = str(error)
            else:
                statistics.datagrams_sent += 1
                statistics.bytes_sent += len(datagram)

    def send_nearby(self, data: bytes, address: tuple[str, int], ttl: int) -> None:
        """See :meth:`DatagramPort.send_nearby`."""
        try:
            if self._announced_closing or not isinstance(self._port, Port):
                raise OSError("there is no socket")
            with time_to_live(self._port.getHandle(), ttl):
                self.send(data, None, address)
        except OSError as error:
            self.statistics.datagrams_lost += 1
            self.statistics.last_loss = str(error)

    def _write(self, datagram: bytes | memoryview, address: tuple[str, int]) -> None:
        """Send by the transport; instances with a socket send by that."""
        if self.transport is None:
            raise OSError("the port is closed")
        self.transport.write(bytes(datagram), address)

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Pass a datagram on, and the end of the batch at the end of this turn."""
        self.statistics.datagrams_received += 1
        self.statistics.bytes_received += len(datagram)
        if self._batch_end is None:
            self._batch_end = self._reactor.callLater(0, self._end_batch)
        self._joiner.take(datagram, addr[:2])

    def _end_batch(self) -> None:
        self._batch_end = None
        self._joiner.flush()
        self._receiver.batch_ended()

    def stopProtocol(self) -> None:
        """Note that Twisted closed the socket."""
        self._announce_closing(Failure(ConnectionDone()))

    def _announce_closing(self, reason: Failure) -> None:
        if self._batch_end is not None:
            self._batch_end.cancel()
            self._batch_end = None
        if not self._announced_closing:
            self._announced_closing = True
            self._joiner.flush()
            self._receiver.port_closed(reason)
            self._send_one = self._write
