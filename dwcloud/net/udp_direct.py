"""UDP on a descriptor of our own: as on every system, without Twisted's layers.

Twisted's own UDP port makes a new object of each datagram and looks at each address
again; here datagrams are received into one lasting buffer, and handed on many at a
time.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IReactorFDSet, IReactorSocket, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from dwcloud.net.freed_memory import keep_freed_memory
from dwcloud.net.udp_companions import Companions
from dwcloud.net.udp_joining import DatagramCollector
from dwcloud.net.udp_port import (
    DatagramReceiver,
    UDPStatistics,
    enlarge_buffers,
    time_to_live,
)

__all__ = ["CLOSED", "DirectUDPPort", "descriptors_available"]

CLOSED = OSError(errno.EBADF, "the port is closed")
"""Why a closed port loses what it is to send."""

_BULK = 16
"""Datagrams of a batch that tell a peer to whom much is sent."""

_CALLS_PER_TURN = 256
_BYTES_PER_TURN = 1 << 20
"""What is received before other descriptors and timers have their turn."""


def descriptors_available(reactor: Any) -> bool:
    """Tell whether :class:`DirectUDPPort` works on this reactor.

    A reactor that adopts sockets (IReactorSocket) has descriptors of the kernel; a
    simulated one has readers as well, but no kernel below them.
    """
    return IReactorFDSet.providedBy(reactor) and IReactorSocket.providedBy(reactor)


@implementer(IReadDescriptor)
class DirectUDPPort:
    """A UDP socket that the reactor watches.

    :param only_ipv6: whether a socket bound to ``::`` leaves IPv4 to another one with
        the same port number; else it is what the system makes of it.
    :param make_socket: called with an address family and SOCK_DGRAM.
    :ivar statistics: what went through, :class:`~dwcloud.net.udp_port.UDPStatistics`.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        receiver: DatagramReceiver,
        *,
        interface: str,
        port: int,
        only_ipv6: bool = False,
        make_socket: Callable[[int, int], socket.socket] = socket.socket,
    ) -> None:
        self.statistics = UDPStatistics()
        self._reactor = reactor
        self._only_ipv6 = only_ipv6
        self._receiver = receiver
        self._collector = DatagramCollector(receiver)
        self._interface = interface
        self._port_number = port
        self._make_socket = make_socket
        self._socket: socket.socket | None = None
        self._companions = Companions(
            reactor, make_socket, self._set_up, self._read_from
        )
        self._local: tuple[str, int] = (interface or "0.0.0.0", port)
        self._family = socket.AF_INET6 if ":" in interface else socket.AF_INET

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._local[0]}:{self._local[1]}>"

    def start(self) -> None:
        """See :meth:`dwcloud.net.udp_port.DatagramPort.start`."""
        try:
            opened = self._make_socket(self._family, socket.SOCK_DGRAM)
        except OSError as error:
            # A kernel without IPv6.
            raise CannotListenError(self._interface, self._port_number, error) from None
        try:
            opened.setblocking(False)
            self._set_up(opened)
            opened.bind((self._interface, self._port_number))
        except OSError as error:
            opened.close()
            raise CannotListenError(self._interface, self._port_number, error) from None
        keep_freed_memory()
        self._socket = opened
        self._local = opened.getsockname()[:2]
        self._reactor.addReader(self)

    def _set_up(self, opened: socket.socket) -> None:
        if self._only_ipv6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._prepare(opened)
        enlarge_buffers(opened)

    def _prepare(self, opened: socket.socket) -> None:
        """Set the options of a new socket; there are none here."""

    def stop(self) -> Deferred[None]:
        """See :meth:`dwcloud.net.udp_port.DatagramPort.stop`."""
        self.connectionLost(Failure(ConnectionDone()))
        return succeed(None)

    def local_address(self) -> tuple[str, int]:
        """See :meth:`dwcloud.net.udp_port.DatagramPort.local_address`."""
        return self._local

    def send(
        self,
        data: bytes | bytearray,
        segment_size: int | None,
        address: tuple[str, int],
    ) -> None:
        """See :meth:`dwcloud.net.udp_port.DatagramPort.send`."""
        if segment_size is None or len(data) <= segment_size:
            self._send_one(data, address)
        else:
            self._send_singly(data, segment_size, address)

    def send_nearby(self, data: bytes, address: tuple[str, int], ttl: int) -> None:
        """See :meth:`dwcloud.net.udp_port.DatagramPort.send_nearby`."""
        try:
            if self._socket is None:
                raise CLOSED
            with time_to_live(self._socket, ttl):
                self._send_one(data, address)
        except OSError as error:
            self._lost(1, error)

    def _send_singly(
        self,
        data: bytes | bytearray | memoryview,
        segment_size: int,
        address: tuple[str, int],
    ) -> None:
        count, size = -(-len(data) // segment_size), len(data)
        if self._socket is None:
            self._lost(count, CLOSED)
            return
        send, view = self._sender(count, address), memoryview(data)
        # Each statement here is one for every packet.
        for start in range(0, size, segment_size):
            try:
                send(view[start : start + segment_size])
            except OSError as error:
                self._lost(1, error)
                count -= 1
                size -= min(segment_size, len(data) - start)
        self._sent(count, size)

    def _sender(
        self, count: int, address: tuple[str, int]
    ) -> Callable[[memoryview], int]:
        """Return what sends one datagram to ``address``."""
        assert self._socket is not None
        own = self._socket
        if count >= _BULK:
            connected = self._companions.connected_to(address, own)
            if connected is not None:
                return connected.send
        return lambda datagram: own.sendto(datagram, address)

    def _send_one(
        self, data: bytes | bytearray | memoryview, address: tuple[str, int]
    ) -> None:
        if self._socket is None:
            self._lost(1, CLOSED)
            return
        try:
            self._socket.sendto(data, address)
        except OSError as error:
            self._lost(1, error)
        else:
            self._sent(1, len(data))

    def _sent(self, count: int, size: int) -> None:
        self.statistics.datagrams_sent += count
        self.statistics.bytes_sent += size

    def _lost(self, count: int, reason: OSError) -> None:
        self.statistics.datagrams_lost += count
        self.statistics.last_loss = str(reason)

    def fileno(self) -> int:
        """Return the descriptor for the reactor, -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Return what stands before a line logged while this port has its turn."""
        return f"UDP {self._local[1]}"

    def doRead(self) -> None:
        """Receive what is waiting, a bounded number of calls at a time."""
        if self._socket is not None:
            self._read_from(self._socket)

    def _read_from(self, opened: socket.socket) -> None:
        statistics, collector = self.statistics, self._collector
        enough = statistics.bytes_received + _BYTES_PER_TURN
        for _ in range(_CALLS_PER_TURN):
            if self._socket is None:
                return
            try:
                size, segment_size, address = self._receive(opened)
            except OSError:
                # Nothing waiting, or the late answer to an earlier send.
                break
            if size:
                statistics.datagrams_received += -(-size // segment_size)
                statistics.bytes_received += size
                collector.received(size, segment_size, address)
                if statistics.bytes_received >= enough:
                    break
            else:
                statistics.datagrams_received += 1
        collector.flush()
        self._receiver.batch_ended()

    def _receive(self, opened: socket.socket) -> tuple[int, int, tuple[str, int]]:
        """Receive into the collector: bytes, bytes of each datagram, and the source.

        :raises OSError: when nothing waits.
        """
        size, address = opened.recvfrom_into(self._collector.room)
        return size, size, address[:2]

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket: on our own wish, or because the reactor stops."""
        if self._socket is None:
            return
        self._receiver.port_closed(reason)
        self._reactor.removeReader(self)
        self._companions.close()
        closing, self._socket = self._socket, None
        closing.close()
