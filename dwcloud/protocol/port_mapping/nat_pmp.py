"""Messages of NAT-PMP (RFC 6886), of client and router."""

from __future__ import annotations

import ipaddress
import struct

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.port_mapping.mappings import Transport

__all__ = [
    "UNSUPPORTED_VERSION",
    "VERSION",
    "AddressAnswer",
    "AddressRequest",
    "Answer",
    "MappingAnswer",
    "MappingRequest",
    "Refusal",
    "Request",
    "decode_answer",
    "decode_request",
    "describe_result",
]

VERSION = 0
UNSUPPORTED_VERSION = 1
"""The result code of a router that does not speak the version asked in."""

_OPCODES = {Transport.UDP: 1, Transport.TCP: 2}
_TRANSPORTS = {opcode: transport for transport, opcode in _OPCODES.items()}
_ANSWER = 128
_RESULTS = {
    1: "unsupported version",
    2: "not authorized: the router's owner does not allow port mapping",
    3: "network failure: the router has no public address",
    4: "out of resources",
    5: "unsupported opcode",
}


def describe_result(code: int) -> str:
    """The meaning of a result code (section 3.5)."""
    return _RESULTS.get(code, f"result code {code}")


@attrs.frozen
class AddressRequest:
    """Asks for the external address (section 3.2)."""

    def encode(self) -> bytes:
        """The datagram."""
        return bytes([VERSION, 0])


@attrs.frozen
class MappingRequest:
    """Asks for a mapping (section 3.3), or to remove it with a lifetime of 0.

    :ivar external_port: the one wished for; 0 for any.
    :ivar lifetime: seconds.
    """

    transport: Transport
    internal_port: int
    external_port: int
    lifetime: int

    def encode(self) -> bytes:
        """The datagram."""
        opcode = _OPCODES[self.transport]
        return struct.pack(
            ">BBHHHI",
            *(VERSION, opcode, 0),
            *(self.internal_port, self.external_port, self.lifetime),
        )


@attrs.frozen
class AddressAnswer:
    """The external address, also sent to all hosts when it changes (section 3.2.1).

    :ivar epoch: seconds since the router lost its mappings.
    """

    epoch: int
    address: str

    def encode(self) -> bytes:
        """The datagram."""
        packed = ipaddress.IPv4Address(self.address).packed
        return struct.pack(">BBHI", VERSION, _ANSWER, 0, self.epoch) + packed


@attrs.frozen
class MappingAnswer:
    """A mapping that was made, or removed if its lifetime is 0.

    :ivar epoch: seconds since the router lost its mappings.
    :ivar lifetime: seconds.
    """

    epoch: int
    transport: Transport
    internal_port: int
    external_port: int
    lifetime: int

    def encode(self) -> bytes:
        """The datagram."""
        return struct.pack(
            ">BBHIHHI",
            *(VERSION, _ANSWER | _OPCODES[self.transport], 0, self.epoch),
            *(self.internal_port, self.external_port, self.lifetime),
        )


@attrs.frozen
class Refusal:
    """An answer with a result code other than 0.

    :ivar opcode: that of the request.
    :ivar internal_port: that of the request, if it was for a mapping.
    """

    opcode: int
    result: int
    epoch: int
    internal_port: int | None = None

    @property
    def transport(self) -> Transport | None:
        """What mapping was refused, None if it was none."""
        return _TRANSPORTS.get(self.opcode)

    def encode(self) -> bytes:
        """The datagram."""
        head = struct.pack(
            ">BBHI", VERSION, _ANSWER | self.opcode, self.result, self.epoch
        )
        if self.internal_port is None:
            return head
        return head + struct.pack(">HHI", self.internal_port, 0, 0)


Request = AddressRequest | MappingRequest
Answer = AddressAnswer | MappingAnswer | Refusal


def decode_request(data: bytes) -> Request:
    """Read what a client sent.

    :raises RemoteProtocolError: if it is no request of this version; its code is the
        result code to answer with, None for no answer.
    """
    if len(data) < 2 or data[1] >= _ANSWER:
        raise RemoteProtocolError("not a request of NAT-PMP")
    if data[0] != VERSION:
        raise RemoteProtocolError(f"version {data[0]}", UNSUPPORTED_VERSION)
    if data[1] == 0:
        return AddressRequest()
    transport = _TRANSPORTS.get(data[1])
    if transport is None or len(data) < 12:
        raise RemoteProtocolError(f"opcode {data[1]} in {len(data)} bytes", 5)
    internal, external, lifetime = struct.unpack_from(">HHI", data, 4)
    return MappingRequest(transport, internal, external, lifetime)


def decode_answer(data: bytes) -> Answer:
    """Read what a router sent.

    :raises RemoteProtocolError: if it is no answer of NAT-PMP.
    """
    if len(data) < 8 or data[0] != VERSION or data[1] < _ANSWER:
        raise RemoteProtocolError("not an answer of NAT-PMP")
    opcode = data[1] & ~_ANSWER
    result, epoch = struct.unpack_from(">HI", data, 2)
    if result:
        internal = None
        if opcode in _TRANSPORTS and len(data) >= 10:
            (internal,) = struct.unpack_from(">H", data, 8)
        return Refusal(opcode, result, epoch, internal)
    if opcode == 0 and len(data) >= 12:
        return AddressAnswer(epoch, str(ipaddress.IPv4Address(data[8:12])))
    if opcode in _TRANSPORTS and len(data) >= 16:
        internal, external, lifetime = struct.unpack_from(">HHI", data, 8)
        return MappingAnswer(epoch, _TRANSPORTS[opcode], internal, external, lifetime)
    raise RemoteProtocolError(f"opcode {opcode} in {len(data)} bytes")
