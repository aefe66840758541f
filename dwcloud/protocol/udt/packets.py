"""The packets of UDT: 16-byte header, then payload or control body (docs/protocol/udt).

The data path does not make an object of each data packet, see :mod:`.send_buffer`
and :mod:`.receiving`; :class:`DataPacket` is for everything else, tests included.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Iterable
from struct import Struct

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.udt.handshake import HANDSHAKE_SIZE, Handshake

__all__ = [
    "CONTROL_FLAG",
    "FIRST",
    "HEADER",
    "HEADER_SIZE",
    "IN_ORDER",
    "LAST",
    "PROGRESS_MARK",
    "SOLO",
    "Ack",
    "Ack2",
    "CongestionWarning",
    "ControlPacket",
    "ControlType",
    "DataPacket",
    "ErrorSignal",
    "HandshakePacket",
    "KeepAlive",
    "MessageDropRequest",
    "Nak",
    "Packet",
    "Progress",
    "Shutdown",
    "UserControl",
    "decode",
    "decode_loss_list",
    "encode_loss_list",
]

HEADER = Struct(">IIII")
HEADER_SIZE = 16
CONTROL_FLAG = 0x80000000

FIRST = 0x80000000
LAST = 0x40000000
SOLO = FIRST | LAST
"""Bits of the message word: the packet begins, ends, or is a message."""

IN_ORDER = 0x20000000
"""Bit of the message word: the message is to be delivered in order."""

PROGRESS_MARK = b"dwc1"
"""Body of an ACK2 from a sender that judges delivery by itself: it wants
:class:`Progress` in full ACKs, and lost reports repeated after a round trip."""

_PROGRESS_SIZE = 12
_MESSAGE_MASK = 0x1FFFFFFF
_SEQUENCE_MASK = 0x7FFFFFFF
_PADDING = bytes(4)
_WORD = Struct(">I")
_PAIR = Struct(">II")
_SHORT_ACK = Struct(">IIII")
_FULL_ACK = Struct(">IIIIII")


class ControlType(enum.IntEnum):
    """The type field of a control packet (docs/protocol/udt)."""

    HANDSHAKE = 0
    KEEP_ALIVE = 1
    ACK = 2
    NAK = 3
    CONGESTION_WARNING = 4
    SHUTDOWN = 5
    ACK2 = 6
    MESSAGE_DROP_REQUEST = 7
    ERROR_SIGNAL = 8
    USER = 0x7FFF


def _control(
    type_: int, information: int, packet: Packet, body: bytes, subtype: int = 0
) -> bytes:
    header = HEADER.pack(
        CONTROL_FLAG | type_ << 16 | subtype,
        information,
        packet.timestamp,
        packet.destination_id,
    )
    return header + body


@attrs.frozen(kw_only=True)
class Packet(abc.ABC):
    """What all packets have."""

    destination_id: int
    """The receiving socket; 0 only in connection requests."""
    timestamp: int = 0
    """Microseconds since the sender's socket was opened, modulo 2^32; the reference
    library leaves it 0 in control packets."""

    @abc.abstractmethod
    def encode(self) -> bytes:
        """Return the datagram."""


@attrs.frozen(kw_only=True)
class DataPacket(Packet):
    """A piece of the stream, or of a message."""

    sequence: int
    payload: bytes
    position: int = SOLO
    """FIRST, LAST, both (SOLO) or 0 for the middle of a message."""
    in_order: bool = False
    message_number: int = 1

    def encode(self) -> bytes:
        """Return the datagram."""
        word = self.position | self.message_number
        if self.in_order:
            word |= IN_ORDER
        header = HEADER.pack(self.sequence, word, self.timestamp, self.destination_id)
        return header + self.payload


@attrs.frozen(kw_only=True)
class ControlPacket(Packet, abc.ABC):
    """The base of all packets but data."""


@attrs.frozen(kw_only=True)
class HandshakePacket(ControlPacket):
    """A handshake in its envelope."""

    handshake: Handshake
    trailing: bytes = b""
    """Whatever came after the 48 bytes."""

    def encode(self) -> bytes:
        """Return the datagram."""
        body = self.handshake.encode() + self.trailing
        return _control(ControlType.HANDSHAKE, 0, self, body)


@attrs.frozen(kw_only=True)
class KeepAlive(ControlPacket):
    """The sender is still there."""

    padding: bytes = _PADDING

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(ControlType.KEEP_ALIVE, 0, self, self.padding)


@attrs.frozen(kw_only=True)
class Ack(ControlPacket):
    """An acknowledgement, light, short or full (docs/protocol/udt)."""

    sequence: int
    """All packets before this one have been received."""
    ack_number: int = 0
    """Number to be confirmed by an :class:`Ack2`; 0 in a light ACK."""
    rtt_us: int | None = None
    rtt_variance_us: int | None = None
    available_buffer_packets: int | None = None
    """The flow window; None in a light ACK, as are the two fields before."""
    packet_arrival_speed: int | None = None
    """Packets per second, 0 when unknown; None in a light or short ACK."""
    estimated_link_capacity: int | None = None
    trailing: bytes = b""

    @property
    def light(self) -> bool:
        """Whether this has only the sequence number."""
        return self.available_buffer_packets is None

    def encode(self) -> bytes:
        """Return the datagram."""
        if self.available_buffer_packets is None:
            body = _WORD.pack(self.sequence)
        else:
            body = _SHORT_ACK.pack(
                self.sequence,
                self.rtt_us or 0,
                self.rtt_variance_us or 0,
                self.available_buffer_packets,
            )
            if self.packet_arrival_speed is not None:
                body += _PAIR.pack(
                    self.packet_arrival_speed, self.estimated_link_capacity or 0
                )
        return _control(ControlType.ACK, self.ack_number, self, body + self.trailing)


@attrs.frozen
class Progress:
    """What has arrived behind the first gap; in words of a full ACK that others ignore.

    Sent only to a peer whose ACK2 carried :data:`PROGRESS_MARK`.
    """

    newest: int
    """The sequence number after the newest packet that has arrived."""
    early_packets: int
    """How many packets have arrived behind the first gap."""

    def encode(self) -> bytes:
        """Return what follows the six words of a full ACK."""
        return PROGRESS_MARK + _PAIR.pack(self.newest, self.early_packets)

    @classmethod
    def of(cls, ack: Ack) -> Progress | None:
        """Return what an ACK tells, None if it has no such words."""
        trailing = ack.trailing
        if len(trailing) != _PROGRESS_SIZE or trailing[:4] != PROGRESS_MARK:
            return None
        newest, early_packets = _PAIR.unpack_from(trailing, 4)
        return cls(newest & _SEQUENCE_MASK, early_packets)


@attrs.frozen(kw_only=True)
class Nak(ControlPacket):
    """A report of lost packets (docs/protocol/udt)."""

    ranges: tuple[tuple[int, int], ...]
    """First and last sequence number of each gap, as they came."""

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(ControlType.NAK, 0, self, encode_loss_list(self.ranges))


@attrs.frozen(kw_only=True)
class CongestionWarning(ControlPacket):
    """Asks to send more slowly; nobody sends it, nobody heeds it."""

    padding: bytes = _PADDING

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(ControlType.CONGESTION_WARNING, 0, self, self.padding)


@attrs.frozen(kw_only=True)
class Shutdown(ControlPacket):
    """The sender has closed the connection."""

    padding: bytes = _PADDING

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(ControlType.SHUTDOWN, 0, self, self.padding)


@attrs.frozen(kw_only=True)
class Ack2(ControlPacket):
    """The acknowledgement of an acknowledgement."""

    ack_number: int
    padding: bytes = _PADDING
    """Ignored by the reference library; see :data:`PROGRESS_MARK`."""

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(ControlType.ACK2, self.ack_number, self, self.padding)


@attrs.frozen(kw_only=True)
class MessageDropRequest(ControlPacket):
    """The sender gave up a message (docs/protocol/udt)."""

    message_number: int
    first: int
    last: int
    """The reference library names one more than the message's last packet."""
    trailing: bytes = b""

    def encode(self) -> bytes:
        """Return the datagram."""
        body = _PAIR.pack(self.first, self.last) + self.trailing
        return _control(
            ControlType.MESSAGE_DROP_REQUEST, self.message_number, self, body
        )


