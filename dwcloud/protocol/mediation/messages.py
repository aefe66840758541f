"""The messages of mediation as typed objects, to and from STUN messages.

A class names its attributes once; :class:`Message` reads and writes them all. Order
on the wire is the order of the fields. Unknown comprehension-required attributes are
an error (RFC 8489, 6.3.1), unknown optional ones are skipped.
"""

from __future__ import annotations

import functools
import uuid
from typing import Any, ClassVar, Self

import attrs

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants.revocations import AccessState, Revocation
from dwcloud.protocol.mediation import attributes as kinds
from dwcloud.protocol.mediation.activity import Activity
from dwcloud.protocol.mediation.admittance import NotBound
from dwcloud.protocol.mediation.attributes import AttributeKind
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.parameters import ConnectionParameters, KeepAlive
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.nat import NATSummary
from dwcloud.protocol.stun.attributes import (
    STANDARD_ATTRIBUTES,
    AttributeType,
    error_attribute,
    padding_attribute,
    unknown_attributes_attribute,
)
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage

__all__ = [
    "CONNECT_REQUEST_LENGTH",
    "PROTOCOL_VERSION",
    "AccessChanged",
    "ActivityReport",
    "Bind",
    "BindResponse",
    "Connect",
    "ConnectResponse",
    "ConnectionAck",
    "ConnectionAckResponse",
    "ConnectionRequested",
    "ConnectionResult",
    "ConnectionResultResponse",
    "ConnectionStateResponse",
    "GetConnectionState",
    "Listen",
    "ListenResponse",
    "Message",
    "Replaced",
    "UnknownAttributes",
    "Watch",
    "error_answer",
]

PROTOCOL_VERSION = 1
"""The version of mediation that this package speaks."""

CONNECT_REQUEST_LENGTH = 1200
"""Bytes of a ``connect`` over UDP: no answer to it is longer, so that nobody can be
flooded with answers to requests that carry his address (docs/protocol/mediation)."""

_ENVELOPE = STANDARD_ATTRIBUTES | {
    AttributeType.PADDING,
    kinds.SERVER_CERTIFICATE.number,
    kinds.SYSTEM_CERTIFICATE.number,
    kinds.SIGNATURE.number,
    kinds.SEQUENCE.number,
}
"""Understood in each message, because they concern the message as such."""


class UnknownAttributes(RemoteProtocolError):
    """A message has attributes that must be understood and are not.

    :ivar types: their numbers.
    """

    def __init__(self, types: list[int]) -> None:
        listed = ", ".join(f"0x{number:04X}" for number in types)
        super().__init__(f"unknown attributes {listed}", 420)
        self.types = types


def error_answer(request: STUNMessage, error: RemoteProtocolError) -> STUNMessage:
    """Return the error answer to a request that caused ``error``."""
    attributes = [error_attribute(error.code or 400)]
    if isinstance(error, UnknownAttributes):
        attributes.append(unknown_attributes_attribute(error.types))
    if isinstance(error, NotBound):
        # Not only for its log: what was admitted before is to end.
        state = kinds.ACCESS_STATE
        unbound = state.encode(AccessState(is_bound=False), request.transaction_id)
        attributes = [
            error_attribute(403, str(error)),
            RawAttribute(state.number, unbound),
        ]
    return request.error(attributes)


def _as(kind: AttributeKind[Any]) -> dict[str, AttributeKind[Any]]:
    return {"kind": kind}


def _addresses(kind: AttributeKind[Address]) -> Any:
    return attrs.field(default=(), metadata=_as(kind))


def _fields(cls: Any) -> tuple[tuple[str, AttributeKind[Any], Any], ...]:
    """Return name, kind and default of each field of a class of messages."""
    return _layout(cls)[0]


def _known(cls: Any) -> frozenset[int]:
    """Return the attributes that a class of messages understands."""
    return _layout(cls)[1]


@functools.cache
def _layout(
    cls: Any,
) -> tuple[tuple[tuple[str, AttributeKind[Any], Any], ...], frozenset[int]]:
    fields = tuple((f.name, f.metadata["kind"], f.default) for f in attrs.fields(cls))
    return fields, _ENVELOPE | {kind.number for _, kind, _ in fields}


