"""A byte stream in frames, for carriers that have no end of their own to tell.

An endless body, and a WebSocket, need something each way now and then so that no
proxy takes them for dead, and an end of each direction that is not the end of the
whole. A :class:`Framing` writes data, padding and the end so that they can be told
from each other; :class:`FramedStream` adds buffers and time. In an endless body a
frame is::

    2 bytes   length of the data; 0: there are none, this keeps the body alive;
              0xFFFF: there are none, and this direction has ended
    n bytes   data, 16 KiB at most
"""

from __future__ import annotations

import math
import struct
from typing import Protocol

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "KEEP_ALIVE",
    "LARGEST_FRAME",
    "SILENCE",
    "FrameReceiver",
    "FrameSender",
    "FramedStream",
    "Framing",
    "LengthFraming",
]

KEEP_ALIVE = 20.0
"""Seconds without a frame after which one without data is sent."""

SILENCE = 60.0
"""Seconds without a byte from the far end after which the stream is broken."""

LARGEST_FRAME = 16 * 1024
"""Bytes of data in a frame."""

_ROUNDING = 1e-6  # seconds by which a clock may be early
_LENGTH = struct.Struct(">H")
_END = 0xFFFF


class Framing(Protocol):
    """How data, padding and ends are told from each other on one carrier."""

    @property
    def ended(self) -> bool:
        """Whether the end of the far end's direction has come."""

    def data(self, data: bytes) -> bytes:
        """Write data, at most :data:`LARGEST_FRAME` bytes and at least one."""

    def padding(self) -> bytes:
        """Write something that carries nothing."""

    def end(self) -> bytes:
        """Write the end of our direction; padding may follow."""

    def farewell(self) -> bytes:
        """What is to be said when both directions have ended."""

    def receive_data(self, data: bytes) -> tuple[bytes, bytes]:
        """Read: the data that came, and what is to be answered at once.

        An answer takes the place of an earlier one that is not sent yet.

        :raises RemoteProtocolError: if those are no frames, code 400.
        """


class LengthFraming:
    """Frames in an endless body."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.ended = False

    def data(self, data: bytes) -> bytes:
        """Write data."""
        return _LENGTH.pack(len(data)) + data

    def padding(self) -> bytes:
        """Write an empty frame."""
        return _LENGTH.pack(0)

    def end(self) -> bytes:
        """Write the end of our direction."""
        return _LENGTH.pack(_END)

    def farewell(self) -> bytes:
        """Say nothing: the body ends."""
        return b""

    def receive_data(self, data: bytes) -> tuple[bytes, bytes]:
        """Read frames, which may come in any pieces.

        :raises RemoteProtocolError: if they are none, code 400.
        """
        buffer = self._buffer
        buffer += data
        at, parts = 0, []
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if length == _END:
                self.ended = True
                length = 0
            elif length > LARGEST_FRAME:
                raise RemoteProtocolError("a frame is longer than it may be", 400)
            elif length and self.ended:
                raise RemoteProtocolError("data came behind the end", 400)
            until = at + _LENGTH.size + length
            if len(buffer) < until:
                break
            parts.append(bytes(buffer[at + _LENGTH.size : until]))
            at = until
        del buffer[:at]
        return b"".join(parts), b""


class FrameSender:
    """The sending half: what was written and is not on its way yet.

    :ivar end_acknowledged: whether the end of the stream is on its way.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ended = False
        self.end_acknowledged = False

    @property
    def buffered(self) -> int:
        """Bytes that are not on their way yet."""
        return len(self._buffer)

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

    def take(self, framing: Framing) -> bytes:
        """Take everything, in frames."""
        buffer = bytes(self._buffer)
        self._buffer.clear()
        frames = [
            framing.data(buffer[at : at + LARGEST_FRAME])
            for at in range(0, len(buffer), LARGEST_FRAME)
        ]
        if self._ended and not self.end_acknowledged:
            self.end_acknowledged = True
            frames.append(framing.end())
        return b"".join(frames)


class FrameReceiver:
    """The receiving half: what came and is not read yet.

    :ivar ended: whether the stream's end was reached.
    """

    def __init__(self) -> None:
        self._unread = bytearray()
        self.ended = False

    @property
    def unread(self) -> int:
        """Bytes to read."""
        return len(self._unread)

    def read(self) -> bytes:
        """Take what has come."""
        data = bytes(self._unread)
        self._unread.clear()
        return data

    def append(self, data: bytes) -> None:
        """Data came."""
        self._unread += data


class FramedStream:
    """One end of a stream in frames.

    :ivar sender: what goes out; write to it.
    :ivar receiver: what came in; read from it.
    :ivar lost: why the stream is broken; empty while it is not.
    :ivar carrier_full: whether the carrier takes nothing now, no padding either.
    """

    linger = 120.0
    """Seconds that the far end has to end its direction after we closed: so long
    may it take what is on its way."""

    def __init__(self, framing: Framing, *, now: float) -> None:
        self.sender = FrameSender()
        self.receiver = FrameReceiver()
        self.lost = ""
        self._framing = framing
        self._answer = b""
        self._sent_at = now
        self._heard_at = now
        self._parted = False
        self._listening = True
        self.carrier_full = False

    @property
    def closed(self) -> bool:
        """Whether both directions have ended."""
        return self.receiver.ended and self.sender.end_acknowledged

    def abort(self) -> None:
        """Break the stream off."""
        self.lost = self.lost or "the tunnel was broken off here"

    def receive_data(self, data: bytes, *, now: float) -> None:
        """Bytes came from the carrier; nonsense breaks the stream."""
        if self.lost or self._parted:
            return
        self._heard_at = now
        try:
            received, answer = self._framing.receive_data(data)
        except RemoteProtocolError as e:
            self.lost = str(e)
            return
        self.receiver.append(received)
        self.receiver.ended = self._framing.ended
        # Only the newest: else a far end that reads nothing fills our memory.
        self._answer = answer or self._answer

    def stop_listening(self) -> None:
        """The carrier is not read for now: nobody is silent who is not heard."""
        self._listening = False

    def listen(self, *, now: float) -> None:
        """The carrier is read again."""
        self._listening = True
        self._heard_at = now

    def receive_loss(self, reason: str) -> None:
        """The carrier ended; that breaks a stream that has not ended."""
        if not self.closed:
            self.lost = self.lost or reason

    def data_to_send(self, *, now: float) -> bytes:
        """What the carrier is to send now."""
        if self.lost:
            return b""
        data = self._answer + self.sender.take(self._framing)
        self._answer = b""
        if self.closed and not self._parted:
            self._parted = True
            data += self._framing.farewell()
        if not data and not self._parted and now >= self._next_padding - _ROUNDING:
            data = self._framing.padding()
        if data:
            self._sent_at = now
        return data

    @property
    def _next_padding(self) -> float:
        return self._sent_at + KEEP_ALIVE

    def handle_timer(self, *, now: float) -> None:
        """Give up a far end that is silent; padding is sent as data is."""
        silent = self._listening and now - self._heard_at >= SILENCE - _ROUNDING
        if silent and not self.closed:
            self.lost = self.lost or f"the far end was silent for {SILENCE:.0f} s"

    def next_timer(self) -> float:
        """When to look again, infinite for never."""
        if self.lost or self.closed:
            return math.inf
        return min(
            math.inf if self.carrier_full else self._next_padding,
            self._heard_at + SILENCE if self._listening else math.inf,
        )
