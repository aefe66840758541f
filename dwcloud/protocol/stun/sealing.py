"""How the messages of one connection are protected, as an object to exchange.

A connection starts without protection; once both ends share keys it goes on with a
:class:`SequencedSealing`, which neither lets a stranger insert a message nor repeat
one.
"""

from __future__ import annotations

from typing import Protocol

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.message import RawAttribute, STUNMessage

__all__ = ["Sealing", "SequencedSealing", "Unsealed"]


class Sealing(Protocol):
    """Turns messages into bytes and back."""

    def seal(self, message: STUNMessage) -> bytes:
        """Return the protected encoding of a message that is sent next."""

    def open(self, raw: bytes) -> STUNMessage:
        """Decode and verify the message that was received next.

        :raises RemoteProtocolError: if it is malformed or not authentic.
        """


class Unsealed:
    """No protection: what a connection starts with."""

    def seal(self, message: STUNMessage) -> bytes:
        """Return the plain encoding."""
        return message.encode()

    def open(self, raw: bytes) -> STUNMessage:
        """Decode."""
        return STUNMessage.decode(raw)


@attrs.define
class SequencedSealing:
    """MESSAGE-INTEGRITY-SHA256 with a number that only ever grows.

    The two directions need different keys: with one, a message could be sent back
    to its author.

    :ivar sending_key: protects what this end sends.
    :ivar receiving_key: protects what the far end sends.
    :ivar sequence_type: the attribute that holds the number, 8 bytes.
    """

    sending_key: bytes = attrs.field(repr=False)
    receiving_key: bytes = attrs.field(repr=False)
    sequence_type: int
    _sent: int = attrs.field(default=0, init=False)
    _received: int = attrs.field(default=0, init=False)

    def seal(self, message: STUNMessage) -> bytes:
        """Return the encoding with the next number and the integrity attribute.

        :raises LocalProtocolError: if the message has a number already.
        """
        if message.get(self.sequence_type) is not None:
            raise LocalProtocolError("the message was sealed before")
        self._sent += 1
        sequence = RawAttribute(self.sequence_type, self._sent.to_bytes(8, "big"))
        return message.with_attributes(sequence).encode(integrity_key=self.sending_key)

    def open(self, raw: bytes) -> STUNMessage:
        """Decode, and refuse what is not authentic (401) or was there before (400)."""
        message = STUNMessage.decode(raw)
        if not message.verify_integrity(self.receiving_key):
            raise RemoteProtocolError("a message is not authentic", 401)
        value = message.require(self.sequence_type)
        sequence = int.from_bytes(value, "big")
        if len(value) != 8 or sequence <= self._received:
            raise RemoteProtocolError("a message was repeated", 400)
        self._received = sequence
        return message
