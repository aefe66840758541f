"""STUN messages (RFC 8489, sections 5 and 14): header, attributes, trailers.

The trailers MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT protect the
bytes of one encoding and are therefore no attributes of a :class:`STUNMessage`:
:meth:`STUNMessage.encode` makes them, and a message that was decoded tells which of
them its bytes carried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import IntEnum
from struct import Struct

import attrs

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun import integrity

__all__ = [
    "HEADER_LENGTH",
    "MAGIC_COOKIE",
    "MAX_ATTRIBUTES",
    "TRANSACTION_ID_LENGTH",
    "MessageClass",
    "RawAttribute",
    "STUNMessage",
    "is_stun",
]

HEADER_LENGTH = 20
"""Bytes before the first attribute."""

MAGIC_COOKIE = 0x2112A442
"""The fixed second word of each message (RFC 8489, 5)."""

TRANSACTION_ID_LENGTH = 12
"""Bytes of a transaction id."""

MAX_ATTRIBUTES = 256
"""Attributes that one received message may have; a limit of ours."""

_MAX_BODY = 0xFFFC
_HEADER = Struct("!HHI12s")
_PREFIX = Struct("!HHI")
_ATTRIBUTE = Struct("!HH")
_COMPREHENSION_OPTIONAL = 0x8000


class MessageClass(IntEnum):
    """The class of a message (RFC 8489, 5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


@attrs.frozen
class RawAttribute:
    """An attribute as on the wire, without its padding.

    :ivar type: its number; those below 0x8000 must be understood by the receiver.
    :ivar value: at most 65,535 bytes.
    """

    type: int
    value: bytes = attrs.field(default=b"", repr=lambda value: f"<{len(value)} bytes>")


@attrs.frozen
class _Encoding:
    """The bytes that a message was decoded from, and where its trailers start."""

    raw: bytes
    integrity_at: int | None = None
    integrity_sha256_at: int | None = None
    fingerprint_at: int | None = None


@attrs.frozen
class STUNMessage:
    """One message; equal to another that says the same, however it is protected.

    :ivar method: 12 bits, 0x001 is Binding.
    :ivar message_class: request, indication, or one of the answers.
    :ivar transaction_id: 12 random bytes, the same in request and answer.
    :ivar attributes: in the order of the wire, duplicates included, trailers not.
    """

    method: int
    message_class: MessageClass
    transaction_id: bytes = attrs.field(repr=lambda value: value.hex())
    attributes: tuple[RawAttribute, ...] = ()
    _encoding: _Encoding | None = attrs.field(
        default=None, eq=False, repr=False, kw_only=True, alias="_encoding"
    )

    # Reading

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> STUNMessage:
        """Read one whole message.

        A FINGERPRINT is checked here; integrity needs a key, so the receiver must
        call :meth:`verify_integrity`. What follows an integrity attribute and is
        not protected by it is ignored, as RFC 8489, 14.5 and 14.6 ask.

        :raises RemoteProtocolError: code 400, for anything that is not a message.
        """
        raw = bytes(data)
        if not is_stun(raw):
            raise RemoteProtocolError("not a STUN message", 400)
        message_type, _, _, transaction_id = _HEADER.unpack_from(raw)
        attributes, encoding = _decode_attributes(raw)
        return cls(
            _method_of(message_type),
            _class_of(message_type),
            transaction_id,
            tuple(attributes),
            _encoding=encoding,
        )

    @property
    def raw(self) -> bytes:
        """The bytes that this message was decoded from; empty if it was not."""
        return self._encoding.raw if self._encoding else b""

    @property
    def has_integrity(self) -> bool:
        """Whether it came with an integrity attribute of either kind (unverified)."""
        return self._encoding is not None and (
            self._encoding.integrity_at is not None
            or self._encoding.integrity_sha256_at is not None
        )

    @property
    def has_integrity_sha256(self) -> bool:
        """Whether it came with a MESSAGE-INTEGRITY-SHA256 (unverified)."""
        return (
            self._encoding is not None
            and self._encoding.integrity_sha256_at is not None
        )

    @property
    def has_fingerprint(self) -> bool:
        """Whether it came with a (correct) FINGERPRINT."""
        return self._encoding is not None and self._encoding.fingerprint_at is not None

    def verify_integrity(self, key: bytes, *, minimum_length: int = 32) -> bool:
        """Tell whether MESSAGE-INTEGRITY-SHA256 is there and made with ``key``.

        :param minimum_length: bytes that a truncated value must have at least;
            RFC 8489, 14.6 allows less than 32 only where a usage says so.
        """
        at = self._encoding.integrity_sha256_at if self._encoding else None
        return at is not None and integrity.verify_sha256(
            self.raw, at, key, minimum_length
        )

    def verify_integrity_sha1(self, key: bytes) -> bool:
        """Tell whether MESSAGE-INTEGRITY is there and made with ``key``.

        Only for clients that know nothing newer than RFC 5389.
        """
        at = self._encoding.integrity_at if self._encoding else None
        return at is not None and integrity.verify_sha1(self.raw, at, key)

    def get(self, attribute_type: int) -> bytes | None:
        """Return the value of the first attribute of a type, the one that counts."""
        for attribute in self.attributes:
            if attribute.type == attribute_type:
                return attribute.value
        return None

    def get_all(self, attribute_type: int) -> list[bytes]:
        """Return the values of all attributes of a type, in their order."""
        return [a.value for a in self.attributes if a.type == attribute_type]

    def require(self, attribute_type: int) -> bytes:
        """Return the value of the first attribute of a type.

        :raises RemoteProtocolError: code 400, if there is none.
        """
        value = self.get(attribute_type)
        if value is None:
            raise RemoteProtocolError(
                f"attribute 0x{attribute_type:04X} is missing", 400
            )
        return value

    def unknown_attributes(self, known: Collection[int]) -> list[int]:
        """List the comprehension-required types that are not in ``known``, once each.

        A request with any of them is answered with 420 and this list.
        """
        return list(
            dict.fromkeys(
                a.type
                for a in self.attributes
                if a.type < _COMPREHENSION_OPTIONAL and a.type not in known
            )
        )

    # Making

    def success(self, attributes: Iterable[RawAttribute] = ()) -> STUNMessage:
        """Return the success answer to this request."""
        return self._answer(MessageClass.SUCCESS, attributes)

    def error(self, attributes: Iterable[RawAttribute]) -> STUNMessage:
        """Return an error answer; see :func:`~.attributes.error_attribute`."""
        return self._answer(MessageClass.ERROR, attributes)

    def _answer(
        self, message_class: MessageClass, attributes: Iterable[RawAttribute]
    ) -> STUNMessage:
        if self.message_class is not MessageClass.REQUEST:
            raise LocalProtocolError("only requests are answered")
        return STUNMessage(
            self.method, message_class, self.transaction_id, tuple(attributes)
        )

    def with_attributes(self, *attributes: RawAttribute) -> STUNMessage:
        """Return a message with ``attributes`` added at the end."""
        return STUNMessage(
            self.method,
            self.message_class,
            self.transaction_id,
            (*self.attributes, *attributes),
        )

    def encode(
        self,
        *,
        integrity_key: bytes | None = None,
        integrity_sha1_key: bytes | None = None,
        integrity_length: int = 32,
        fingerprint: bool = False,
    ) -> bytes:
        """Return the bytes for the wire.

        :param integrity_key: adds MESSAGE-INTEGRITY-SHA256 made with it.
        :param integrity_sha1_key: adds MESSAGE-INTEGRITY made with it.
        :param integrity_length: bytes of MESSAGE-INTEGRITY-SHA256 to keep, 16 to 32
            and a multiple of 4.
        :param fingerprint: adds FINGERPRINT.
        :raises LocalProtocolError: if a field is out of range or all is too long.
        """
        encoded = bytearray(self._header())
        for attribute in self.attributes:
            _append_attribute(encoded, attribute)
        if integrity_sha1_key is not None:
            integrity.append_sha1(encoded, integrity_sha1_key)
        if integrity_key is not None:
            integrity.append_sha256(encoded, integrity_key, integrity_length)
        if fingerprint:
            integrity.append_fingerprint(encoded)
        if len(encoded) - HEADER_LENGTH > _MAX_BODY:
            raise LocalProtocolError(f"a message of {len(encoded)} bytes is too long")
        integrity.set_length(encoded, len(encoded) - HEADER_LENGTH)
        return bytes(encoded)

    def _header(self) -> bytes:
        if not 0 <= self.method <= 0xFFF:
            raise LocalProtocolError(f"method {self.method} is not of 12 bits")
        if len(self.transaction_id) != TRANSACTION_ID_LENGTH:
            raise LocalProtocolError("a transaction id has 12 bytes")
        return _HEADER.pack(
            _message_type(self.method, self.message_class),
            0,
            MAGIC_COOKIE,
            self.transaction_id,
        )


def is_stun(data: bytes | bytearray | memoryview) -> bool:
    """Tell whether a datagram is a STUN message and not UDT or something else.

    Cheap, for each datagram: two leading zero bits, the magic cookie, and the
    length of the datagram in the length field, which is a multiple of 4.
    """
    if len(data) < HEADER_LENGTH:
        return False
    message_type, length, cookie = _PREFIX.unpack_from(data)
    return bool(
        message_type < 0x4000
        and cookie == MAGIC_COOKIE
        and length == len(data) - HEADER_LENGTH
        and length % 4 == 0
    )


# The class bits C1 and C0 stand at 0x100 and 0x010 among the bits of the method.


def _message_type(method: int, message_class: MessageClass) -> int:
    return (
        (method & 0xF80) << 2
        | (method & 0x070) << 1
        | (method & 0x00F)
        | (message_class & 2) << 7
        | (message_class & 1) << 4
    )


def _method_of(message_type: int) -> int:
    return (
        (message_type & 0x3E00) >> 2
        | (message_type & 0x00E0) >> 1
        | (message_type & 0x000F)
    )


def _class_of(message_type: int) -> MessageClass:
    return MessageClass((message_type & 0x0100) >> 7 | (message_type & 0x0010) >> 4)


def _append_attribute(encoded: bytearray, attribute: RawAttribute) -> None:
    length = len(attribute.value)
    if not 0 <= attribute.type <= 0xFFFF or length > 0xFFFF:
        raise LocalProtocolError(f"{attribute} does not fit on the wire")
    if attribute.type in integrity.TRAILERS:
        raise LocalProtocolError("trailers are made by encode() itself")
    encoded += _ATTRIBUTE.pack(attribute.type, length)
    encoded += attribute.value
    encoded += bytes(-length % 4)


def _decode_attributes(raw: bytes) -> tuple[list[RawAttribute], _Encoding]:
    attributes: list[RawAttribute] = []
    trailers: dict[int, int] = {}
    at, count = HEADER_LENGTH, 0
    while at < len(raw):
        # The body is a multiple of 4, so that a header always fits in the rest.
        attribute_type, length = _ATTRIBUTE.unpack_from(raw, at)
        value_at, next_at = at + 4, at + 4 + length + -length % 4
        count += 1
        if next_at > len(raw):
            raise RemoteProtocolError("an attribute is cut off", 400)
        if count > MAX_ATTRIBUTES:
            raise RemoteProtocolError("too many attributes", 400)
        if integrity.FINGERPRINT in trailers:
            raise RemoteProtocolError("FINGERPRINT is not the last attribute", 400)
        if attribute_type in integrity.TRAILERS:
            integrity.check_trailer_length(attribute_type, length)
            if _counts(attribute_type, trailers):
                trailers[attribute_type] = at
        elif not trailers:
            attributes.append(
                RawAttribute(attribute_type, raw[value_at:next_at][:length])
            )
        at = next_at
    fingerprint_at = trailers.get(integrity.FINGERPRINT)
    if fingerprint_at is not None and not integrity.verify_fingerprint(
        raw, fingerprint_at
    ):
        raise RemoteProtocolError("FINGERPRINT is wrong", 400)
    return attributes, _Encoding(
        raw,
        trailers.get(integrity.MESSAGE_INTEGRITY),
        trailers.get(integrity.MESSAGE_INTEGRITY_SHA256),
        fingerprint_at,
    )


def _counts(attribute_type: int, trailers: dict[int, int]) -> bool:
    """Tell whether a trailer counts after those before it (RFC 8489, 14.5, 14.6)."""
    if attribute_type == integrity.MESSAGE_INTEGRITY:
        return not trailers
    return attribute_type not in trailers
