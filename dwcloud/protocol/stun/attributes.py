"""Attributes of RFC 8489 and RFC 5780: their numbers and the form of their values.

Functions named ``..._attribute`` make a whole :class:`~.message.RawAttribute`;
``decode_...`` read a value and raise ``RemoteProtocolError`` with code 400 if it is
malformed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.stun.message import MAGIC_COOKIE, RawAttribute

__all__ = [
    "BINDING",
    "MAX_TEXT",
    "REASONS",
    "STANDARD_ATTRIBUTES",
    "AttributeType",
    "ErrorCode",
    "PasswordAlgorithm",
    "PasswordAlgorithms",
    "address_attribute",
    "decode_address",
    "decode_error_code",
    "decode_password_algorithm",
    "decode_password_algorithms",
    "decode_text",
    "decode_unknown_attributes",
    "decode_xor_address",
    "error_attribute",
    "padding_attribute",
    "password_algorithm_attribute",
    "password_algorithms_attribute",
    "text_attribute",
    "unknown_attributes_attribute",
    "xor_address_attribute",
]

BINDING = 0x001
"""The method that tells a client its reflexive address."""

MAX_TEXT = 509
"""Bytes of a text that we send, at most (RFC 8489, 14.3, 14.8, 14.9, 14.10, 14.14)."""

_MAX_RECEIVED_TEXT = 763
_COOKIE = MAGIC_COOKIE.to_bytes(4, "big")


class AttributeType(IntEnum):
    """Numbers of attributes (RFC 8489, 18.3; RFC 5780, 9.1)."""

    MAPPED_ADDRESS = 0x0001
    CHANGE_REQUEST = 0x0003
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    REALM = 0x0014
    NONCE = 0x0015
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    PASSWORD_ALGORITHM = 0x001D
    USERHASH = 0x001E
    XOR_MAPPED_ADDRESS = 0x0020
    PADDING = 0x0026
    RESPONSE_PORT = 0x0027
    PASSWORD_ALGORITHMS = 0x8002
    ALTERNATE_DOMAIN = 0x8003
    SOFTWARE = 0x8022
    ALTERNATE_SERVER = 0x8023
    FINGERPRINT = 0x8028
    RESPONSE_ORIGIN = 0x802B
    OTHER_ADDRESS = 0x802C


STANDARD_ATTRIBUTES = frozenset(
    {
        AttributeType.MAPPED_ADDRESS,
        AttributeType.USERNAME,
        AttributeType.MESSAGE_INTEGRITY,
        AttributeType.ERROR_CODE,
        AttributeType.UNKNOWN_ATTRIBUTES,
        AttributeType.REALM,
        AttributeType.NONCE,
        AttributeType.MESSAGE_INTEGRITY_SHA256,
        AttributeType.PASSWORD_ALGORITHM,
        AttributeType.USERHASH,
        AttributeType.XOR_MAPPED_ADDRESS,
    }
)
"""The comprehension-required attributes of RFC 8489: all of them are understood."""

REASONS = {
    300: "Try Alternate",
    400: "Bad Request",
    401: "Unauthenticated",
    403: "Forbidden",
    404: "Not Found",
    413: "Message Too Long",
    420: "Unknown Attribute",
    438: "Stale Nonce",
    500: "Server Error",
    503: "Overloaded",
}
"""Reason phrases of the error codes in use (RFC 8489, 14.8, and ours)."""


class ErrorCode(NamedTuple):
    """What an error answer says.

    :ivar code: 300 to 699.
    :ivar reason: for a person to read.
    """

    code: int
    reason: str


class PasswordAlgorithm(IntEnum):
    """How a key is made from a password (RFC 8489, 18.5)."""

    MD5 = 0x0001
    SHA256 = 0x0002


PasswordAlgorithms = tuple[tuple[int, bytes], ...]
"""Algorithm numbers, known or not, with their parameters, most preferred first."""


# Addresses


def address_attribute(
    attribute_type: int, address: tuple[str, int] | Address
) -> RawAttribute:
    """Make MAPPED-ADDRESS, ALTERNATE-SERVER or another in the same form (14.1)."""
    return RawAttribute(attribute_type, _encode_address(address))


def decode_address(value: bytes) -> Address:
    """Read the value of an attribute in the form of MAPPED-ADDRESS."""
    if len(value) < 4 or (value[1], len(value)) not in ((1, 8), (2, 20)):
        raise RemoteProtocolError("a malformed address", 400)
    host = ipaddress.ip_address(value[4:])
    return Address(str(host), int.from_bytes(value[2:4], "big"))


def xor_address_attribute(
    attribute_type: int, address: tuple[str, int] | Address, transaction_id: bytes
) -> RawAttribute:
    """Make XOR-MAPPED-ADDRESS or another in the same form (14.2).

    Masked, so that a NAT which rewrites addresses in passing does not find it.
    """
    value = _encode_address(address)
    return RawAttribute(attribute_type, _mask(value, transaction_id))


def decode_xor_address(value: bytes, transaction_id: bytes) -> Address:
    """Read the value of an attribute in the form of XOR-MAPPED-ADDRESS."""
    return decode_address(_mask(value, transaction_id))


def _encode_address(address: tuple[str, int] | Address) -> bytes:
    host, port = address
    try:
        ip = ipaddress.ip_address(host)
        encoded_port = port.to_bytes(2, "big")
    except (ValueError, OverflowError) as error:
        raise LocalProtocolError(f"{address} is no IP address and port") from error
    return bytes((0, 1 if ip.version == 4 else 2)) + encoded_port + ip.packed


def _mask(value: bytes, transaction_id: bytes) -> bytes:
    mask = b"\0\0" + _COOKIE[:2] + _COOKIE + transaction_id
    # A value too long for the mask is no address; decode_address() refuses it.
    masked = bytes(a ^ b for a, b in zip(value, mask, strict=False))
    return masked + value[len(mask) :]


# Errors


def error_attribute(code: int, reason: str | None = None) -> RawAttribute:
    """Make ERROR-CODE (14.8).

    :param code: 300 to 699.
    :param reason: None takes the phrase of :data:`REASONS`; the empty string
        makes the shortest answer.
    """
    if not 300 <= code <= 699:
        raise LocalProtocolError(f"{code} is not an error code")
    phrase = _encode_text(REASONS.get(code, "") if reason is None else reason)
    return RawAttribute(
        AttributeType.ERROR_CODE, bytes((0, 0, code // 100, code % 100)) + phrase
    )


def decode_error_code(value: bytes) -> ErrorCode:
    """Read the value of ERROR-CODE."""
    if len(value) < 4 or not 3 <= value[2] & 7 <= 6 or value[3] > 99:
        raise RemoteProtocolError("a malformed ERROR-CODE", 400)
    # A reason is only shown to people: one in a strange encoding is no reason to
    # lose the code.
    reason = value[4 : 4 + _MAX_RECEIVED_TEXT].decode("utf-8", "replace")
    return ErrorCode((value[2] & 7) * 100 + value[3], reason)


def unknown_attributes_attribute(attribute_types: Iterable[int]) -> RawAttribute:
    """Make UNKNOWN-ATTRIBUTES (14.13)."""
    value = b"".join(number.to_bytes(2, "big") for number in attribute_types)
    return RawAttribute(AttributeType.UNKNOWN_ATTRIBUTES, value)


def decode_unknown_attributes(value: bytes) -> list[int]:
    """Read the value of UNKNOWN-ATTRIBUTES."""
    if len(value) % 2:
        raise RemoteProtocolError("a malformed UNKNOWN-ATTRIBUTES", 400)
    return [int.from_bytes(value[i : i + 2], "big") for i in range(0, len(value), 2)]


# Texts


def text_attribute(attribute_type: int, text: str) -> RawAttribute:
    """Make SOFTWARE, USERNAME, REALM or another text, UTF-8 and at most 509 bytes."""
    return RawAttribute(attribute_type, _encode_text(text))


def decode_text(value: bytes) -> str:
    """Read the value of an attribute that is a text, at most 763 bytes of UTF-8."""
    if len(value) > _MAX_RECEIVED_TEXT:
        raise RemoteProtocolError("a text is too long", 400)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("a text is not UTF-8", 400) from error


def _encode_text(text: str) -> bytes:
    encoded = text.encode("utf-8")
    if len(encoded) > MAX_TEXT:
        raise LocalProtocolError(f"a text of {len(encoded)} bytes is too long")
    return encoded


# Passwords


def password_algorithm_attribute(
    algorithm: int, parameters: bytes = b""
) -> RawAttribute:
    """Make PASSWORD-ALGORITHM (14.12): the one that the client chose."""
    return RawAttribute(
        AttributeType.PASSWORD_ALGORITHM, _encode_algorithm(algorithm, parameters)
    )


def password_algorithms_attribute(algorithms: PasswordAlgorithms) -> RawAttribute:
    """Make PASSWORD-ALGORITHMS (14.11): what the server offers, best first."""
    return RawAttribute(
        AttributeType.PASSWORD_ALGORITHMS,
        b"".join(_encode_algorithm(number, value) for number, value in algorithms),
    )


def decode_password_algorithm(value: bytes) -> tuple[int, bytes]:
    """Read the value of PASSWORD-ALGORITHM: number and parameters."""
    algorithms = decode_password_algorithms(value)
    if len(algorithms) != 1:
        raise RemoteProtocolError("PASSWORD-ALGORITHM is not one algorithm", 400)
    return algorithms[0]


def decode_password_algorithms(value: bytes) -> PasswordAlgorithms:
    """Read the value of PASSWORD-ALGORITHMS."""
    algorithms: list[tuple[int, bytes]] = []
    at = 0
    while at < len(value):
        number = int.from_bytes(value[at : at + 2], "big")
        length = int.from_bytes(value[at + 2 : at + 4], "big")
        end = at + 4 + length
        if end > len(value):
            raise RemoteProtocolError("a malformed password algorithm", 400)
        algorithms.append((number, value[at + 4 : end]))
        at = end + -length % 4
    return tuple(algorithms)


def _encode_algorithm(algorithm: int, parameters: bytes) -> bytes:
    header = algorithm.to_bytes(2, "big") + len(parameters).to_bytes(2, "big")
    return header + parameters + bytes(-len(parameters) % 4)


# Padding


def padding_attribute(message_length: int, target_length: int) -> RawAttribute | None:
    """Make a PADDING (RFC 5780, 7.6) that brings a message to a length.

    :param message_length: bytes of the encoded message without it.
    :param target_length: bytes wanted, a multiple of 4.
    :return: None where the message is long enough, or too long for the four bytes
        that the smallest PADDING takes.
    """
    missing = target_length - message_length - 4
    if missing < 0:
        return None
    return RawAttribute(AttributeType.PADDING, bytes(missing))
