"""Messages of LAN discovery, JSON in one datagram; see docs/protocol/lan.rst."""

from __future__ import annotations

import enum
import json
import uuid

import attrs

from dwcloud.protocol.errors import RemoteProtocolError
from dwcloud.protocol.names import PeerName, parse_guid

__all__ = ["MAX_DATAGRAM", "LANMessage", "LANMessageType", "decode", "encode"]

MAX_DATAGRAM = 1400
"""Bytes of the longest message, so that it travels in one packet."""

_PROTOCOL = "dwcloud-lan/1"


class LANMessageType(enum.StrEnum):
    """What a message is for."""

    ANNOUNCE = "announce"
    """A server is here."""
    GOODBYE = "goodbye"
    """A server stops."""
    QUERY = "query"
    """A client asks who is here."""


@attrs.frozen
class LANMessage:
    """One message.

    :ivar server: who is announced, ``server.system``; what a query looks for, None
        for everybody.
    :ivar tcp_port: where an announced server listens; 0 otherwise.
    :ivar instance: random id of one run of a server, which tells a restart.
    """

    type: LANMessageType
    server: PeerName | None = None
    tcp_port: int = 0
    instance: uuid.UUID | None = None


def encode(message: LANMessage) -> bytes:
    """The datagram of a message."""
    body: dict[str, object] = {"protocol": _PROTOCOL, "type": message.type.value}
    if message.server is not None:
        body["system"] = str(message.server.system)
        if message.server.server is not None:
            body["server"] = str(message.server.server)
    if message.type is not LANMessageType.QUERY:
        body["tcp_port"] = message.tcp_port
        body["instance"] = str(message.instance)
    return json.dumps(body).encode("ascii")


def decode(datagram: bytes) -> LANMessage:
    """Read a datagram.

    :raises RemoteProtocolError: if it is not a message of this protocol.
    """
    if len(datagram) > MAX_DATAGRAM:
        raise RemoteProtocolError(f"{len(datagram)} bytes are too many")
    try:
        body = json.loads(datagram)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or body.get("protocol") != _PROTOCOL:
        raise RemoteProtocolError(f"not a message of {_PROTOCOL}")
    try:
        kind = LANMessageType(str(body.get("type")))
        system, server = (
            None if body.get(key) is None else parse_guid(str(body[key]))
            for key in ("system", "server")
        )
        name = None if system is None else PeerName(system, server)
        if kind is LANMessageType.QUERY:
            return LANMessage(kind, name)
        instance = uuid.UUID(str(body.get("instance")))
    except ValueError as e:
        raise RemoteProtocolError(str(e)) from None
    port = body.get("tcp_port")
    if type(port) is not int or not 0 < port < 65536:
        raise RemoteProtocolError(f"tcp_port {port!r} is not a port")
    if name is None or name.server is None:
        raise RemoteProtocolError("an announcement names no server")
    return LANMessage(kind, name, port, instance)
