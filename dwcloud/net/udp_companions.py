"""Sockets beside a UDP port's own that are each connected to one peer.

For a datagram to a peer that it is connected to the kernel looks up neither route nor
device, which is a fifth to a third of what sending it costs. Such a socket has the
port's address, and the kernel gives it all that its peer sends, so that it is read as
the port's own is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["MAX_COMPANIONS", "Companions"]

MAX_COMPANIONS = 16
"""Peers with a socket of their own; further ones are sent to as ever."""

UNUSED_AFTER = 30.0
"""Seconds without use after which a socket makes room for another peer's."""

_REUSE: int | None = getattr(socket, "SO_REUSEPORT", None)


@implementer(IReadDescriptor)
class _Companion:
    """One of the sockets.

    :param read: takes what waits in a socket.
    :param lost: called when the reactor gives it up.
    """

    def __init__(
        self,
        opened: socket.socket,
        read: Callable[[socket.socket], None],
        lost: Callable[[], None],
    ) -> None:
        self.socket = opened
        self._read = read
        self._lost = lost

    def fileno(self) -> int:
        """Return the descriptor for the reactor, -1 when closed."""
        return self.socket.fileno()

    def logPrefix(self) -> str:
        """Return what stands before a line logged while this socket has its turn."""
        return "UDP, connected"

    def doRead(self) -> None:
        """Receive what is waiting."""
        self._read(self.socket)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor stops."""
        self._lost()


@attrs.define
class _Entry:
    """What is known of a peer; ``companion`` is None where there can be none."""

    companion: _Companion | None
    used_at: float


class Companions:
    """The sockets of one port, by peer.

    :param prepare: sets the options of a new socket.
    :param read: takes what waits in a socket.
    """

    def __init__(
        self,
        reactor: Any,
        make_socket: Callable[[int, int], socket.socket],
        prepare: Callable[[socket.socket], None],
        read: Callable[[socket.socket], None],
    ) -> None:
        self._reactor = reactor
        self._make_socket = make_socket
        self._prepare = prepare
        self._read = read
        self._entries: dict[tuple[str, int], _Entry] = {}

    def __len__(self) -> int:
        return sum(entry.companion is not None for entry in self._entries.values())

    def connected_to(
        self, address: tuple[str, int], own: socket.socket
    ) -> socket.socket | None:
        """Return the socket for a peer, made when there is room, or None.

        :param own: the port's socket.
        """
        entry = self._entries.get(address)
        now = self._reactor.seconds()
        if entry is None:
            if not self._has_room(now):
                return None
            entry = _Entry(self._opened(address, own), now)
            self._entries[address] = entry
        entry.used_at = now
        return None if entry.companion is None else entry.companion.socket

    def close(self) -> None:
        """Close all."""
        for address in list(self._entries):
            self._forget(address)

    def _has_room(self, now: float) -> bool:
        if len(self._entries) < MAX_COMPANIONS:
            return True
        oldest = min(self._entries, key=lambda address: self._entries[address].used_at)
        if now - self._entries[oldest].used_at < UNUSED_AFTER:
            return False
        # What it has not read yet is lost, as may happen to datagrams.
        self._forget(oldest)
        return True

    def _forget(self, address: tuple[str, int]) -> None:
        entry = self._entries.pop(address, None)
        if entry is not None and entry.companion is not None:
            self._reactor.removeReader(entry.companion)
            entry.companion.socket.close()

    def _opened(
        self, address: tuple[str, int], own: socket.socket
    ) -> _Companion | None:
        if _REUSE is None:
            return None
        made = self._make_socket(own.family, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            self._prepare(made)
            _join(made, own, _REUSE)
            made.connect(address)
        except OSError:
            # A system that shares no port, or a peer that cannot be reached: the
            # port's own socket says which, each time.
            made.close()
            return None
        companion = _Companion(made, self._read, lambda: self._forget(address))
        self._reactor.addReader(companion)
        return companion


def _join(made: socket.socket, own: socket.socket, reuse: int) -> None:
    """Bind a socket to the address of the port's own one.

    That allows it for this moment only, so that no other program gets in.

    :raises OSError: where the system does not allow it.
    """
    made.setsockopt(socket.SOL_SOCKET, reuse, 1)
    own.setsockopt(socket.SOL_SOCKET, reuse, 1)
    try:
        made.bind(own.getsockname())
    finally:
        own.setsockopt(socket.SOL_SOCKET, reuse, 0)
