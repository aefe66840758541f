"""One byte stream in messages that may be lost, repeated or overtaken.

Every byte has a number, its offset, and a message says which offsets it carries and
which one its sender wants next, as TCP does::

    1 byte    version, 1
    1 byte    flags: 1 the stream ends behind this message's data, 2 send again
              from what I want next, 4 the stream is broken off
    8 bytes   offset that I want next
    8 bytes   offset that I take data up to
    8 bytes   offset of this message's data
    n bytes   data
"""

from __future__ import annotations

import enum
import struct

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["HEAD_SIZE", "WINDOW", "Flags", "Message", "Receiver", "Sender"]

_HEAD = struct.Struct(">BBQQQ")
_VERSION = 1

HEAD_SIZE = _HEAD.size
"""Bytes of a message without data."""

WINDOW = 1024 * 1024
"""Bytes that a receiver holds which nobody has read yet."""


class Flags(enum.IntFlag):
    """What a message says beside its data."""

    END = 1
    REWIND = 2
    RESET = 4


@attrs.frozen
class Message:
    """A piece of one direction, and how far the other one has come.

    :ivar wanted: offset of the other direction that the sender wants next.
    :ivar limit: offset of the other direction up to which it takes data.
    :ivar offset: of ``data`` in this direction.
    """

    wanted: int
    limit: int
    offset: int = 0
    data: bytes = b""
    flags: Flags = Flags(0)  # noqa: RUF009 - an immutable value

    def encode(self) -> bytes:
        """Write the message."""
        head = _HEAD.pack(_VERSION, self.flags, self.wanted, self.limit, self.offset)
        return head + self.data

    @classmethod
    def decode(cls, body: bytes) -> Message:
        """Read a message.

        :raises RemoteProtocolError: if it is none, code 400.
        """
        if len(body) < HEAD_SIZE:
            raise RemoteProtocolError("a message is shorter than its head", 400)
        version, flags, wanted, limit, offset = _HEAD.unpack_from(body)
        if version != _VERSION or flags > 7 or offset + len(body) >= 1 << 63:
            raise RemoteProtocolError("that is not a message of a tunnel", 400)
        return cls(wanted, limit, offset, body[HEAD_SIZE:], Flags(flags))


class Sender:
    """The sending half: keeps every byte until the far end has it.

    :ivar acknowledged: offset up to which the far end has everything.
    :ivar sent: offset of what is to be sent next.
    """

    def __init__(self) -> None:
        self.acknowledged = 0
        self.sent = 0
        self._buffer = bytearray()
        self._limit = WINDOW
        self._ended = False
        self._end_sent = False
        self.end_acknowledged = False

    @property
    def buffered(self) -> int:
        """Bytes that the far end does not have yet."""
        return len(self._buffer)

    @property
    def end(self) -> int:
        """Offset behind all that was written."""
        return self.acknowledged + len(self._buffer)

    def write(self, data: bytes) -> None:
        """Append to the stream.

        :raises LocalProtocolError: after :meth:`finish`.
        """
        if self._ended:
            raise LocalProtocolError("the stream has ended")
        self._buffer += data

    def finish(self) -> None:
        """End the stream behind what was written."""
        self._ended = True

    @property
    def sendable(self) -> bool:
        """Whether there is something to send that the far end takes."""
        if self.sent < min(self.end, self._limit):
            return True
        at_end = self._ended and self.sent == self.end
        return at_end and not self._end_sent

    def take(self, most: int) -> tuple[int, bytes, bool]:
        """Take what is to be sent next: offset, data, and whether the end follows."""
        offset = self.sent
        until = max(offset, min(offset + most, self.end, self._limit))
        data, end = self.again(offset, until)
        self.sent = until
        self._end_sent = self._end_sent or end
        return offset, data, end

    def again(self, offset: int, until: int) -> tuple[bytes, bool]:
        """What is left of a range taken before, and whether the end follows."""
        start = max(offset - self.acknowledged, 0)
        data = bytes(self._buffer[start : max(until - self.acknowledged, 0)])
        return data, self._ended and until == self.end

    def rewind(self) -> None:
        """Send everything again that is not acknowledged."""
        self.sent = self.acknowledged
        self._end_sent = self.end_acknowledged

    def acknowledge(self, wanted: int, limit: int) -> None:
        """The far end wants ``wanted`` next and takes data up to ``limit``.

        The end of the stream counts as one more offset.

        :raises RemoteProtocolError: if it wants what was never sent, code 400.
        """
        if wanted > self.end + self._ended:
            raise RemoteProtocolError("the far end has more than was sent", 400)
        if self._ended and wanted > self.end:
            self.end_acknowledged = self._end_sent = True
            wanted = self.end
        if wanted > self.acknowledged:
            del self._buffer[: wanted - self.acknowledged]
            self.acknowledged = wanted
            self.sent = max(self.sent, wanted)
        self._limit = max(self._limit, limit)


class Receiver:
    """The receiving half: puts what comes in order, each byte once.

    :ivar ended: whether the stream's end was reached.
    """

    def __init__(self) -> None:
        self._next = 0
        self._pieces: dict[int, bytes] = {}
        self._end: int | None = None
        self._unread = bytearray()
        self.ended = False

    @property
    def wanted(self) -> int:
        """The offset wanted next; one more once the end has come."""
        return self._next + self.ended

    @property
    def limit(self) -> int:
        """The offset up to which data is taken."""
        return self._next + max(WINDOW - len(self._unread), 0)

    @property
    def unread(self) -> int:
        """Bytes to read."""
        return len(self._unread)

    def read(self) -> bytes:
        """Take what has come in order."""
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def receive(self, message: Message) -> None:
        """Take a message's data.

        :raises RemoteProtocolError: if it goes beyond any limit, code 400.
        """
        offset, data = message.offset, message.data
        if offset + len(data) > self._next + WINDOW:
            raise RemoteProtocolError("the far end sends more than it may", 400)
        if Flags.END in message.flags:
            if self._end not in (None, offset + len(data)):
                raise RemoteProtocolError("the stream has two ends", 400)
            self._end = offset + len(data)
        if data and offset + len(data) > self._next:
            known = self._pieces.get(offset, b"")
            if len(data) > len(known):
                self._pieces[offset] = data
                if sum(map(len, self._pieces.values())) > 2 * WINDOW:
                    raise RemoteProtocolError("the far end's data overlaps", 400)
            self._put_in_order()
        self.ended = self._next == self._end

    def _put_in_order(self) -> None:
        while True:
            fitting = [o for o in self._pieces if o <= self._next]
            if not fitting:
                return
            for offset in sorted(fitting):
                data = self._pieces.pop(offset)
                new = data[max(self._next - offset, 0) :]
                self._unread += new
                self._next += len(new)
