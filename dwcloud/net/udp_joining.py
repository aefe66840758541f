"""Collects datagrams that belong together, so that they are taken in one pass.

Taking a datagram costs more than reading it. Kernels that join do this themselves, for
up to 64 KiB (UDP_GRO); what they deliver singly, because the network device does not
let them or because they cannot, and several such joined ones, are put together here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwcloud.net.udp_port import DatagramReceiver

__all__ = ["MAX_DATAGRAM", "DatagramCollector", "DatagramJoiner"]

MAX_DATAGRAM = 65535
"""Bytes; no UDP datagram is longer (RFC 768)."""

_AT_ONCE = 64

_ENOUGH = 240 << 10
"""Bytes passed on at once: so much that larger ones hardly cost less for each packet,
and so little that they stay in the processor's cache."""


class DatagramCollector:
    """Receives datagrams back to back into one buffer that is used again and again.

    :param receiver: gets those of equal size from one address together, of which the
        last may be shorter, in order. The memory is lent for the time of the call.
    """

    def __init__(self, receiver: DatagramReceiver) -> None:
        self._receiver = receiver
        # Made when something comes: of many ports that punch, most never hear anything.
        self._buffer = memoryview(bytearray())
        self._end = 0
        self._size = 0
        self._address = ("", 0)

    @property
    def room(self) -> memoryview:
        """Where the next datagrams are to be received to; enough for the largest."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(_ENOUGH + MAX_DATAGRAM))
        return self._buffer[self._end :]

    def received(self, size: int, segment_size: int, address: tuple[str, int]) -> None:
        """Take what was received to :attr:`room`; :meth:`flush` has to follow.

        :param size: in bytes.
        :param segment_size: bytes of each datagram, of which the last may be shorter.
        """
        end = self._end
        if end and (
            address != self._address
            or segment_size > self._size
            or size > segment_size != self._size
        ):
            self.flush()
            self._buffer[:size] = self._buffer[end : end + size]
            end = 0
        if not end:
            self._size, self._address = segment_size, address
        self._end = end = end + size
        if end >= _ENOUGH or end % self._size:
            self.flush()

    def flush(self) -> None:
        """Pass on what was collected."""
        end, size = self._end, self._size
        if end:
            self._end = 0
            self._receiver.datagrams_received(
                self._buffer[:end], size if end > size else None, self._address
            )


class DatagramJoiner:
    """Collects datagrams of equal size from one address; the last may be shorter.

    :param receiver: gets them, in order, when others come or at :meth:`flush`.
    """

    def __init__(self, receiver: DatagramReceiver) -> None:
        self._receiver = receiver
        self._datagrams: list[bytes] = []
        self._size = 0
        self._address = ("", 0)

    def take(self, datagram: bytes, address: tuple[str, int]) -> None:
        """Take one datagram; :meth:`flush` has to follow in this turn."""
        size, datagrams = len(datagram), self._datagrams
        if datagrams and 0 < size <= self._size and address == self._address:
            datagrams.append(datagram)
            if size < self._size or len(datagrams) == _AT_ONCE:
                self.flush()
            return
        self.flush()
        self._datagrams.append(datagram)
        self._size, self._address = size, address

    def flush(self) -> None:
        """Pass on what was collected."""
        datagrams = self._datagrams
        if not datagrams:
            return
        self._datagrams = []
        if len(datagrams) == 1:
            self._receiver.datagrams_received(datagrams[0], None, self._address)
        else:
            joined = b"".join(datagrams)
            self._receiver.datagrams_received(joined, self._size, self._address)
