"""Simulated sockets: what Twisted's own transports use in place of the system's.

They have the methods of :class:`socket.socket` that those transports call, raise the
same errors and never block.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dwcloud.protocol.addresses import Address

from .packets import canonical_host, is_ipv6, is_wildcard, system_error

if TYPE_CHECKING:
    from .hosts import Host

__all__ = ["PortTable", "SimulatedSocket", "as_integer"]

#: Ports given to sockets that ask for any (RFC 6335, section 6).
EPHEMERAL_PORTS = range(49152, 65536)


class SimulatedSocket:
    """What UDP and TCP sockets have in common.

    :ivar local: the address and port it is bound to; the port is 0 if it is not.
    """

    def __init__(self, host: Host, family: int) -> None:
        self._host = host
        self._reactor = host.reactor
        self._descriptor = host.world.next_number()
        self._options: dict[tuple[int, int], int] = {}
        self._pending_error = 0
        self.family = family
        self.local = Address("::" if family == socket.AF_INET6 else "0.0.0.0", 0)
        self.is_closed = False
        self._reactor.socket_opened(self)

    def fileno(self) -> int:
        """Return a number unique in this world; it is no file of this process."""
        return self._descriptor

    def setblocking(self, flag: bool) -> None:
        """Do nothing: these sockets never block."""

    def close(self) -> None:
        """Give everything back."""
        self.is_closed = True
        self._reactor.socket_closed(self)

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
        """Return an option, as it is if never set; the pending error is taken."""
        if (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR):
            number, self._pending_error = self._pending_error, 0
            return number
        # A socket of IPv6 takes nothing else in this world.
        alone = (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        usual = int(self.family == socket.AF_INET6 and (level, option) == alone)
        return self._options.get((level, option), usual)

    def _has_option(self, option: int) -> bool:
        return bool(self._options.get((socket.SOL_SOCKET, option)))

    def _bind_in(self, ports: PortTable[Any], address: tuple[object, ...]) -> None:
        """Take an address and a port, any free one for port 0."""
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
        previous = self.local
        self.local = Address(host, port or ports.free_port())
        try:
            ports.add(self)
        except OSError:
            self.local = previous
            raise

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
        self._reactor.socket_changed(self)

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


def as_integer(value: int | bytes) -> int:
    """Return the value of an option that was given as a number or as octets."""
    return int.from_bytes(value, "little") if isinstance(value, bytes) else value