@attrs.frozen(kw_only=True)
class Message:
    """A message of mediation.

    A field whose default is None is optional, one whose default is ``()`` is a list
    of repeated attributes.
    """

    METHOD: ClassVar[Method]
    CLASS: ClassVar[MessageClass]

    def to_stun(self, transaction_id: bytes) -> STUNMessage:
        """Return the message for the wire.

        :param transaction_id: 12 bytes; for an answer, those of its request.
        :raises LocalProtocolError: if a value cannot be sent.
        """
        raw = []
        for name, kind, default in _fields(type(self)):
            value = getattr(self, name)
            if value is None:
                continue
            values = value if default == () else (value,)
            if len(values) > kind.limit:
                raise LocalProtocolError(f"{len(values)} attributes {kind.name}")
            raw += [
                RawAttribute(kind.number, kind.encode(item, transaction_id))
                for item in values
            ]
        return STUNMessage(self.METHOD, self.CLASS, transaction_id, tuple(raw))

    @classmethod
    def from_stun(cls, message: STUNMessage) -> Self:
        """Read a message.

        :raises RemoteProtocolError: code 420 for attributes that are unknown and
            must not be, 400 for anything else that is wrong.
        """
        if (message.method, message.message_class) != (cls.METHOD, cls.CLASS):
            raise RemoteProtocolError(f"not a {cls.__name__}", 400)
        unknown = message.unknown_attributes(_known(cls))
        if unknown:
            raise UnknownAttributes(unknown)
        values = {}
        for name, kind, default in _fields(cls):
            if default == ():
                values[name] = _decode_all(message, kind)
            elif default is attrs.NOTHING or message.get(kind.number) is not None:
                raw = message.require(kind.number)
                values[name] = kind.decode(raw, message.transaction_id)
        try:
            return cls(**values)
        except ValueError as error:
            raise RemoteProtocolError(f"{cls.__name__}: {error}", 400) from error


def _decode_all(message: STUNMessage, kind: AttributeKind[Any]) -> tuple[Any, ...]:
    raw = message.get_all(kind.number)
    if len(raw) > kind.limit:
        raise RemoteProtocolError(f"{len(raw)} attributes {kind.name}", 400)
    return tuple(kind.decode(value, message.transaction_id) for value in raw)


# Server and mediator, on the control channel


@attrs.frozen(kw_only=True)
class Bind(Message):
    """Server to mediator: where the server can be reached over TCP.

    :ivar tcp_endpoints: the server's own addresses.
    :ivar forwarded_endpoints: addresses of its router that lead to it.
    :ivar uplink_rate: bytes per second that it can send, where it knows.
    """

    METHOD = Method.BIND
    CLASS = MessageClass.REQUEST

    tcp_endpoints: tuple[Address, ...] = _addresses(kinds.TCP_ENDPOINT)
    forwarded_endpoints: tuple[Address, ...] = _addresses(kinds.FORWARDED_ENDPOINT)
    uplink_rate: int | None = attrs.field(default=None, metadata=_as(kinds.UPLINK_RATE))


@attrs.frozen(kw_only=True)
class BindResponse(Message):
    """The addresses are stored."""

    METHOD = Method.BIND
    CLASS = MessageClass.SUCCESS


@attrs.frozen(kw_only=True)
class Listen(Message):
    """Server to mediator: make this connection the control channel of a server.

    :ivar name: ``server.system``.
    :ivar protocol_version: of mediation.
    :ivar public_key: the server's half of the key agreement for this connection.
    """

    METHOD = Method.LISTEN
    CLASS = MessageClass.REQUEST

    name: PeerName = attrs.field(metadata=_as(kinds.PEER_NAME))
    protocol_version: int = attrs.field(metadata=_as(kinds.PROTOCOL_VERSION))
    public_key: bytes = attrs.field(metadata=_as(kinds.PUBLIC_KEY), repr=False)


