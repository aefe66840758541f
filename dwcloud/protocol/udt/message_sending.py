"""The sending half of a connection in message mode (docs/protocol/udt)."""

from __future__ import annotations

from collections import deque
from typing import Any

import attrs

from dwcloud.protocol.errors import LocalProtocolError
from dwcloud.protocol.udt.message_buffer import MESSAGE_NUMBER_MASK
from dwcloud.protocol.udt.packets import (
    FIRST,
    HEADER,
    HEADER_SIZE,
    IN_ORDER,
    LAST,
    MessageDropRequest,
)
from dwcloud.protocol.udt.send_buffer import Batch, SendBuffer
from dwcloud.protocol.udt.sending import Sender
from dwcloud.protocol.udt.sequence import SEQUENCE_MASK, SequenceSpace
from dwcloud.protocol.udt.transmit import Buffer

__all__ = ["MessageSendBuffer", "MessageSender"]


@attrs.define(eq=False)
class _Message:
    """A message that was not acknowledged yet.

    :ivar deadline: when its time is over, in seconds, or None.
    :ivar offset: bytes that have been made into packets.
    :ivar first: index of the first packet.
    :ivar end: index after the last packet made so far.
    :ivar expired: whether it has been counted as too late.
    """

    data: memoryview
    in_order: bool
    deadline: float | None
    number: int = 0
    offset: int = 0
    first: int = 0
    end: int = 0
    expired: bool = False

    def is_outdated(self, now: float) -> bool:
        return self.deadline is not None and self.deadline <= now


class MessageSendBuffer(SendBuffer):
    """The messages not yet sent and the packets not yet acknowledged.

    A batch never holds packets of more than one message.
    """

    def __init__(
        self, sequences: SequenceSpace, payload_size: int, destination_id: int
    ) -> None:
        super().__init__(sequences, payload_size, destination_id)
        self._messages: deque[_Message] = deque()
        self._with_deadline: list[_Message] = []
        self._earliest = float("inf")
        self.messages_expired = 0
        """Messages whose time was over before they were delivered."""

    def append(self, data: bytes) -> None:
        """Refuse: this takes messages.

        :raises LocalProtocolError: always.
        """
        raise LocalProtocolError("write on a connection of messages")

    def append_message(
        self, data: bytes, in_order: bool, deadline: float | None
    ) -> None:
        """Queue a message of at least one byte."""
        message = _Message(memoryview(data), in_order, deadline)
        self._messages.append(message)
        self.unsent_bytes += len(data)
        if deadline is not None:
            self._earliest = min(self._earliest, deadline)

    def make_batch(self, first: int, limit: int, timestamp: int) -> Batch:
        """Make up to ``limit`` packets of the first message, and keep them."""
        message = self._messages[0]
        size = self.payload_size
        end = min(message.offset + limit * size, len(message.data))
        block = message.data[message.offset : end]
        word = IN_ORDER if message.in_order else 0
        if message.offset == 0:
            # Numbered when it is begun, so that no number is missing on the wire.
            self._message_number = self._message_number % MESSAGE_NUMBER_MASK + 1
            message.number, message.first = self._message_number, first
            word |= FIRST
            if message.deadline is not None:
                self._with_deadline.append(message)
        # [udt:message-word]
        word |= message.number
        number, last_word = self._sequences.number(first), 0
        if end == len(message.data):
            last_word = LAST
            self._messages.popleft()
        parts: list[bytes | memoryview] = []
        for start in range(0, len(block), size):
            if start + size >= len(block):
                word |= last_word
            header = HEADER.pack(number, word, timestamp, self._destination_id)
            parts += header, block[start : start + size]
            number = (number + 1) & SEQUENCE_MASK
            word &= ~FIRST
        batch = Batch(first, len(parts) // 2, b"".join(parts), size + HEADER_SIZE)
        message.offset, message.end = end, batch.end
        self._batches.append(batch)
        self.unsent_bytes -= len(block)
        self.unacknowledged_bytes += len(block)
        return batch

    def release(self, index: int) -> None:
        """Forget the packets before ``index``."""
        if self._with_deadline:
            self._with_deadline = [
                message
                for message in self._with_deadline
                if message.end > index or self._is_begun(message)
            ]
        super().release(index)

    def _is_begun(self, message: _Message) -> bool:
        return bool(self._messages) and self._messages[0] is message

    def remove_outdated(self, now: float) -> list[_Message]:
        """Forget what was not sent of messages whose time is over.

        :returns: those of which something has been sent, at most one.
        """
        if now < self._earliest:
            return []
        kept: deque[_Message] = deque()
        begun: list[_Message] = []
        self._earliest = float("inf")
        for message in self._messages:
            if message.deadline is None or not message.is_outdated(now):
                kept.append(message)
                if message.deadline is not None:
                    self._earliest = min(self._earliest, message.deadline)
                continue
            self.unsent_bytes -= len(message.data) - message.offset
            self.expire(message)
            if message.offset:
                begun.append(message)
        self._messages = kept
        return begun

    def expire(self, message: _Message) -> None:
        """Count a message that is given up, once."""
        self.messages_expired += not message.expired
        message.expired = True

    def outdated_in_flight(self, now: float) -> list[_Message]:
        """Return the messages in flight whose time is over."""
        return [m for m in self._with_deadline if m.is_outdated(now)]


class MessageSender(Sender):
    """Makes packets of messages and sends them until acknowledged or out of date.

    Parameters are those of :class:`~dwcloud.protocol.udt.sending.Sender`.
    """

    buffer: MessageSendBuffer

    def __init__(
        self,
        *,
        sequences: SequenceSpace,
        packet_size: int,
        destination_id: int,
        **others: Any,
    ) -> None:
        super().__init__(
            sequences=sequences,
            packet_size=packet_size,
            destination_id=destination_id,
            **others,
        )
        self._destination_id = destination_id
        self.buffer = MessageSendBuffer(sequences, packet_size - 44, destination_id)

    def packets_to_send(self, now: float) -> list[tuple[Buffer, int]]:
        """Return the datagrams due now, requests to drop messages among them."""
        requests = self._drop_requests(now)
        return requests + super().packets_to_send(now)

    def _drop_requests(self, now: float) -> list[tuple[Buffer, int]]:
        """Give up messages that are too late, and tell the receiver.

        As in the reference library, what is on its way is given up only when it
        would have to be sent again. A lost request shows as a loss once more.
        """
        given_up = self.buffer.remove_outdated(now)
        if self._losses:
            for message in self.buffer.outdated_in_flight(now):
                if self._losses.remove(message.first, message.end - 1):
                    given_up.append(message)
        output: list[tuple[Buffer, int]] = []
        # [udt:drop-request]
        for message in dict.fromkeys(given_up):
            self.buffer.expire(message)
            self._losses.remove(message.first, message.end - 1)
            if message.end <= self._released:
                # All that was sent has arrived; the next message ends its wait.
                continue
            request = MessageDropRequest(
                destination_id=self._destination_id,
                # Not 0: the range is exact, other than that of the reference library.
                timestamp=max(1, int((now - self._opened_at) * 1e6) & 0xFFFFFFFF),
                message_number=message.number,
                first=self._sequences.number(max(message.first, self._released)),
                last=self._sequences.number(message.end - 1),
            ).encode()
            output.append((request, len(request)))
        return output
