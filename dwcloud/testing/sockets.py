"""Simulated sockets: what Twisted's own transports use in place of the system's.

They have the methods of :class:`socket.socket` that those transports call, raise the
same errors and never block.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from dwcloud.protocol.addresses import Address

from .network import Interface
from .packets import (
    TCP,
    UDP,
    Packet,
    canonical_host,
    is_broadcast,
    is_ipv6,
    is_multicast,
    is_wildcard,
    system_error,
)
from .streams import State, StreamConnection

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["DatagramSocket", "PortTable", "SimulatedSocket", "StreamSocket"]

#: Ports given to sockets that ask for any (RFC 6335, section 6).
EPHEMERAL_PORTS = range(49152, 65536)
#: The largest UDP payload in IPv4, octets.
LARGEST_DATAGRAM = 65507
#: Octets of datagrams a socket keeps for its reader (Linux: net.core.rmem_default).
RECEIVE_BUFFER = 212992


class SimulatedSocket:
    """What UDP and TCP sockets have in common.

    :ivar local: the address and port it is bound to; the port is 0 if it is not.
    """

    def __init__(self, host: Host, family: int) -> None:
        self._host = host
        self._descriptor = host.world.next_number()
        self._options: dict[tuple[int, int], int] = {}
        self._pending_error = 0
        self.family = family
        self.local = Address("::" if family == socket.AF_INET6 else "0.0.0.0", 0)
        self.is_closed = False
        host.reactor.socket_opened(self)

    def fileno(self) -> int:
        """Return a number unique in this world; it is no file of this process."""
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        """Do nothing: these sockets never block."""

    def getsockname(self) -> tuple[object, ...]:
        """Return the local address as the system would: four items in IPv6."""
        return self._as_system(self.local)

    def _as_system(self, address: Address) -> tuple[object, ...]:
        if self.family == socket.AF_INET6:
            return (*address, 0, 0)
        return tuple(address)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option; those without an effect here are only remembered."""
        if isinstance(value, bytes):
            value = int.from_bytes(value, "little")
        self._options[level, option] = value

    def getsockopt(self, level: int, option: int, buffer_size: int = 0) -> int | bytes:
        """Return an option, 0 if it was never set; the pending error is taken."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            number, self._pending_error = self._pending_error, 0
            return number
        return self._options.get((level, option), 0)

    def _has_option(self, option: int) -> bool:
        return bool(self._options.get((socket.SOL_SOCKET, option)))

    def _to_bind(self, address: tuple[object, ...], protocol: str) -> Address:
        host, port = str(address[0]), address[1]
        assert isinstance(port, int)
        if host and not is_wildcard(host):
            host = canonical_host(host)
            if is_ipv6(host) != (self.family == socket.AF_INET6):
                raise system_error(errno.EAFNOSUPPORT)
        else:
            host = self.local.host
        if not 0 <= port < 65536:
            raise OverflowError("bind(): port must be 0-65535.")
        self._host.check_bindable(host)
        if port == 0:
            machine = self._host
            if protocol == UDP:
                port = machine.datagram_ports.free_port()
            else:
                port = machine.stream_ports.free_port()
        return Address(host, port)

    @property
    def is_listening(self) -> bool:
        """Whether new connections come in here."""
        return False

    def conflicts_with(self, other: SimulatedSocket) -> bool:
        """Return whether both cannot be bound to the same port (Linux's rules)."""
        if self.family != other.family:
            return False
        hosts = self.local.host, other.local.host
        if hosts[0] != hosts[1] and not any(is_wildcard(host) for host in hosts):
            return False
        if all(s._has_option(socket.SO_REUSEPORT) for s in (self, other)):
            return False
        return (
            self.is_listening
            or other.is_listening
            or not all(s._has_option(socket.SO_REUSEADDR) for s in (self, other))
        )

    def _changed(self) -> None:
        self._host.reactor.socket_changed(self)

    @property
    def readable(self) -> bool:
        """Whether reading would not block."""
        return bool(self._pending_error)

    @property
    def writable(self) -> bool:
        """Whether writing would not block."""
        return True


S = TypeVar("S", bound=SimulatedSocket)


class PortTable(Generic[S]):
    """The sockets of one protocol of a host by their ports."""

    def __init__(self) -> None:
        self._sockets: dict[int, list[S]] = {}
        self._next = 0

    def at(self, port: int) -> tuple[S, ...]:
        """Return the sockets bound to ``port``."""
        return tuple(self._sockets.get(port, ()))

    def add(self, socket: S) -> None:
        """Enter a socket; EADDRINUSE if one that it conflicts with is there."""
        if any(socket.conflicts_with(other) for other in self.at(socket.local.port)):
            raise system_error(errno.EADDRINUSE)
        self._sockets.setdefault(socket.local.port, []).append(socket)

    def discard(self, socket: S) -> None:
        """Take a socket out, if it is there."""
        sockets = self._sockets.get(socket.local.port, [])
        if socket in sockets:
            sockets.remove(socket)
            if not sockets:
                del self._sockets[socket.local.port]

    def free_port(self) -> int:
        """Return a port that no socket is bound to; EADDRINUSE if there is none."""
        for _ in EPHEMERAL_PORTS:
            port = EPHEMERAL_PORTS[self._next]
            self._next = (self._next + 1) % len(EPHEMERAL_PORTS)
            if port not in self._sockets:
                return port
        raise system_error(errno.EADDRINUSE)


class DatagramSocket(SimulatedSocket):
    """A UDP socket."""

    def __init__(self, host: Host, family: int) -> None:
        super().__init__(host, family)
        self._remote: Address | None = None
        self._received: deque[tuple[bytes, Address]] = deque()
        self._received_bytes = 0
        self._groups: set[tuple[str, Interface]] = set()
        self._outgoing_interface = ""
        self._loops = True
        self._multicast_ttl = 1

    # The system's interface

    def bind(self, address: tuple[object, ...]) -> None:
        """Take an address and a port; port 0 for any free one."""
        self.local = self._to_bind(address, UDP)
        self._host.datagram_ports.add(self)

    def connect(self, address: tuple[object, ...]) -> None:
        """Talk to one remote address only."""
        host, port = canonical_host(str(address[0])), address[1]
        assert isinstance(port, int)
        if is_wildcard(self.local.host):
            source = self._host.source_for(host)
            self._host.datagram_ports.discard(self)
            self.local = Address(source, self.local.port)
            self._host.datagram_ports.add(self)
        self._remote = Address(host, port)

    def send(self, data: bytes) -> int:
        """Send to the connected address."""
        if self._pending_error:
            number, self._pending_error = self._pending_error, 0
            raise system_error(number)
        if self._remote is None:
            raise system_error(errno.EDESTADDRREQ)
        return self._send_to(data, self._remote)

    def sendto(self, data: bytes, address: tuple[object, ...]) -> int:
        """Send to an address."""
        host, port = str(address[0]), address[1]
        assert isinstance(port, int)
        if host == "<broadcast>":
            host = "255.255.255.255"
        return self._send_to(data, Address(canonical_host(host), port))

    def recvfrom(self, size: int) -> tuple[bytes, tuple[object, ...]]:
        """Return the next datagram, cut to ``size``, and where it came from."""
        if self._pending_error:
            number, self._pending_error = self._pending_error, 0
            raise system_error(number)
        if not self._received:
            raise system_error(errno.EWOULDBLOCK)
        data, address = self._received.popleft()
        self._received_bytes -= len(data)
        return data[:size], self._as_system(address)

    def close(self) -> None:
        """Give the port back."""
        self.is_closed = True
        self._host.reactor.socket_closed(self)
        for group, interface in tuple(self._groups):
            self._leave(group, interface)
        self._received.clear()
        self._host.datagram_ports.discard(self)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set an option; those of multicast have their effect."""
        if level not in (socket.IPPROTO_IP, socket.IPPROTO_IPV6):
            super().setsockopt(level, option, value)
        elif option in (socket.IP_ADD_MEMBERSHIP, socket.IPV6_JOIN_GROUP):
            self._join(*self._membership(value))
        elif option in (socket.IP_DROP_MEMBERSHIP, socket.IPV6_LEAVE_GROUP):
            group, interface = self._membership(value)
            if (group, interface) not in self._groups:
                raise system_error(errno.EADDRNOTAVAIL)
            self._leave(group, interface)
        elif option in (socket.IP_MULTICAST_IF, socket.IPV6_MULTICAST_IF):
            self._set_outgoing_interface(value)
        elif option in (socket.IP_MULTICAST_LOOP, socket.IPV6_MULTICAST_LOOP):
            self._loops = bool(_as_integer(value))
        elif option in (socket.IP_MULTICAST_TTL, socket.IPV6_MULTICAST_HOPS):
            self._multicast_ttl = _as_integer(value)
        else:
            super().setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, buffer_size: int = 0) -> int | bytes:
        """Return an option."""
        if level not in (socket.IPPROTO_IP, socket.IPPROTO_IPV6):
            return super().getsockopt(level, option, buffer_size)
        if option == socket.IP_MULTICAST_IF:
            return socket.inet_aton(self._outgoing_interface or "0.0.0.0")
        if option == socket.IPV6_MULTICAST_IF:
            index = 0
            if self._outgoing_interface:
                chosen = self._host.interface_with(self._outgoing_interface)
                index = 0 if chosen is None else self._host.interfaces.index(chosen) + 1
            return struct.pack("=I", index)
        if option in (socket.IP_MULTICAST_LOOP, socket.IPV6_MULTICAST_LOOP):
            return int(self._loops)
        if option in (socket.IP_MULTICAST_TTL, socket.IPV6_MULTICAST_HOPS):
            return self._multicast_ttl
        return super().getsockopt(level, option, buffer_size)

    # Sending

    def _send_to(self, data: bytes, remote: Address) -> int:
        if len(data) > LARGEST_DATAGRAM:
            raise system_error(errno.EMSGSIZE)
        interface = None
        if is_multicast(remote.host):
            chosen = self._outgoing_interface or self.local.host
            interface = self._host.multicast_interface(chosen)
        elif self._host.is_broadcast(remote.host):
            if not self._has_option(socket.SO_BROADCAST):
                raise system_error(errno.EACCES)
            interface = self._host.broadcast_interface(remote.host)
        packet = self._host.world.new_packet(
            self._host, UDP, self._source(remote.host, interface), remote, bytes(data)
        )
        if self._remote is not None:
            packet.on_unreachable = self._unreachable
        if interface is None:
            self._host.send(packet)
            return len(data)
        if self._loops or is_broadcast(remote.host):
            self._host.loop_back(packet, interface)
        if self._multicast_ttl or not is_multicast(remote.host):
            self._host.send(packet, interface)
        return len(data)

    def _source(self, host: str, interface: Interface | None) -> Address:
        if not is_wildcard(self.local.host) and not is_multicast(self.local.host):
            return self.local
        if interface is None:
            return Address(self._host.source_for(host), self.local.port)
        source = self._outgoing_interface or interface.default_address(host)
        return Address(source or self.local.host, self.local.port)

    def _unreachable(self, number: int) -> None:
        if not self.is_closed:
            self._pending_error = number
            self._changed()

    # Receiving

    def match(self, packet: Packet) -> int:
        """Return how well the packet fits this socket; 0 if it is not for it."""
        if is_ipv6(packet.destination.host) != (self.family == socket.AF_INET6):
            return 0
        if self._remote is not None and packet.source != self._remote:
            return 0
        if self.local.host == packet.destination.host:
            return 2 + (self._remote is not None)
        return int(is_wildcard(self.local.host))

    def takes_group(self, group: str, interface: Interface | None) -> bool:
        """Return whether multicasts or broadcasts to ``group`` come in here."""
        if is_multicast(group):
            if not is_wildcard(self.local.host) and self.local.host != group:
                return False
            return any(
                joined == group and where is interface for joined, where in self._groups
            )
        return is_wildcard(self.local.host)

    def receive(self, packet: Packet) -> bool:
        """Keep a datagram for the reader; return False if there is no room."""
        if self._received_bytes + len(packet.payload) > RECEIVE_BUFFER:
            return False
        self._received.append((packet.payload, packet.source))
        self._received_bytes += len(packet.payload)
        self._changed()
        return True

    @property
    def readable(self) -> bool:
        """Whether a datagram or an error waits."""
        return bool(self._received or self._pending_error)

    # Groups

    def _membership(self, value: int | bytes) -> tuple[str, Interface]:
        assert isinstance(value, bytes)
        if self.family == socket.AF_INET:
            group, address = socket.inet_ntoa(value[:4]), socket.inet_ntoa(value[4:8])
        else:
            group = socket.inet_ntop(socket.AF_INET6, value[:16])
            address = ""
            if len(value) == 32:
                address = socket.inet_ntop(socket.AF_INET6, value[16:])
        if not is_multicast(group):
            raise system_error(errno.EINVAL)
        return group, self._host.multicast_interface(address)

    def _join(self, group: str, interface: Interface) -> None:
        if (group, interface) in self._groups:
            raise system_error(errno.EADDRINUSE)
        self._groups.add((group, interface))
        interface.groups[group] = interface.groups.get(group, 0) + 1

    def _leave(self, group: str, interface: Interface) -> None:
        self._groups.remove((group, interface))
        interface.groups[group] -= 1
        if not interface.groups[group]:
            del interface.groups[group]

    def _set_outgoing_interface(self, value: int | bytes) -> None:
        if (
            isinstance(value, bytes)
            and len(value) == 4
            and (self.family == socket.AF_INET)
        ):
            address = socket.inet_ntoa(value)
            if is_wildcard(address):
                self._outgoing_interface = ""
                return
            if self._host.interface_with(address) is None:
                raise system_error(errno.EADDRNOTAVAIL)
            self._outgoing_interface = address
            return
        index = _as_integer(value)
        if index == 0:
            self._outgoing_interface = ""
            return
        if not 1 <= index <= len(self._host.interfaces):
            raise system_error(errno.ENODEV)
        chosen = self._host.interfaces[index - 1].default_address("::")
        if chosen is None:
            raise system_error(errno.EADDRNOTAVAIL)
        self._outgoing_interface = chosen


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
        self.local = self._to_bind(address, TCP)
        self._host.stream_ports.add(self)

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
        self.is_closed = True
        self._host.reactor.socket_closed(self)
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


def _as_integer(value: int | bytes) -> int:
    return int.from_bytes(value, "little") if isinstance(value, bytes) else value