@attrs.frozen(kw_only=True)
class ListenResponse(Message):
    """The connection is the server's control channel from now on.

    :ivar public_key: the mediator's half of the key agreement.
    :ivar keep_alive: how the server is to check the channel.
    :ivar parameters: for all connections of the server.
    :ivar relay_urls: relays where the server is to wait for clients, too.
    :ivar reconnect_delay: least wait before the server tries to reconnect; longer
        after an outage of the mediator.
    :ivar mediator_endpoints: UDP addresses of the mediator.
    """

    METHOD = Method.LISTEN
    CLASS = MessageClass.SUCCESS

    public_key: bytes = attrs.field(metadata=_as(kinds.PUBLIC_KEY), repr=False)
    keep_alive: KeepAlive = attrs.field(metadata=_as(kinds.KEEP_ALIVE))
    parameters: ConnectionParameters = attrs.field(
        metadata=_as(kinds.CONNECTION_PARAMETERS)
    )
    relay_urls: tuple[str, ...] = attrs.field(default=(), metadata=_as(kinds.RELAY_URL))
    reconnect_delay: float | None = attrs.field(
        default=None, metadata=_as(kinds.RECONNECT_DELAY)
    )
    mediator_endpoints: tuple[Address, ...] = _addresses(kinds.MEDIATOR_ENDPOINT)


@attrs.frozen(kw_only=True)
class GetConnectionState(Message):
    """Server to mediator: does this control channel still work?"""

    METHOD = Method.GET_CONNECTION_STATE
    CLASS = MessageClass.REQUEST


@attrs.frozen(kw_only=True)
class ConnectionStateResponse(Message):
    """It does."""

    METHOD = Method.GET_CONNECTION_STATE
    CLASS = MessageClass.SUCCESS


@attrs.frozen(kw_only=True)
class ConnectionRequested(Message):
    """Mediator to server, an indication: a client wants to connect.

    It may come again for the same session once the mediator knows more addresses.

    :ivar session_id: of the client's connect session.
    :ivar token: key of the ``connection_ack``.
    :ivar client_name: what the client calls itself; proven by nothing.
    :ivar udp_endpoints: where to punch to, the observed address first.
    :ivar parameters: for this connection.
    :ivar nat: the client's, where its address is proven.
    :ivar grant: what says that the client may connect, for the server to check.
    :ivar unproven: where the client says that it is, too: good for one probe.
    :ivar server_first: True if the client waits for the server to send, which it is to
        do from a port of its own.
    """

    METHOD = Method.CONNECTION_REQUESTED
    CLASS = MessageClass.INDICATION

    session_id: uuid.UUID = attrs.field(metadata=_as(kinds.CONNECT_SESSION_ID))
    token: bytes = attrs.field(metadata=_as(kinds.TOKEN), repr=False)
    client_name: str = attrs.field(metadata=_as(kinds.CLIENT_NAME))
    udp_endpoints: tuple[Address, ...] = _addresses(kinds.UDP_ENDPOINT)
    parameters: ConnectionParameters = attrs.field(
        metadata=_as(kinds.CONNECTION_PARAMETERS)
    )
    nat: NATSummary | None = attrs.field(
        default=None, metadata=_as(kinds.NAT_BEHAVIOUR)
    )
    grant: bytes | None = attrs.field(
        default=None, metadata=_as(kinds.ACCESS_GRANT), repr=False
    )
    unproven: Address | None = attrs.field(
        default=None, metadata=_as(kinds.UNPROVEN_ENDPOINT)
    )
    server_first: bool | None = attrs.field(
        default=None, metadata=_as(kinds.SERVER_FIRST)
    )


@attrs.frozen(kw_only=True)
class Replaced(Message):
    """Mediator to server, an indication: a newer registration took the place.

    The last message on a control channel, which the mediator closes after it.
    """

    METHOD = Method.REPLACED
    CLASS = MessageClass.INDICATION


@attrs.frozen(kw_only=True)
class AccessChanged(Message):
    """Mediator to server, an indication: who may connect to the server's system.

    It comes after the answer to ``listen``, and at each change.

    :ivar state: what is good for anything now.
    :ivar revocations: the grants of the last day that are not.
    """

    METHOD = Method.ACCESS_CHANGED
    CLASS = MessageClass.INDICATION

    state: AccessState = attrs.field(metadata=_as(kinds.ACCESS_STATE))
    revocations: tuple[Revocation, ...] = attrs.field(metadata=_as(kinds.REVOCATIONS))


