"""Joins datagrams that came one by one, so that they are taken in one pass.

Taking a datagram costs more than reading it. Kernels that join do this themselves
(UDP_GRO); for what they deliver singly, because the network device does not let them
or because they cannot, it is done here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwcloud.net.udp_port import DatagramReceiver

__all__ = ["DatagramJoiner"]

_AT_ONCE = 64


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
