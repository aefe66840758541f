"""The receiving half of a connection in message mode (docs/protocol/udt)."""

from __future__ import annotations

from typing import Any

from dwcloud.protocol.udt.loss_lists import Gap
from dwcloud.protocol.udt.message_buffer import MESSAGE_NUMBER_MASK, MessageBuffer
from dwcloud.protocol.udt.packets import MessageDropRequest
from dwcloud.protocol.udt.receiving import SYN_INTERVAL, Receiver

__all__ = ["MessageReceiver"]

_NO_MESSAGE = -1


class MessageReceiver(Receiver):
    """Puts messages together, and lets the sender drop some.

    Parameters are those of :class:`~dwcloud.protocol.udt.receiving.Receiver`.
    """

    buffer: MessageBuffer

    def __init__(
        self, *, capacity_packets: int, payload_size: int, **others: Any
    ) -> None:
        super().__init__(
            capacity_packets=capacity_packets, payload_size=payload_size, **others
        )
        self.buffer = MessageBuffer(capacity_packets, payload_size)
        # The first number that the sender may have left out.
        self._skipped: int | None = None

    def read_message(self) -> bytes | None:
        """Return the next message, or None; a closed window is reopened at once."""
        message = self.buffer.read_message()
        self._reopen()
        return message

    def message_dropped(self, request: MessageDropRequest, now: float) -> None:
        """Take note that the rest of a message will never come."""
        expected = self.buffer.expected
        first = self._sequences.index(request.first, expected)
        last = self._sequences.index(request.last, expected)
        if last > first and not request.timestamp:
            # [udt:drop-last] The reference library, known by its timestamps of 0 in
            # control packets, names a number too far: that of the next message.
            last -= 1
            self._skipped = last + 1 if last >= self._largest else None
        # [udt:bounded-ranges]
        last = min(last, expected + self.buffer.available_packets)
        if first > last:
            return
        if first > self._largest + 1:
            self._lost(self._largest + 1, first - 1, request.timestamp, now)
        self._give_up(request.message_number & MESSAGE_NUMBER_MASK, first, last)
        self._ack_forced = True
        if request.timestamp:
            self._plan_ack(self._soonest_ack(now))
        else:
            # [udt:drop-ack] The library notes only after sending the request that its
            # numbers go on behind it, and breaks off at an ACK that comes before.
            self._ack_at, self._repeat_at = now + SYN_INTERVAL, None

    def _give_up(self, number: int, first: int, last: int) -> None:
        for index in range(max(first, self.buffer.expected), last + 1):
            self.losses.remove(index)
        self._largest = max(self._largest, last)
        self.buffer.drop(number, first, last)

    def _track(self, index: int, timestamp: int, now: float) -> None:
        # [udt:drop-skip] After it has dropped its newest message the library leaves
        # out two numbers. To ask for them would make it drop the next message, too.
        skipped = self._skipped
        if skipped is not None and index > self._largest:
            self._skipped = None
            if index == skipped + 2:
                self._give_up(_NO_MESSAGE, skipped, skipped + 1)
        super()._track(index, timestamp, now)

    def _lost(self, first: int, last: int, timestamp: int, now: float) -> None:
        self.packets_lost += last - first + 1
        self.losses.append(
            Gap(
                first=first,
                last=last,
                found_at=now,
                timestamp=timestamp,
                report_at=now,
            )
        )
