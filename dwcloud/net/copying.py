"""Copying bytes between two sockets, where the kernel does not splice them.

A block is read into memory that all directions share, and written from there at once;
only what the other socket does not take is kept. A pair of Twisted's transports would
make an object of each block, and have the reactor watch and forget the writing side for
each.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from twisted.internet.main import CONNECTION_LOST
from twisted.internet.tcp import Connection

from dwcloud.net.socket_direction import SocketDirection

__all__ = ["Copying"]

_AT_ONCE = 1 << 19
"""Bytes in a turn; as large as the processor's caches hold beside the sockets' own."""

_FULL = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS})

_block = bytearray(_AT_ONCE)
# Used within one turn of the reactor, never across two.
_view = memoryview(_block)


class Copying(SocketDirection):
    """One direction of a pair of sockets, through memory.

    What it holds while the sink takes nothing is one block at most.
    """

    def __init__(
        self, source: Connection, sink: Connection, counted: Callable[[int], None]
    ) -> None:
        super().__init__(source, sink, counted)
        self._held = memoryview(b"")

    def _take_held(self) -> bytes:
        held, self._held = self._held, memoryview(b"")
        return bytes(held)

    def _drop_held(self) -> None:
        self._held = memoryview(b"")

    def _write_held(self) -> None:
        self._held = self._send(self._held)
        if self._held:
            raise BlockingIOError

    def _read(self) -> Exception | None:
        try:
            count = self._source.socket.recv_into(_block)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not count:
            return self._end()
        self._counted(count)
        try:
            rest = self._send(_view[:count])
        except OSError:
            self._break_sink()
            return None
        if rest:
            self._held = memoryview(bytes(rest))
            self._wait_for_sink()
        return None

    def _send(self, data: memoryview) -> memoryview:
        """Send what the sink takes now; return the rest.

        :raises OSError: if it is broken.
        """
        sent = 0
        try:
            while sent < len(data):
                sent += self._sink.socket.send(data[sent:])
        except OSError as e:
            if e.errno not in _FULL:
                raise
        return data[sent:]
