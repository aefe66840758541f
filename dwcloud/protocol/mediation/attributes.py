"""The attributes of mediation: their numbers and the form of their values.

Comprehension-required attributes are numbered from 0x4D01 and optional ones from
0xCD01, both in ranges that no standard has assigned (RFC 8489, 18.3).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants.access import MAX_GRANT
from dwcloud.protocol.grants.relay import RELAY_GRANT_BYTES
from dwcloud.protocol.grants.revocations import (
    AccessState,
    Revocation,
    decode_revocations,
    encode_revocations,
)
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.stun.attributes import decode_xor_address, xor_address_attribute

__all__ = [
    "ACCESS_GRANT",
    "ACCESS_STATE",
    "ACTIVITY",
    "CLIENT_NAME",
    "CONNECTION_PARAMETERS",
    "CONNECT_SESSION_ID",
    "CONNECT_TIME",
    "FORWARDED_ENDPOINT",
    "KEEP_ALIVE",
    "KINDS",
    "MAX_CERTIFICATE",
    "MAX_ENDPOINTS",
    "MAX_RELAY_URLS",
    "MEDIATOR_ENDPOINT",
    "NAT_BEHAVIOUR",
    "PATH",
    "PEER_NAME",
    "PROTOCOL_VERSION",
    "PUBLIC_KEY",
    "PUNCH_KEY",
    "RECONNECT_DELAY",
    "RELAY_GRANT",
    "RELAY_URL",
    "RESPONSE_TIME",
    "RESULT_CODE",
    "REVOCATIONS",
    "SEQUENCE",
    "SERVER_CERTIFICATE",
    "SERVER_FIRST",
    "SIGNATURE",
    "SYSTEM_CERTIFICATE",
    "TCP_ENDPOINT",
    "TOKEN",
    "UDP_ENDPOINT",
    "UNPROVEN_ENDPOINT",
    "UPLINK_RATE",
    "WITHOUT_UDP",
    "AttributeKind",
]

MAX_ENDPOINTS = 16
"""Addresses of one kind that one message may carry."""
MAX_RELAY_URLS = 4
"""Relay URLs that one message may carry."""
MAX_CERTIFICATE = 4096
"""Bytes of a certificate."""

ValueT = TypeVar("ValueT")


@attrs.frozen
class AttributeKind(Generic[ValueT]):
    """A kind of attribute.

    :ivar number: its type on the wire, 16 bits.
    :ivar name: as in the documentation of the protocol.
    :ivar encode: value and transaction id to bytes; LocalProtocolError if it
        cannot be sent.
    :ivar decode: bytes and transaction id to a value; RemoteProtocolError with code
        400 if they are malformed.
    :ivar limit: how many of them a message may carry.
    """

    number: int
    name: str
    encode: Callable[[ValueT, bytes], bytes] = attrs.field(repr=False)
    decode: Callable[[bytes, bytes], ValueT] = attrs.field(repr=False)
    limit: int = 1


def _bytes(number: int, name: str, least: int, most: int) -> AttributeKind[bytes]:
    def encode(value: bytes, transaction_id: bytes) -> bytes:
        if not least <= len(value) <= most:
            raise LocalProtocolError(f"{name} of {len(value)} bytes")
        return value

    def decode(data: bytes, transaction_id: bytes) -> bytes:
        if not least <= len(data) <= most:
            raise RemoteProtocolError(f"{name} of {len(data)} bytes", 400)
        return data

    return AttributeKind(number, name, encode, decode)


def _text(number: int, name: str, most: int, limit: int = 1) -> AttributeKind[str]:
    def encode(value: str, transaction_id: bytes) -> bytes:
        encoded = value.encode("utf-8")
        if len(encoded) > most or not value.isprintable():
            raise LocalProtocolError(f"{value!r} cannot be sent as {name}")
        return encoded

    def decode(data: bytes, transaction_id: bytes) -> str:
        if len(data) > most:
            raise RemoteProtocolError(f"{name} of {len(data)} bytes", 400)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"{name} is not UTF-8", 400) from error
        # It ends up in logs and terminals.
        if not text.isprintable():
            raise RemoteProtocolError(f"{name} has unprintable characters", 400)
        return text

    return AttributeKind(number, name, encode, decode, limit)


def _number(number: int, name: str, size: int) -> AttributeKind[int]:
    def encode(value: int, transaction_id: bytes) -> bytes:
        try:
            return value.to_bytes(size, "big")
        except OverflowError:
            raise LocalProtocolError(f"{value} cannot be sent as {name}") from None

    def decode(data: bytes, transaction_id: bytes) -> int:
        if len(data) != size:
            raise RemoteProtocolError(f"{name} of {len(data)} bytes", 400)
        return int.from_bytes(data, "big")

    return AttributeKind(number, name, encode, decode)


def _seconds(number: int, name: str) -> AttributeKind[float]:
    """A duration: whole milliseconds in 4 bytes; longer ones are cut to the most."""

    def encode(value: float, transaction_id: bytes) -> bytes:
        return min(max(round(value * 1000), 0), 0xFFFFFFFF).to_bytes(4, "big")

    def decode(data: bytes, transaction_id: bytes) -> float:
        if len(data) != 4:
            raise RemoteProtocolError(f"{name} of {len(data)} bytes", 400)
        return int.from_bytes(data, "big") / 1000

    return AttributeKind(number, name, encode, decode)


def _flag(number: int, name: str) -> AttributeKind[bool]:
    """Something that is said by being there, without a value."""

    def encode(value: bool, transaction_id: bytes) -> bytes:
        if not value:
            raise LocalProtocolError(f"{name} is left out where it does not hold")
        return b""

    def decode(data: bytes, transaction_id: bytes) -> bool:
        if data:
            raise RemoteProtocolError(f"{name} of {len(data)} bytes", 400)
        return True

    return AttributeKind(number, name, encode, decode)


def _endpoint(number: int, name: str) -> AttributeKind[Address]:
    """An address in the form of XOR-MAPPED-ADDRESS, repeated for a list of them."""

    def encode(value: Address, transaction_id: bytes) -> bytes:
        return xor_address_attribute(number, value, transaction_id).value

    return AttributeKind(number, name, encode, decode_xor_address, MAX_ENDPOINTS)


def _encode_guid(value: uuid.UUID, transaction_id: bytes) -> bytes:
    return value.bytes


def _decode_guid(data: bytes, transaction_id: bytes) -> uuid.UUID:
    if len(data) != 16:
        raise RemoteProtocolError(f"an identifier of {len(data)} bytes", 400)
    return uuid.UUID(bytes=data)


def _encode_peer_name(value: PeerName, transaction_id: bytes) -> bytes:
    return value.system.bytes + (value.server.bytes if value.server else b"")


def _decode_peer_name(data: bytes, transaction_id: bytes) -> PeerName:
    if len(data) not in (16, 32):
        raise RemoteProtocolError(f"PEER-NAME of {len(data)} bytes", 400)
    server = uuid.UUID(bytes=data[16:]) if len(data) == 32 else None
    return PeerName(uuid.UUID(bytes=data[:16]), server)


PEER_NAME = AttributeKind(0x4D01, "PEER-NAME", _encode_peer_name, _decode_peer_name)
"""The system's GUID, 16 bytes; then the server's, if one is named."""
CONNECT_SESSION_ID = AttributeKind(
    0x4D02, "CONNECT-SESSION-ID", _encode_guid, _decode_guid
)
"""128 bits that the client chose at random."""
TCP_ENDPOINT = _endpoint(0x4D03, "TCP-ENDPOINT")
"""A local TCP address of the server."""
FORWARDED_ENDPOINT = _endpoint(0x4D04, "FORWARDED-ENDPOINT")
"""A TCP address of the server that its router forwards."""
UDP_ENDPOINT = _endpoint(0x4D05, "UDP-ENDPOINT")
"""A UDP address; the one that the mediator observed comes first."""
CLIENT_NAME = _text(0x4D06, "CLIENT-NAME", 128)
"""What the client calls itself, for the server's log."""
PROTOCOL_VERSION = _number(0x4D07, "PROTOCOL-VERSION", 4)
"""The version of mediation that a server speaks."""
PUBLIC_KEY = _bytes(0x4D08, "PUBLIC-KEY", 32, 32)
"""An X25519 public key (RFC 7748)."""
SERVER_CERTIFICATE = _bytes(0x4D09, "SERVER-CERTIFICATE", 1, MAX_CERTIFICATE)
"""X.509 certificate of the server, DER."""
SYSTEM_CERTIFICATE = _bytes(0x4D0A, "SYSTEM-CERTIFICATE", 1, MAX_CERTIFICATE)
"""X.509 certificate of the server's system, DER."""
SIGNATURE = _bytes(0x4D0B, "SIGNATURE", 1, 512)
"""Made with the server's key over all attributes before it and more."""
SEQUENCE = _number(0x4D0C, "SEQUENCE", 8)
"""Counts the messages of one direction of a control channel, from 1."""
TOKEN = _bytes(0x4D0D, "TOKEN", 16, 16)
"""The key of a ``connection_ack``."""
KEEP_ALIVE: AttributeKind[KeepAlive] = AttributeKind(
    0x4D0E,
    "KEEP-ALIVE",
    lambda value, _: value.encode(),
    lambda data, _: KeepAlive.decode(data),
)
"""Idle time and interval in milliseconds, count of misses; 4 bytes each."""
RELAY_URL = _text(0x4D0F, "RELAY-URL", 256, MAX_RELAY_URLS)
"""URL of a relay; an empty host means that of the mediator."""
CONNECTION_PARAMETERS: AttributeKind[ConnectionParameters] = AttributeKind(
    0x4D10,
    "CONNECTION-PARAMETERS",
    lambda value, _: value.encode(),
    lambda data, _: ConnectionParameters.decode(data),
)
"""Entries of a number, 2 bytes, and a value, 4 bytes."""
RESULT_CODE = _number(0x4D11, "RESULT-CODE", 4)
"""A :class:`~.result_codes.ResultCode`."""
PATH = _text(0x4D12, "PATH", 16)
"""Kind of path that a connection took: ``lan``, ``tcp``, ``udp``, ``relay``."""

