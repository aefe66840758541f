"""The body of a handshake packet (docs/protocol/udt)."""

from __future__ import annotations

import enum
import ipaddress
from struct import Struct

import attrs

from dwcloud.protocol.errors import RemoteProtocolError

__all__ = [
    "HANDSHAKE_SIZE",
    "REJECTION",
    "VERSION",
    "Handshake",
    "RequestType",
    "decode_peer_ip",
    "encode_peer_ip",
]

VERSION = 4
HANDSHAKE_SIZE = 48

REJECTION = 1002
"""The only rejection that the reference library's clients recognise."""

_BODY = Struct(">IIIIIiII16s")


class RequestType(enum.IntEnum):
    """What a handshake asks or says; any value above 1 is a rejection."""

    REQUEST = 1
    RENDEZVOUS = 0
    CONCLUSION = -1
    AGREEMENT = -2


# [udt:peer-ip]
def encode_peer_ip(host: str) -> bytes:
    """Return the 16 bytes for an address: each 4-byte word reversed.

    :param host: an IPv4 or IPv6 address; anything else gives zeros, which nobody
        minds since nobody verifies the field.
    """
    try:
        packed = ipaddress.ip_address(host.partition("%")[0]).packed
    except ValueError:
        return bytes(16)
    words = [packed[i : i + 4][::-1] for i in range(0, len(packed), 4)]
    return b"".join(words).ljust(16, b"\0")


def decode_peer_ip(field: bytes) -> str:
    """Return the address that :func:`encode_peer_ip` made 16 bytes of."""
    packed = b"".join(field[i : i + 4][::-1] for i in range(0, 16, 4))
    if packed[4:] == bytes(12) and packed[:4] != bytes(4):
        return str(ipaddress.IPv4Address(packed[:4]))
    return str(ipaddress.IPv6Address(packed))


@attrs.frozen(kw_only=True)
class Handshake:
    """A request, challenge, response, rendezvous step or rejection."""

    version: int = VERSION
    socket_type: int
    initial_sequence: int
    maximum_packet_size: int
    """The sender's limit for a whole IPv4 packet, in bytes."""
    flow_window_packets: int
    """How many unacknowledged packets the sender of this is ready to receive."""
    request_type: int
    socket_id: int
    """The sender's own id; in a challenge or rejection the client's."""
    cookie: int = 0
    peer_ip: bytes = bytes(16)
    """The address of the receiver of this as its sender sees it, words reversed."""

    def encode(self) -> bytes:
        """Return the 48 bytes."""
        return _BODY.pack(
            self.version,
            self.socket_type,
            self.initial_sequence,
            self.maximum_packet_size,
            self.flow_window_packets,
            self.request_type,
            self.socket_id,
            self.cookie,
            self.peer_ip,
        )

    @classmethod
    def decode(cls, body: bytes) -> Handshake:
        """Read the first 48 bytes.

        :raises RemoteProtocolError: if there are fewer.
        """
        if len(body) < HANDSHAKE_SIZE:
            raise RemoteProtocolError(f"handshake body of {len(body)} bytes")
        fields = _BODY.unpack_from(body)
        return cls(
            version=fields[0],
            socket_type=fields[1],
            initial_sequence=fields[2],
            maximum_packet_size=fields[3],
            flow_window_packets=fields[4],
            request_type=fields[5],
            socket_id=fields[6],
            cookie=fields[7],
            peer_ip=fields[8],
        )