@attrs.frozen(kw_only=True)
class ErrorSignal(ControlPacket):
    """The receiving program had an error; 4000 is a failed file write."""

    error_code: int
    padding: bytes = _PADDING

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(ControlType.ERROR_SIGNAL, self.error_code, self, self.padding)


@attrs.frozen(kw_only=True)
class UserControl(ControlPacket):
    """A control packet of a type, or for a program, that we do not know."""

    type: int = ControlType.USER
    subtype: int = 0
    information: int = 0
    body: bytes = b""

    def encode(self) -> bytes:
        """Return the datagram."""
        return _control(self.type, self.information, self, self.body, self.subtype)


def encode_loss_list(ranges: Iterable[tuple[int, int]]) -> bytes:
    """Return the words for ranges of sequence numbers, both ends included."""
    return b"".join(
        _WORD.pack(first) if first == last else _PAIR.pack(first | CONTROL_FLAG, last)
        for first, last in ranges
    )


def decode_loss_list(body: bytes) -> tuple[tuple[int, int], ...]:
    """Read a loss list; a range that lacks its end is left out."""
    ranges: list[tuple[int, int]] = []
    first: int | None = None
    for (word,) in _WORD.iter_unpack(body[: len(body) // 4 * 4]):
        number = word & _SEQUENCE_MASK
        if first is not None:
            ranges.append((first, number))
            first = None
        elif word & CONTROL_FLAG:
            first = number
        else:
            ranges.append((number, number))
    return tuple(ranges)


def _decode_ack(number: int, timestamp: int, destination: int, body: bytes) -> Ack:
    if len(body) < 4:
        raise RemoteProtocolError(f"ACK body of {len(body)} bytes")
    words: list[int | None]
    if len(body) >= 24:
        words, size = list(_FULL_ACK.unpack_from(body)), 24
    elif len(body) >= 16:
        words, size = [*_SHORT_ACK.unpack_from(body), None, None], 16
    else:
        words, size = [*_WORD.unpack_from(body), None, None, None, None, None], 4
    return Ack(
        destination_id=destination,
        timestamp=timestamp,
        ack_number=number,
        sequence=(words[0] or 0) & _SEQUENCE_MASK,
        rtt_us=words[1],
        rtt_variance_us=words[2],
        available_buffer_packets=words[3],
        packet_arrival_speed=words[4],
        estimated_link_capacity=words[5],
        trailing=body[size:],
    )


def _decode_handshake(
    number: int, timestamp: int, destination: int, body: bytes
) -> HandshakePacket:
    return HandshakePacket(
        destination_id=destination,
        timestamp=timestamp,
        handshake=Handshake.decode(body),
        trailing=body[HANDSHAKE_SIZE:],
    )


def _decode_drop(
    number: int, timestamp: int, destination: int, body: bytes
) -> MessageDropRequest:
    if len(body) < 8:
        raise RemoteProtocolError(f"message drop request body of {len(body)} bytes")
    first, last = _PAIR.unpack_from(body)
    return MessageDropRequest(
        destination_id=destination,
        timestamp=timestamp,
        message_number=number,
        first=first & _SEQUENCE_MASK,
        last=last & _SEQUENCE_MASK,
        trailing=body[8:],
    )


_DECODERS: dict[int, Callable[[int, int, int, bytes], Packet]] = {
    ControlType.HANDSHAKE: _decode_handshake,
    ControlType.KEEP_ALIVE: lambda n, t, d, b: KeepAlive(
        destination_id=d, timestamp=t, padding=b
    ),
    ControlType.ACK: _decode_ack,
    ControlType.NAK: lambda n, t, d, b: Nak(
        destination_id=d, timestamp=t, ranges=decode_loss_list(b)
    ),
    ControlType.CONGESTION_WARNING: lambda n, t, d, b: CongestionWarning(
        destination_id=d, timestamp=t, padding=b
    ),
    ControlType.SHUTDOWN: lambda n, t, d, b: Shutdown(
        destination_id=d, timestamp=t, padding=b
    ),
    ControlType.ACK2: lambda n, t, d, b: Ack2(
        destination_id=d, timestamp=t, ack_number=n, padding=b
    ),
    ControlType.MESSAGE_DROP_REQUEST: _decode_drop,
    ControlType.ERROR_SIGNAL: lambda n, t, d, b: ErrorSignal(
        destination_id=d, timestamp=t, error_code=n, padding=b
    ),
}


# [udt:packet-format]
def decode(data: bytes) -> Packet:
    """Read a datagram.

    Bodies that are too long are accepted, unknown types become
    :class:`UserControl`.

    :raises RemoteProtocolError: if the datagram or the body of its type is too short.
    """
    if len(data) < HEADER_SIZE:
        raise RemoteProtocolError(f"datagram of {len(data)} bytes")
    first, second, timestamp, destination = HEADER.unpack_from(data)
    body = data[HEADER_SIZE:]
    if not first & CONTROL_FLAG:
        return DataPacket(
            destination_id=destination,
            timestamp=timestamp,
            sequence=first,
            position=second & SOLO,
            in_order=bool(second & IN_ORDER),
            message_number=second & _MESSAGE_MASK,
            payload=body,
        )
    type_ = first >> 16 & 0x7FFF
    decoder = _DECODERS.get(type_)
    if decoder is not None:
        return decoder(second, timestamp, destination, body)
    return UserControl(
        destination_id=destination,
        timestamp=timestamp,
        type=type_,
        subtype=first & 0xFFFF,
        information=second,
        body=body,
    )