UPLINK_RATE = _number(0xCD01, "UPLINK-RATE", 8)
"""Bytes per second that the server can send."""
RECONNECT_DELAY = _seconds(0xCD02, "RECONNECT-DELAY")
"""Least wait of a server before its next first try to reconnect."""
RESPONSE_TIME = _seconds(0xCD03, "RESPONSE-TIME")
"""From the client's request to the mediator's answer."""
CONNECT_TIME = _seconds(0xCD04, "CONNECT-TIME")
"""From the client's request to the verified path."""

PUNCH_KEY = _bytes(0xCD05, "PUNCH-KEY", 32, 32)
"""The key of the session's probes (docs/protocol/punching)."""

NAT_BEHAVIOUR: AttributeKind[NATSummary] = AttributeKind(
    0xCD06,
    "NAT-BEHAVIOUR",
    lambda value, _: value.encode(),
    lambda data, _: NATSummary.decode(data),
)
"""Mapping, filtering and port step of the sender's NAT; 1, 1 and 2 bytes."""

ACCESS_GRANT = _bytes(0xCD07, "ACCESS-GRANT", 1, MAX_GRANT)
"""Says that the client may connect, signed by the cloud (docs/protocol/grants)."""
RELAY_GRANT = _bytes(0xCD08, "RELAY-GRANT", RELAY_GRANT_BYTES, RELAY_GRANT_BYTES)
"""Says so to relays."""
ACCESS_STATE: AttributeKind[AccessState] = AttributeKind(
    0xCD09,
    "ACCESS-STATE",
    lambda value, _: value.encode(),
    lambda data, _: AccessState.decode(data),
)
"""Whether the system is bound, public, and open to browsers; and when it was so."""
REVOCATIONS: AttributeKind[tuple[Revocation, ...]] = AttributeKind(
    0xCD0A,
    "REVOCATIONS",
    lambda value, _: encode_revocations(value),
    lambda data, _: decode_revocations(data),
)
"""Accounts, 16 bytes each, whose grants up to a time, 8 bytes, are worthless."""

ACTIVITY: AttributeKind[Activity] = AttributeKind(
    0xCD0B,
    "ACTIVITY",
    lambda value, _: value.encode(),
    lambda data, _: Activity.decode(data),
)
"""The streams that a server carries."""

WITHOUT_UDP = _flag(0xCD0C, "WITHOUT-UDP")
SERVER_FIRST = _flag(0xCD0F, "SERVER-FIRST")
"""The client will not punch: it need not be told UDP addresses, nor wait for them."""

MEDIATOR_ENDPOINT = _endpoint(0xCD0D, "MEDIATOR-ENDPOINT")
"""A UDP address of the mediator, for who knows none of that version of IP."""

UNPROVEN_ENDPOINT = _endpoint(0xCD0E, "UNPROVEN-ENDPOINT")
"""An address that the client says it has, and nobody has seen it there."""

KINDS: dict[int, AttributeKind[object]] = {
    kind.number: kind
    for kind in list(globals().values())
    if isinstance(kind, AttributeKind)
}
"""All kinds by number."""
