"""Messages of PCP (RFC 6887), of client and router: ANNOUNCE and MAP."""

from __future__ import annotations

import ipaddress
import struct

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping.mappings import Transport

__all__ = [
    "MAX_MESSAGE",
    "NONCE_LENGTH",
    "UNSUPPORTED_VERSION",
    "VERSION",
    "Announcement",
    "Answer",
    "MapAnswer",
    "MapRequest",
    "Refusal",
    "decode_answer",
    "decode_request",
    "describe_result",
]

VERSION = 2
MAX_MESSAGE = 1100
"""Bytes (section 7)."""
NONCE_LENGTH = 12
UNSUPPORTED_VERSION = 1

_HEADER = 24
_MAP_BODY = 36
_ANNOUNCE, _MAP = 0, 1
_ANSWER = 0x80
_RESULTS = {
    1: "unsupported version",
    2: "not authorized: the router's owner does not allow port mapping",
    3: "malformed request",
    4: "unsupported opcode",
    5: "unsupported option",
    6: "malformed option",
    7: "network failure: the router has no public address",
    8: "no resources",
    9: "unsupported protocol",
    10: "the quota of this host is exceeded",
    11: "cannot provide the external port",
    12: "address mismatch: another NAT is before the router",
    13: "excessive remote peers",
}


def describe_result(code: int) -> str:
    """The meaning of a result code (section 7.4)."""
    return _RESULTS.get(code, f"result code {code}")


def _packed(host: str) -> bytes:
    """An address in 16 bytes (section 5)."""
    address = ipaddress.ip_address(host)
    if address.version == 6:
        return address.packed
    return bytes(10) + b"\xff\xff" + address.packed


def _unpacked(packed: bytes) -> str:
    address = ipaddress.IPv6Address(packed)
    return str(address.ipv4_mapped or address)


@attrs.frozen
class MapRequest:
    """Asks for a mapping (section 11.1), or to remove it with a lifetime of 0.

    :ivar client: the address that the request is sent from.
    :ivar nonce: known to the owner of the mapping alone, 12 bytes.
    :ivar external_port: the one wished for; 0 for any.
    :ivar external_host: the address wished for.
    :ivar lifetime: seconds.
    """

    client: str
    nonce: bytes
    transport: Transport
    internal_port: int
    external_port: int
    lifetime: int
    external_host: str = "0.0.0.0"

    def encode(self) -> bytes:
        """The datagram."""
        return (
            struct.pack(">BBHI", VERSION, _MAP, 0, self.lifetime)
            + _packed(self.client)
            + self.nonce
            + struct.pack(">B3x", self.transport.value)
            + struct.pack(">HH", self.internal_port, self.external_port)
            + _packed(self.external_host)
        )


@attrs.frozen
class MapAnswer:
    """A mapping that was made, or removed if its lifetime is 0 (section 11.1).

    :ivar epoch: seconds since the router lost its mappings.
    """

    epoch: int
    nonce: bytes
    transport: Transport
    internal_port: int
    external_port: int
    external_host: str
    lifetime: int

    def encode(self) -> bytes:
        """The datagram."""
        return (
            struct.pack(
                ">BBxBII12x", VERSION, _ANSWER | _MAP, 0, self.lifetime, self.epoch
            )
            + self.nonce
            + struct.pack(">B3x", self.transport.value)
            + struct.pack(">HH", self.internal_port, self.external_port)
            + _packed(self.external_host)
        )


@attrs.frozen
class Announcement:
    """Tells the epoch, to all hosts after the router lost its state (section 14.1)."""

    epoch: int

    def encode(self) -> bytes:
        """The datagram."""
        return struct.pack(">BBxBII12x", VERSION, _ANSWER | _ANNOUNCE, 0, 0, self.epoch)


@attrs.frozen
class Refusal:
    """An answer with a result code other than 0.

    :ivar version: the one that the router speaks.
    :ivar lifetime: seconds for which asking again would be in vain.
    :ivar nonce: that of the request, empty where the router did not repeat it.
    """

    version: int
    opcode: int
    result: int
    epoch: int
    lifetime: int
    nonce: bytes = b""

    def encode(self) -> bytes:
        """The datagram."""
        head = struct.pack(
            ">BBxBII12x",
            *(self.version, _ANSWER | self.opcode, self.result),
            *(self.lifetime, self.epoch),
        )
        return head + self.nonce + bytes(24 if self.nonce else 0)


Answer = MapAnswer | Announcement | Refusal


def decode_request(data: bytes) -> MapRequest:
    """Read what a client sent.

    :raises RemoteProtocolError: if it is no MAP request; its code is the result code
        to answer with, None for no answer.
    """
    if len(data) < 2 or data[1] & _ANSWER:
        raise RemoteProtocolError("not a request of PCP")
    if data[0] != VERSION:
        raise RemoteProtocolError(f"version {data[0]}", UNSUPPORTED_VERSION)
    if data[1] != _MAP:
        raise RemoteProtocolError(f"opcode {data[1]}", 4)
    if not _HEADER + _MAP_BODY <= len(data) <= MAX_MESSAGE or len(data) % 4:
        raise RemoteProtocolError(f"a MAP request of {len(data)} bytes", 3)
    (lifetime,) = struct.unpack_from(">I", data, 4)
    number, internal, external = struct.unpack_from(">B3xHH", data, 36)
    try:
        transport = Transport(number)
    except ValueError:
        raise RemoteProtocolError(f"protocol {number}", 9) from None
    return MapRequest(
        client=_unpacked(data[8:24]),
        nonce=data[24:36],
        transport=transport,
        internal_port=internal,
        external_port=external,
        lifetime=lifetime,
        external_host=_unpacked(data[44:60]),
    )


def decode_answer(data: bytes) -> Answer:
    """Read what a router sent.

    :raises RemoteProtocolError: if it is no answer of PCP.
    """
    if not _HEADER <= len(data) <= MAX_MESSAGE or not data[1] & _ANSWER:
        raise RemoteProtocolError("not an answer of PCP")
    version, opcode, result, lifetime, epoch = struct.unpack_from(">BBxBII", data)
    opcode &= ~_ANSWER
    whole = opcode == _MAP and len(data) >= _HEADER + _MAP_BODY
    if result:
        nonce = data[24:36] if whole else b""
        return Refusal(version, opcode, result, epoch, lifetime, nonce)
    if version != VERSION:
        raise RemoteProtocolError(f"an answer of version {version}")
    if opcode == _ANNOUNCE:
        return Announcement(epoch)
    if not whole:
        raise RemoteProtocolError(f"opcode {opcode} in {len(data)} bytes")
    number, internal, external = struct.unpack_from(">B3xHH", data, 36)
    try:
        transport = Transport(number)
    except ValueError:
        raise RemoteProtocolError(f"protocol {number}") from None
    host = _unpacked(data[44:60])
    return MapAnswer(epoch, data[24:36], transport, internal, external, host, lifetime)
