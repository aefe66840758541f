"""STUN messages on a byte stream (RFC 8489, 6.2.2): cut it where messages end."""

from __future__ import annotations

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.stun.message import HEADER_LENGTH, MAGIC_COOKIE

__all__ = ["MAX_STREAM_MESSAGE", "StreamDecoder"]

MAX_STREAM_MESSAGE = 16384
"""Bytes of the longest message that a stream may carry, unless told otherwise."""

_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")


class StreamDecoder:
    """Collects bytes and returns whole raw messages.

    It keeps at most one incomplete message of at most ``max_message`` bytes.

    :ivar failure: why the stream cannot be read any further, or None. The messages
        before that point have been returned; the connection should be closed.
    """

    def __init__(self, *, max_message: int = MAX_STREAM_MESSAGE) -> None:
        self.failure: RemoteProtocolError | None = None
        self._max_message = max_message
        self._buffer = bytearray()

    @property
    def buffered_bytes(self) -> int:
        """Bytes of the incomplete message at hand."""
        return len(self._buffer)

    def receive_data(self, data: bytes) -> list[bytes]:
        """Take what arrived and return the messages that it completes.

        Garbage sets :attr:`failure`; from then on everything is ignored.
        """
        messages: list[bytes] = []
        if self.failure is not None:
            return messages
        self._buffer += data
        at = 0
        try:
            while (end := self._end_of_message(at)) is not None:
                messages.append(bytes(self._buffer[at:end]))
                at = end
            del self._buffer[:at]
        except RemoteProtocolError as failure:
            self.failure = failure
            self._buffer.clear()
        return messages

    def _end_of_message(self, at: int) -> int | None:
        """Return the end of the message that starts at ``at``, if it is all there."""
        available = len(self._buffer) - at
        if not available:
            return None
        # Looked at as soon as possible: a stream of another protocol must not be
        # waited for, and its first byte mostly tells.
        cookie = self._buffer[at + 4 : at + 8]
        if self._buffer[at] & 0xC0 or not _COOKIE.startswith(cookie):
            raise RemoteProtocolError("the stream is not STUN", 400)
        if available < HEADER_LENGTH:
            return None
        length = int.from_bytes(self._buffer[at + 2 : at + 4], "big")
        if length % 4:
            raise RemoteProtocolError("a length is no multiple of 4", 400)
        if HEADER_LENGTH + length > self._max_message:
            raise RemoteProtocolError(
                f"a message of {HEADER_LENGTH + length} bytes is too long", 413
            )
        if available < HEADER_LENGTH + length:
            return None
        return at + HEADER_LENGTH + length
