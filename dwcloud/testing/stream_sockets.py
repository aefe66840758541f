"""Simulated TCP sockets: unconnected, listening or connected."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from dwcloud.protocol.addresses import Address

from .packets import Packet, canonical_host, is_ipv6, is_wildcard, system_error
from .sockets import SimulatedSocket
from .streams import State, StreamConnection

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["StreamSocket"]


class StreamSocket(SimulatedSocket):
    """A TCP socket: unconnected, listening or connected."""

    def __init__(
        self, host: Host, family: int, connection: StreamConnection | None = None
    ) -> None:
        super().__init__(host, family)
        self._connection = connection
        self._backlog: int | None = None
        self._half_open: list[StreamConnection] = []
        self._accepted: deque[StreamSocket] = deque()
        self._linger_reset = False
        if connection is not None:
            self.local = connection.local

    # The system's interface

    def bind(self, address: tuple[object, ...]) -> None:
        """Take an address and a port; port 0 for any free one."""
        self._bind_in(self._host.stream_ports, address)

    def listen(self, backlog: int) -> None:
        """Let connections in; so many may wait to be accepted."""
        self._backlog = max(1, backlog)

    def accept(self) -> tuple[StreamSocket, tuple[object, ...]]:
        """Return the next connection that waits, and its remote address."""
        if not self._accepted:
            raise system_error(errno.EWOULDBLOCK)
        accepted = self._accepted.popleft()
        return accepted, accepted.getpeername()

    def connect_ex(self, address: tuple[object, ...]) -> int:
        """Begin to connect; return an error number."""
        if self._connection is not None:
            connected = self._connection.state is not State.SYN_SENT
            return errno.EISCONN if connected else errno.EALREADY
        host, port = canonical_host(str(address[0])), address[1]
        assert isinstance(port, int)
        try:
            source = self.local.host
            if is_wildcard(source):
                source = self._host.source_for(host)
            else:
                self._host.route_or_local(host, source)
            if not self.local.port:
                self.local = Address(source, self._host.stream_ports.free_port())
                self._host.stream_ports.add(self)
            self._connection = StreamConnection(
                self._host,
                Address(source, self.local.port),
                Address(host, port),
                self._changed,
            )
            self._host.add_connection(self._connection)
        except OSError as error:
            self._connection = None
            return error.errno or errno.EIO
        self._connection.open()
        return errno.EINPROGRESS

    def send(self, data: bytes | memoryview) -> int:
        """Take octets to be sent; return how many there was room for."""
        connection = self._connected()
        if connection.error or connection.is_shut_down:
            raise system_error(errno.EPIPE)
        if not connection.room:
            raise system_error(errno.EWOULDBLOCK)
        return connection.write(bytes(data))

    def recv(self, size: int) -> bytes:
        """Return received octets; none at the end of the stream."""
        connection = self._connected()
        data = connection.read(size)
        if data or connection.end_received:
            return data
        raise system_error(connection.error or errno.EWOULDBLOCK)

    def shutdown(self, how: int) -> None:
        """End the sending direction; the receiving one goes on until closed."""
        connection = self._connected()
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            connection.shut_down()

    def close(self) -> None:
        """Let go of the connection, the listener or the port."""
        super().close()
        self._backlog = None
        self._host.stream_ports.discard(self)
        for waiting in self._accepted:
            waiting._linger_reset = True
            waiting.close()
        self._accepted.clear()
        if self._connection is not None:
            self._connection.close(abort=self._linger_reset)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option; SO_LINGER with no time makes closing a reset."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            assert isinstance(value, bytes)
            self._linger_reset = struct.unpack("ii", value) == (1, 0)
            return
        super().setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, buffer_size: int = 0) -> int | bytes:
        """Return an option; the pending error is that of the connection."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR) and (
            self._connection is not None
        ):
            return self._connection.error
        return super().getsockopt(level, option, buffer_size)

    def getsockname(self) -> tuple[object, ...]:
        """Return the local address, that of the connection once there is one."""
        if self._connection is not None:
            return self._as_system(self._connection.local)
        return super().getsockname()

    def getpeername(self) -> tuple[object, ...]:
        """Return the remote address."""
        return self._as_system(self._connected().remote)

    # What the host and the reactor ask

    @property
    def is_listening(self) -> bool:
        """Whether new connections come in here."""
        return self._backlog is not None

    def takes_syn_to(self, host: str) -> bool:
        """Return whether a connection to this local address is for this listener."""
        if self._backlog is None:
            return False
        if is_ipv6(host) != (self.family == socket.AF_INET6):
            return False
        return is_wildcard(self.local.host) or self.local.host == host

    def receive_syn(self, packet: Packet) -> None:
        """Open a connection for a SYN, unless too many wait already."""
        assert self._backlog is not None
        self._half_open = [c for c in self._half_open if c.state is State.SYN_RECEIVED]
        if len(self._accepted) + len(self._half_open) >= self._backlog:
            return
        accepted = StreamSocket(self._host, self.family)
        connection = StreamConnection(
            self._host, packet.destination, packet.source, accepted._changed
        )
        accepted._connection = connection
        accepted.local = connection.local
        self._host.add_connection(connection)
        self._half_open.append(connection)

        def established() -> None:
            if self.is_closed:
                connection.close(abort=True)
                return
            self._accepted.append(accepted)
            self._changed()

        connection.open_passively(established)

    @property
    def readable(self) -> bool:
        """Whether reading, or accepting, would not block."""
        if self._backlog is not None:
            return bool(self._accepted)
        return self._connection is not None and self._connection.readable

    @property
    def writable(self) -> bool:
        """Whether writing would not block."""
        return self._connection is not None and self._connection.writable

    def _connected(self) -> StreamConnection:
        if self._connection is None:
            raise system_error(errno.ENOTCONN)
        return self._connection