@attrs.frozen(kw_only=True)
class Watch(Message):
    """Mediator to server, an indication: tell what you carry, for a while.

    See :mod:`dwcloud.protocol.mediation.activity`.
    """

    METHOD = Method.WATCH
    CLASS = MessageClass.INDICATION


@attrs.frozen(kw_only=True)
class ActivityReport(Message):
    """Server to mediator, an indication: what it carries now.

    :ivar activity: its streams.
    """

    METHOD = Method.ACTIVITY
    CLASS = MessageClass.INDICATION

    activity: Activity = attrs.field(metadata=_as(kinds.ACTIVITY))


@attrs.frozen(kw_only=True)
class ConnectionAck(Message):
    """Server to mediator over UDP, from the socket that punches.

    Its MESSAGE-INTEGRITY-SHA256 is keyed with the token of the request.

    :ivar session_id: of the connect session.
    :ivar udp_endpoints: the socket's local addresses.
    :ivar nat: the server's, where it is known.
    """

    METHOD = Method.CONNECTION_ACK
    CLASS = MessageClass.REQUEST

    session_id: uuid.UUID = attrs.field(metadata=_as(kinds.CONNECT_SESSION_ID))
    udp_endpoints: tuple[Address, ...] = _addresses(kinds.UDP_ENDPOINT)
    nat: NATSummary | None = attrs.field(
        default=None, metadata=_as(kinds.NAT_BEHAVIOUR)
    )


@attrs.frozen(kw_only=True)
class ConnectionAckResponse(Message):
    """The mediator knows the server's punched address now."""

    METHOD = Method.CONNECTION_ACK
    CLASS = MessageClass.SUCCESS


# Client and mediator


@attrs.frozen(kw_only=True)
class Connect(Message):
    """Client to mediator: introduce me.

    :ivar session_id: chosen at random; the same over UDP and TCP and in each
        repetition.
    :ivar target: a server, or a system for any online server of it.
    :ivar client_name: what the client calls itself.
    :ivar udp_endpoints: local addresses of the socket that punches.
    :ivar nat: the client's; it counts only over TCP, which proves the address.
    :ivar grant: what says that the client may connect.
    :ivar without_udp: True if the client will not punch a hole.
    :ivar server_first: True if the server is to send first, from a port of its own.
    """

    METHOD = Method.CONNECT
    CLASS = MessageClass.REQUEST

    session_id: uuid.UUID = attrs.field(metadata=_as(kinds.CONNECT_SESSION_ID))
    target: PeerName = attrs.field(metadata=_as(kinds.PEER_NAME))
    client_name: str = attrs.field(default="", metadata=_as(kinds.CLIENT_NAME))
    udp_endpoints: tuple[Address, ...] = _addresses(kinds.UDP_ENDPOINT)
    nat: NATSummary | None = attrs.field(
        default=None, metadata=_as(kinds.NAT_BEHAVIOUR)
    )
    grant: bytes | None = attrs.field(
        default=None, metadata=_as(kinds.ACCESS_GRANT), repr=False
    )

    without_udp: bool | None = attrs.field(
        default=None, metadata=_as(kinds.WITHOUT_UDP)
    )
    server_first: bool | None = attrs.field(
        default=None, metadata=_as(kinds.SERVER_FIRST)
    )

    def to_padded_stun(self, transaction_id: bytes) -> STUNMessage:
        """Return the message for UDP, at least 1,200 bytes long."""
        message = self.to_stun(transaction_id)
        padding = padding_attribute(len(message.encode()), CONNECT_REQUEST_LENGTH)
        return message.with_attributes(padding) if padding else message


def _result_code(value: int) -> ResultCode:
    return ResultCode(value)


