"""Simulated UDP sockets, with multicast and broadcast."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING

from dwcloud.protocol.addresses import Address

from .network import Interface
from .packets import (
    UDP,
    Packet,
    canonical_host,
    is_broadcast,
    is_ipv6,
    is_multicast,
    is_wildcard,
    system_error,
)
from .sockets import SimulatedSocket, as_integer

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["DatagramSocket"]

#: The largest UDP payload in IPv4, octets.
LARGEST_DATAGRAM = 65507
#: Octets of datagrams a socket keeps for its reader (Linux: net.core.rmem_default).
RECEIVE_BUFFER = 212992
#: How often a datagram is forwarded unless the program wants less (Linux:
#: net.ipv4.ip_default_ttl).
DEFAULT_TTL = 64


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
        self._ttl = DEFAULT_TTL

    # The system's interface

    def bind(self, address: tuple[object, ...]) -> None:
        """Take an address and a port; port 0 for any free one."""
        self._bind_in(self._host.datagram_ports, address)

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
        super().close()
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
            self._loops = bool(as_integer(value))
        elif option in (socket.IP_MULTICAST_TTL, socket.IPV6_MULTICAST_HOPS):
            self._multicast_ttl = as_integer(value)
        elif option in (socket.IP_TTL, socket.IPV6_UNICAST_HOPS):
            self._ttl = as_integer(value)
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
        if option in (socket.IP_TTL, socket.IPV6_UNICAST_HOPS):
            return self._ttl
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
            self._host.name,
            UDP,
            self._source(remote.host, interface),
            remote,
            bytes(data),
        )
        packet.ttl = self._ttl
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
        index = as_integer(value)
        if index == 0:
            self._outgoing_interface = ""
            return
        if not 1 <= index <= len(self._host.interfaces):
            raise system_error(errno.ENODEV)
        chosen = self._host.interfaces[index - 1].default_address("::")
        if chosen is None:
            raise system_error(errno.EADDRNOTAVAIL)
        self._outgoing_interface = chosen
