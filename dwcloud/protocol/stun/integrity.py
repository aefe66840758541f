"""What protects the bytes of a message (RFC 8489, sections 14.5 to 14.7).

Each trailer covers all that stands before it, with the length field of the header
set as if the message ended with that trailer. The functions work on raw messages and
know the offset of a trailer, not what a message means.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib

from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "FINGERPRINT",
    "MESSAGE_INTEGRITY",
    "MESSAGE_INTEGRITY_SHA256",
    "TRAILERS",
    "append_fingerprint",
    "append_sha1",
    "append_sha256",
    "check_trailer_length",
    "set_length",
    "verify_fingerprint",
    "verify_sha1",
    "verify_sha256",
]

MESSAGE_INTEGRITY = 0x0008
"""HMAC-SHA1, 20 bytes."""
MESSAGE_INTEGRITY_SHA256 = 0x001C
"""HMAC-SHA256, 16 to 32 bytes."""
FINGERPRINT = 0x8028
"""CRC-32, 4 bytes, always the last attribute."""

TRAILERS = frozenset({MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256, FINGERPRINT})
"""The attributes that protect what precedes them."""

_LENGTHS = {
    MESSAGE_INTEGRITY: range(20, 21),
    MESSAGE_INTEGRITY_SHA256: range(16, 33, 4),
    FINGERPRINT: range(4, 5),
}
_FINGERPRINT_MASK = 0x5354554E
_HEADER_LENGTH = 20
_ATTRIBUTE_HEADER_LENGTH = 4


def set_length(encoded: bytearray, length: int) -> None:
    """Write ``length``, in bytes, into the length field of the header."""
    # The caller refuses what is too long once all is appended.
    encoded[2:4] = (length & 0xFFFF).to_bytes(2, "big")


def check_trailer_length(attribute_type: int, length: int) -> None:
    """Refuse a trailer whose value has a length that it cannot have.

    :raises RemoteProtocolError: code 400.
    """
    if length not in _LENGTHS[attribute_type]:
        raise RemoteProtocolError(
            f"trailer 0x{attribute_type:04X} of {length} bytes", 400
        )


def append_sha1(encoded: bytearray, key: bytes) -> None:
    """Append MESSAGE-INTEGRITY."""
    _prepare(encoded, MESSAGE_INTEGRITY, 20)
    covered = encoded[:-_ATTRIBUTE_HEADER_LENGTH]
    encoded += hmac.digest(key, bytes(covered), hashlib.sha1)


def append_sha256(encoded: bytearray, key: bytes, length: int = 32) -> None:
    """Append MESSAGE-INTEGRITY-SHA256, truncated to ``length`` bytes.

    :raises LocalProtocolError: if ``length`` is not 16, 20, 24, 28 or 32.
    """
    if length not in _LENGTHS[MESSAGE_INTEGRITY_SHA256]:
        raise LocalProtocolError(f"MESSAGE-INTEGRITY-SHA256 of {length} bytes")
    _prepare(encoded, MESSAGE_INTEGRITY_SHA256, length)
    covered = encoded[:-_ATTRIBUTE_HEADER_LENGTH]
    encoded += hmac.digest(key, bytes(covered), hashlib.sha256)[:length]


def append_fingerprint(encoded: bytearray) -> None:
    """Append FINGERPRINT."""
    _prepare(encoded, FINGERPRINT, 4)
    covered = encoded[:-_ATTRIBUTE_HEADER_LENGTH]
    encoded += _fingerprint(bytes(covered))


def verify_sha1(raw: bytes, at: int, key: bytes) -> bool:
    """Tell whether the MESSAGE-INTEGRITY at offset ``at`` was made with ``key``."""
    received = _value(raw, at)
    computed = hmac.digest(key, _covered(raw, at, len(received)), hashlib.sha1)
    return hmac.compare_digest(received, computed)


def verify_sha256(raw: bytes, at: int, key: bytes, minimum_length: int = 32) -> bool:
    """Tell whether the MESSAGE-INTEGRITY-SHA256 at ``at`` was made with ``key``.

    :param minimum_length: shorter values (bytes) count as wrong.
    """
    received = _value(raw, at)
    if len(received) < max(minimum_length, 16):
        return False
    computed = hmac.digest(key, _covered(raw, at, len(received)), hashlib.sha256)
    return hmac.compare_digest(received, computed[: len(received)])


def verify_fingerprint(raw: bytes, at: int) -> bool:
    """Tell whether the FINGERPRINT at offset ``at`` is that of the bytes before it."""
    return _value(raw, at) == _fingerprint(_covered(raw, at, 4))


def _prepare(encoded: bytearray, attribute_type: int, length: int) -> None:
    """Append the header of a trailer and count the trailer in the length field."""
    encoded += attribute_type.to_bytes(2, "big") + length.to_bytes(2, "big")
    set_length(encoded, len(encoded) + length - _HEADER_LENGTH)


def _value(raw: bytes, at: int) -> bytes:
    length = int.from_bytes(raw[at + 2 : at + 4], "big")
    return raw[at + 4 : at + 4 + length]


def _covered(raw: bytes, at: int, length: int) -> bytes:
    body_length = at + _ATTRIBUTE_HEADER_LENGTH + length - _HEADER_LENGTH
    return raw[:2] + body_length.to_bytes(2, "big") + raw[4:at]


def _fingerprint(covered: bytes) -> bytes:
    return (zlib.crc32(covered) ^ _FINGERPRINT_MASK).to_bytes(4, "big")