@attrs.frozen(kw_only=True)
class ConnectResponse(Message):
    """How the server can be reached, or why it cannot.

    :ivar result: OK, or PEER_UNKNOWN, PEER_OFFLINE, SERVER_DID_NOT_ANSWER.
    :ivar server: full name of the server chosen, when OK.
    :ivar tcp_endpoints: its own TCP addresses.
    :ivar forwarded_endpoints: TCP addresses of its router.
    :ivar udp_endpoints: its UDP addresses, the punched one first; empty if it did
        not confirm in time.
    :ivar relay_urls: relays where it waits.
    :ivar parameters: for this connection.
    :ivar punch_key: the key of the session's probes, with UDP addresses only.
    :ivar nat: the server's, where its address is proven.
    :ivar grant: a grant for everybody, where the client brought none and needs none.
    :ivar relay_grant: what relays want to see.
    :ivar mediator_endpoints: UDP addresses of the mediator.
    """

    METHOD = Method.CONNECT
    CLASS = MessageClass.SUCCESS

    result: ResultCode = attrs.field(
        metadata=_as(kinds.RESULT_CODE), converter=_result_code
    )
    server: PeerName | None = attrs.field(default=None, metadata=_as(kinds.PEER_NAME))
    udp_endpoints: tuple[Address, ...] = _addresses(kinds.UDP_ENDPOINT)
    forwarded_endpoints: tuple[Address, ...] = _addresses(kinds.FORWARDED_ENDPOINT)
    tcp_endpoints: tuple[Address, ...] = _addresses(kinds.TCP_ENDPOINT)
    relay_urls: tuple[str, ...] = attrs.field(default=(), metadata=_as(kinds.RELAY_URL))
    parameters: ConnectionParameters = attrs.field(
        factory=ConnectionParameters, metadata=_as(kinds.CONNECTION_PARAMETERS)
    )
    punch_key: bytes | None = attrs.field(
        default=None, metadata=_as(kinds.PUNCH_KEY), repr=False
    )
    nat: NATSummary | None = attrs.field(
        default=None, metadata=_as(kinds.NAT_BEHAVIOUR)
    )
    grant: bytes | None = attrs.field(
        default=None, metadata=_as(kinds.ACCESS_GRANT), repr=False
    )
    relay_grant: bytes | None = attrs.field(
        default=None, metadata=_as(kinds.RELAY_GRANT), repr=False
    )
    mediator_endpoints: tuple[Address, ...] = _addresses(kinds.MEDIATOR_ENDPOINT)

    def fitted(self, transaction_id: bytes, limit: int) -> STUNMessage:
        """Return the message for UDP, at most ``limit`` bytes long.

        An answer that is too long loses the last of its longest list, and so on;
        with a padded request that takes more than forty addresses, with grants in the
        answer more than thirty.
        """
        response = self
        while True:
            message = response.to_stun(transaction_id)
            if len(message.encode()) <= limit:
                return message
            longest = max(
                (
                    "mediator_endpoints",
                    "relay_urls",
                    "tcp_endpoints",
                    "forwarded_endpoints",
                    "udp_endpoints",
                ),
                key=lambda name: len(getattr(response, name)),
            )
            if not getattr(response, longest):
                raise LocalProtocolError(f"no answer fits into {limit} bytes")
            shortened = {longest: getattr(response, longest)[:-1]}
            response = attrs.evolve(response, **shortened)


@attrs.frozen(kw_only=True)
class ConnectionResult(Message):
    """Client to mediator: how the connection ended.

    :ivar session_id: of the connect session.
    :ivar result: the outcome.
    :ivar path: kind of path taken, when OK: ``tcp``, ``udp`` or ``relay``.
    :ivar response_time: from the request to the mediator's answer.
    :ivar connect_time: from the request to the verified path.
    :ivar nat: the client's, where it is known; for the mediator's figures.
    """

    METHOD = Method.CONNECTION_RESULT
    CLASS = MessageClass.REQUEST

    session_id: uuid.UUID = attrs.field(metadata=_as(kinds.CONNECT_SESSION_ID))
    result: ResultCode = attrs.field(
        metadata=_as(kinds.RESULT_CODE), converter=_result_code
    )
    path: str | None = attrs.field(default=None, metadata=_as(kinds.PATH))
    response_time: float | None = attrs.field(
        default=None, metadata=_as(kinds.RESPONSE_TIME)
    )
    connect_time: float | None = attrs.field(
        default=None, metadata=_as(kinds.CONNECT_TIME)
    )
    nat: NATSummary | None = attrs.field(
        default=None, metadata=_as(kinds.NAT_BEHAVIOUR)
    )


@attrs.frozen(kw_only=True)
class ConnectionResultResponse(Message):
    """The mediator has taken note."""

    METHOD = Method.CONNECTION_RESULT
    CLASS = MessageClass.SUCCESS
