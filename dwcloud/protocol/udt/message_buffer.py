"""What was received in message mode: whole messages, and pieces of others.

Packets of a message have consecutive numbers and one message number. Pieces are kept
by message number, so that each packet costs the same however long its message is.
"""

from __future__ import annotations

from collections import deque

import attrs

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt.packets import FIRST, IN_ORDER, LAST
from dwcloud.protocol.udt.receive_buffer import ReceiveBuffer

__all__ = ["MESSAGE_NUMBER_MASK", "MessageBuffer"]

MESSAGE_NUMBER_MASK = (1 << 26) - 1
"""The part of the message number that counts: SRT has flags in the three bits above,
which may differ when a packet is sent again (docs/protocol/udt)."""


@attrs.define
class _Assembly:
    """The pieces of one message by index; ends are -1 as long as unknown."""

    in_order: bool
    first: int = -1
    last: int = -1
    size: int = 0
    parts: dict[int, bytes] = attrs.field(factory=dict)

    def is_complete(self) -> bool:
        """Tell whether all pieces are here, and no others."""
        first, last = self.first, self.last
        return (
            0 <= first <= last
            and len(self.parts) == last - first + 1
            and all(first <= index <= last for index in self.parts)
        )


class MessageBuffer(ReceiveBuffer):
    """A bounded buffer that hands out messages.

    A message marked as in order waits until everything before it has been received
    or dropped; others are handed out as soon as they are complete.

    :param capacity_packets: how many packets fit, of messages read or not.
    :param payload_size: bytes of a full packet; larger ones count for several.
    """

    # The order of packets alone makes no messages.
    takes_runs = False

    def __init__(self, capacity_packets: int, payload_size: int) -> None:
        super().__init__(capacity_packets, payload_size)
        self._ready: deque[tuple[bytes, int]] = deque()
        self._ready_packets = 0
        self._assemblies: dict[int, _Assembly] = {}
        # For each packet from ``expected`` on that was received or dropped: the
        # number of its message, or None if nothing is left to do with it.
        self._owner: dict[int, int | None] = {}
        self._held_bytes = 0
        # The message that the packet before ``expected`` belongs to, if incomplete.
        self._head: int | None = None
        self._head_packets = 0
        self._head_bytes = 0
        self.messages_discarded = 0
        """Messages of which not everything came: dropped by the sender, without a
        beginning or an end, or larger than the buffer."""

    @property
    def readable_messages(self) -> int:
        """How many messages :meth:`read_message` can return."""
        return len(self._ready)

    def _room(self) -> int:
        packets = self._capacity - self._ready_packets - self._head_packets
        occupied = self.readable_bytes + self._head_bytes
        if occupied + packets * self._payload_size > self._byte_limit:
            packets = (self._byte_limit - occupied) // self._payload_size
        return packets

    def fits(self, index: int, size: int) -> bool:
        """Tell whether a packet of ``size`` bytes can be taken."""
        if index - self.expected >= self._room() + 2:
            return False
        spare = 2 * self._payload_size
        total = self.readable_bytes + self._held_bytes + size
        return total <= self._byte_limit + spare or index == self.expected

    def insert(self, index: int, payload: bytes, word: int = 0) -> bool:
        """Take a packet; return False for a duplicate.

        :param word: the second word of its header.
        """
        if index < self.expected or index in self._owner:
            return False
        number = word & MESSAGE_NUMBER_MASK
        assembly = self._assemblies.get(number)
        if assembly is None:
            assembly = _Assembly(bool(word & IN_ORDER))
            self._assemblies[number] = assembly
        assembly.parts[index] = payload
        assembly.size += len(payload)
        if word & FIRST:
            assembly.first = index
        if word & LAST:
            assembly.last = index
        self._owner[index] = number
        self._held_bytes += len(payload)
        # [udt:message-order]
        if not assembly.in_order and assembly.is_complete():
            self._deliver(number)
        self._advance()
        return True

    def drop(self, number: int, first: int, last: int) -> None:
        """Give up a message of which the sender will send no more (docs/protocol/udt).

        Pieces of other messages in that range stay.

        :param first: index of the first packet that may be missing.
        :param last: index of the last.
        """
        assembly = self._assemblies.get(number)
        if assembly is not None and not assembly.is_complete():
            self._abandon(number)
        for index in range(max(first, self.expected), last + 1):
            self._owner.setdefault(index, None)
        self._advance()

    def _advance(self) -> None:
        """Move on over what has been received or dropped."""
        while self.expected in self._owner:
            number = self._owner.pop(self.expected)
            self.expected += 1
            if number != self._head:
                if self._head is not None:
                    # Its end should have come before this packet.
                    self._abandon(self._head)
                self._head = number
            if number is None:
                continue
            assembly = self._assemblies[number]
            self._head_packets += 1
            self._head_bytes += len(assembly.parts[self.expected - 1])
            if assembly.last == self.expected - 1:
                if assembly.is_complete():
                    self._deliver(number)
                else:
                    self._abandon(number)
        # [udt:message-size]
        if self._head is not None and not self._ready and self._room() <= 0:
            self._abandon(self._head)

    def _deliver(self, number: int) -> None:
        assembly = self._take_out(number)
        parts = assembly.parts
        data = b"".join(parts[i] for i in range(assembly.first, assembly.last + 1))
        if data:
            self._ready.append((data, len(parts)))
            self._ready_packets += len(parts)
            self.readable_bytes += len(data)

    def _abandon(self, number: int) -> None:
        self._take_out(number)
        self.messages_discarded += 1

    def _take_out(self, number: int) -> _Assembly:
        """Remove an assembly; its numbers stay taken."""
        assembly = self._assemblies.pop(number)
        self._held_bytes -= assembly.size
        for index in assembly.parts:
            if index >= self.expected:
                self._owner[index] = None
        if number == self._head:
            self._head = None
            self._head_packets = self._head_bytes = 0
        return assembly

    def read(self, limit: int | None = None) -> bytes:
        """Refuse: messages are read one by one.

        :raises LocalProtocolError: always.
        """
        raise LocalProtocolError("messages are read with read_message")

    def read_message(self) -> bytes | None:
        """Remove and return the next message, or None."""
        if not self._ready:
            return None
        data, packets = self._ready.popleft()
        self._ready_packets -= packets
        self.readable_bytes -= len(data)
        return data

    def discard(self) -> None:
        """Drop everything that is not complete."""
        self._assemblies.clear()
        self._owner.clear()
        self._head = None
        self._held_bytes = self._head_packets = self._head_bytes = 0
