"""The typed messages: there and back, and against all bytes."""

from __future__ import annotations

import uuid
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.addresses import Address
from dwcloud.protocol.errors import LocalProtocolError, RemoteProtocolError
from dwcloud.protocol.grants.access import MAX_ACCOUNT_NAME, MAX_GRANT
from dwcloud.protocol.grants.relay import RELAY_GRANT_BYTES
from dwcloud.protocol.grants.revocations import (
    MAX_REVOCATIONS,
    AccessState,
    Revocation,
)
from dwcloud.protocol.mediation import attributes, messages
from dwcloud.protocol.mediation.activity import PATHS, Activity, RunningStream
from dwcloud.protocol.mediation.admittance import NotBound
from dwcloud.protocol.mediation.attributes import KINDS
from dwcloud.protocol.mediation.messages import (
    AccessChanged,
    Bind,
    Connect,
    ConnectResponse,
    Listen,
    Message,
    UnknownAttributes,
    error_answer,
)
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.parameters import (
    ConnectionParameters,
    KeepAlive,
    Transport,
)
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.nat import Filtering, Mapping, NATSummary
from dwcloud.protocol.stun.attributes import AttributeType, decode_error_code
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from dwcloud.protocol.stun.stream import MAX_STREAM_MESSAGE

TRANSACTION = b"transactions"

addresses = st.builds(
    Address,
    st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)),
    st.integers(0, 65535),
)
peer_names = st.builds(PeerName, st.uuids(), st.one_of(st.none(), st.uuids()))
milliseconds = st.integers(0, 86_400_000).map(lambda value: value / 1000)
parameters = st.builds(
    ConnectionParameters,
    rendezvous_timeout=milliseconds,
    relay_grace=milliseconds,
    udp_keep_alive_misses=st.integers(0, 1000),
    preferred_transport=st.sampled_from(Transport),
)
keep_alive = st.builds(
    KeepAlive,
    st.integers(1000, 600_000).map(lambda value: value / 1000),
    st.integers(1000, 600_000).map(lambda value: value / 1000),
    st.integers(1, 100),
)
nats = st.builds(
    NATSummary,
    st.sampled_from(Mapping),
    st.none() | st.sampled_from(Filtering),
    st.integers(-32768, 32767),
)
texts = st.text(max_size=30).filter(str.isprintable)
activities = st.lists(
    st.builds(
        RunningStream,
        number=st.integers(0, 2**32 - 1),
        path=st.sampled_from(PATHS),
        session=st.none() | st.uuids().filter(lambda guid: guid.int > 0),
        age=st.integers(0, 2**32 - 1),
        to_client=st.integers(0, 2**64 - 1),
        to_server=st.integers(0, 2**64 - 1),
        account=texts,
        client=texts,
    ),
    max_size=5,
).flatmap(
    lambda streams: st.builds(
        Activity, st.integers(len(streams), 0xFFFF), st.just(tuple(streams))
    )
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "PEER-NAME": peer_names,
    "CONNECT-SESSION-ID": st.uuids(),
    "TCP-ENDPOINT": addresses,
    "FORWARDED-ENDPOINT": addresses,
    "UDP-ENDPOINT": addresses,
    "CLIENT-NAME": texts,
    "PROTOCOL-VERSION": st.integers(0, 2**32 - 1),
    "PUBLIC-KEY": st.binary(min_size=32, max_size=32),
    "NAT-BEHAVIOUR": nats,
    "PUNCH-KEY": st.binary(min_size=32, max_size=32),
    "WITHOUT-UDP": st.just(True),
    "SERVER-FIRST": st.just(True),
    "TOKEN": st.binary(min_size=16, max_size=16),
    "KEEP-ALIVE": keep_alive,
    "RELAY-URL": texts,
    "CONNECTION-PARAMETERS": parameters,
    "RESULT-CODE": st.sampled_from(ResultCode),
    "PATH": st.sampled_from(["lan", "tcp", "udp", "relay"]),
    "UPLINK-RATE": st.integers(0, 2**64 - 1),
    "RECONNECT-DELAY": milliseconds.filter(lambda value: value < 4_000_000),
    "RESPONSE-TIME": milliseconds,
    "CONNECT-TIME": milliseconds,
    "ACCESS-GRANT": st.binary(min_size=1, max_size=MAX_GRANT),
    "RELAY-GRANT": st.binary(min_size=RELAY_GRANT_BYTES, max_size=RELAY_GRANT_BYTES),
    "ACCESS-STATE": st.builds(
        AccessState,
        is_bound=st.booleans(),
        is_public=st.booleans(),
        has_web=st.booleans(),
        as_of_ms=st.integers(0, 2**64 - 1),
    ),
    "REVOCATIONS": st.lists(
        st.builds(Revocation, st.uuids(), st.integers(0, 2**64 - 1)), max_size=5
    ).map(tuple),
    "ACTIVITY": activities,
    "MEDIATOR-ENDPOINT": addresses,
    "UNPROVEN-ENDPOINT": addresses,
}

CLASSES = [
    value
    for value in vars(messages).values()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
]


@st.composite
def any_message(draw: st.DrawFn) -> Message:
    """Return a message of any class."""
    cls = draw(st.sampled_from(CLASSES))
    values: dict[str, Any] = {}
    for field in attrs.fields(cls):
        kind = field.metadata["kind"]
        value = VALUES[kind.name]
        if field.default == ():
            values[field.name] = tuple(draw(st.lists(value, max_size=kind.limit)))
        elif field.default is None:
            values[field.name] = draw(st.one_of(st.none(), value))
        else:
            values[field.name] = draw(value)
    return cls(**values)


class RoundTripTests(SynchronousTestCase):
    """What one end sends the other end reads."""

    @given(any_message())
    def test_round_trip(self, message: Message) -> None:
        """Every message survives the wire unchanged."""
        encoded = message.to_stun(TRANSACTION).encode()
        decoded = STUNMessage.decode(encoded)
        self.assertEqual(type(message).from_stun(decoded), message)

    def test_all_methods_have_messages(self) -> None:
        """Each method of ours is used, and no two messages share method and class."""
        used = [(cls.METHOD, cls.CLASS) for cls in CLASSES]
        self.assertEqual(len(set(used)), len(used))
        self.assertEqual({method for method, _ in used}, set(Method) - {Method.BINDING})

    def test_numbers(self) -> None:
        """Methods and attributes lie outside of what standards assign."""
        for method in set(Method) - {Method.BINDING}:
            self.assertIn(method, range(0x100, 0x1000))
        for number in KINDS:
            self.assertTrue(0x4000 <= number < 0x8000 or 0xC000 <= number < 0x10000)
        self.assertEqual(len(KINDS), 33)


class HostileTests(SynchronousTestCase):
    """What must be refused."""

    def test_flag_with_a_value(self) -> None:
        """What is said by being there has no value, and is left out if it is not so."""
        connect = Connect(
            session_id=uuid.UUID(int=1), target=PeerName(uuid.UUID(int=2))
        )
        flagged = attrs.evolve(connect, without_udp=True).to_stun(TRANSACTION)
        self.assertEqual(Connect.from_stun(flagged).without_udp, True)
        self.assertIsNone(Connect.from_stun(connect.to_stun(TRANSACTION)).without_udp)
        number = attributes.WITHOUT_UDP.number
        odd = connect.to_stun(TRANSACTION).with_attributes(RawAttribute(number, b"1"))
        error = self.assertRaises(RemoteProtocolError, Connect.from_stun, odd)
        self.assertEqual(error.code, 400)
        never = attrs.evolve(connect, without_udp=False)
        self.assertRaises(LocalProtocolError, never.to_stun, TRANSACTION)

    @given(
        st.sampled_from(CLASSES),
        st.lists(
            st.builds(
                RawAttribute,
                st.one_of(st.sampled_from(list(KINDS)), st.integers(0, 0xFFFF)),
                st.binary(max_size=64),
            ).filter(lambda a: a.type not in (0x0008, 0x001C, 0x8028)),
            max_size=12,
        ),
    )
    def test_any_attributes(self, cls: type[Message], raw: list[RawAttribute]) -> None:
        """Whatever the attributes, there is a message or an error with a code."""
        message = STUNMessage(cls.METHOD, cls.CLASS, TRANSACTION, tuple(raw))
        try:
            decoded = cls.from_stun(message)
        except RemoteProtocolError as error:
            self.assertIn(error.code, (400, 420))
        else:
            self.assertIsInstance(decoded, cls)

    @given(st.sampled_from(sorted(KINDS)), st.binary(max_size=300))
    def test_any_value(self, number: int, data: bytes) -> None:
        """A value is read, or refused with 400."""
        try:
            KINDS[number].decode(data, TRANSACTION)
        except RemoteProtocolError as error:
            self.assertEqual(error.code, 400)

    def test_wrong_method(self) -> None:
        """A message of another method is not taken for ours."""
        other = Bind().to_stun(TRANSACTION)
        self.assertRaises(RemoteProtocolError, Listen.from_stun, other)

    def test_missing_attribute(self) -> None:
        """A required attribute is required."""
        message = STUNMessage(Method.CONNECT, MessageClass.REQUEST, TRANSACTION)
        error = self.assertRaises(RemoteProtocolError, Connect.from_stun, message)
        self.assertEqual(error.code, 400)

    def test_unknown_attributes(self) -> None:
        """Unknown attributes are 420 when required, and skipped when optional."""
        message = Bind().to_stun(TRANSACTION)
        required = message.with_attributes(
            RawAttribute(0x7777, b""), RawAttribute(0x7778, b"")
        )
        error = self.assertRaises(UnknownAttributes, Bind.from_stun, required)
        self.assertEqual(error.types, [0x7777, 0x7778])
        optional = message.with_attributes(RawAttribute(0xC777, b""))
        self.assertEqual(Bind.from_stun(optional), Bind())

    def test_error_answer(self) -> None:
        """The error answer carries the code, and what was not understood."""
        request = Bind().to_stun(TRANSACTION)
        answer = error_answer(request, UnknownAttributes([0x7777]))
        value = answer.require(AttributeType.ERROR_CODE)
        self.assertEqual(decode_error_code(value).code, 420)
        self.assertEqual(answer.require(AttributeType.UNKNOWN_ATTRIBUTES), b"\x77\x77")
        plain = error_answer(request, RemoteProtocolError("without a code"))
        value = plain.require(AttributeType.ERROR_CODE)
        self.assertEqual(decode_error_code(value).code, 400)

    def test_not_bound(self) -> None:
        """A server whose system nobody owns reads so, in the words of its log, too."""
        answer = error_answer(Bind().to_stun(TRANSACTION), NotBound())
        code, reason = decode_error_code(answer.require(AttributeType.ERROR_CODE))
        self.assertEqual(code, 403)
        self.assertIn("dwcloud system bind", reason)
        kind = attributes.ACCESS_STATE
        state = kind.decode(answer.require(kind.number), TRANSACTION)
        self.assertEqual(state, AccessState(is_bound=False))

    def test_most_revocations(self) -> None:
        """As many as a system may have fit into a message on a stream."""
        revocation = Revocation(uuid.UUID(int=1), 2**64 - 1)
        change = AccessChanged(
            state=AccessState(is_bound=True),
            revocations=(revocation,) * MAX_REVOCATIONS,
        )
        self.assertLess(len(change.to_stun(TRANSACTION).encode()), MAX_STREAM_MESSAGE)

    def test_too_many_addresses(self) -> None:
        """A list is limited on both ends."""
        many = (Address("192.0.2.1", 1),) * 17
        self.assertRaises(
            LocalProtocolError, Bind(tcp_endpoints=many).to_stun, TRANSACTION
        )
        one = Bind(tcp_endpoints=many[:1]).to_stun(TRANSACTION)
        hostile = one.with_attributes(*one.attributes * 16)
        self.assertRaises(RemoteProtocolError, Bind.from_stun, hostile)

    def test_unprintable_text(self) -> None:
        """What would disturb a terminal is neither sent nor taken."""
        kind = attributes.CLIENT_NAME
        self.assertRaises(LocalProtocolError, kind.encode, "a\x1b[2J", b"")
        self.assertRaises(RemoteProtocolError, kind.decode, b"a\x1b[2J", b"")
        self.assertRaises(RemoteProtocolError, kind.decode, b"\xff", b"")
        self.assertRaises(LocalProtocolError, kind.encode, "a" * 129, b"")

    def test_unknown_result_code(self) -> None:
        """A result code of the future is refused, not raised as something else."""
        message = STUNMessage(
            Method.CONNECT,
            MessageClass.SUCCESS,
            TRANSACTION,
            (
                RawAttribute(attributes.RESULT_CODE.number, b"\0\0\xff\xff"),
                RawAttribute(attributes.CONNECTION_PARAMETERS.number, b""),
            ),
        )
        self.assertRaises(RemoteProtocolError, ConnectResponse.from_stun, message)


class LengthTests(SynchronousTestCase):
    """The lengths of question and answer over UDP."""

    @given(
        st.lists(addresses, max_size=16), texts, st.none() | st.just(b"g" * MAX_GRANT)
    )
    def test_padding(
        self, local: list[Address], name: str, grant: bytes | None
    ) -> None:
        """A request over UDP has 1,200 bytes, and is the same request."""
        connect = Connect(
            session_id=uuid.UUID(int=1),
            target=PeerName(uuid.UUID(int=2)),
            client_name=name,
            udp_endpoints=tuple(local),
            grant=grant,
        )
        padded = connect.to_padded_stun(TRANSACTION)
        self.assertEqual(len(padded.encode()), 1200)
        self.assertEqual(Connect.from_stun(padded), connect)

    def test_usual_answer_fits(self) -> None:
        """Sixteen addresses of each kind, two relays and grants fit into an answer."""
        many = tuple(Address("192.0.2.1", port) for port in range(16))
        response = ConnectResponse(
            result=ResultCode.OK,
            server=PeerName(uuid.UUID(int=1), uuid.UUID(int=2)),
            udp_endpoints=many,
            tcp_endpoints=many,
            forwarded_endpoints=many,
            relay_urls=("https://relay-1.example.org", "https://relay-2.example.org"),
            punch_key=bytes(32),
            grant=bytes(MAX_GRANT - MAX_ACCOUNT_NAME),
            relay_grant=bytes(RELAY_GRANT_BYTES),
        )
        message = response.fitted(TRANSACTION, 1200)
        self.assertEqual(ConnectResponse.from_stun(message), response)

    @given(any_message(), st.integers(60, 1200))
    def test_fitted(self, message: Message, limit: int) -> None:
        """An answer is never longer than allowed, and keeps what stands first."""
        if not isinstance(message, ConnectResponse):
            return
        try:
            fitted = message.fitted(TRANSACTION, limit)
        except LocalProtocolError:
            return
        self.assertLessEqual(len(fitted.encode()), limit)
        kept = ConnectResponse.from_stun(fitted)
        self.assertEqual(kept.server, message.server)
        length = len(kept.udp_endpoints)
        self.assertEqual(kept.udp_endpoints, message.udp_endpoints[:length])

    def test_hopeless(self) -> None:
        """Where nothing fits there is an error and no endless loop."""
        response = ConnectResponse(result=ResultCode.OK)
        self.assertRaises(LocalProtocolError, response.fitted, TRANSACTION, 20)


class ParameterTests(SynchronousTestCase):
    """What the operator tunes."""

    def test_defaults_are_empty(self) -> None:
        """Both ends know the defaults."""
        self.assertEqual(ConnectionParameters().encode(), b"")

    def test_unknown_numbers_and_transports_are_skipped(self) -> None:
        """A mediator of the future may know more parameters."""
        data = bytes.fromhex("00630000000100080000000a000b00000009")
        decoded = ConnectionParameters.decode(data)
        self.assertEqual(decoded, ConnectionParameters(relay_grace=0.01))

    def test_settings(self) -> None:
        """Values are read as operators write them."""
        changed = ConnectionParameters().replace(
            {
                "relay_grace": "1.5",
                "udp_keep_alive_misses": "5",
                "preferred_transport": "udp",
            }
        )
        self.assertEqual(changed.relay_grace, 1.5)
        self.assertEqual(changed.udp_keep_alive_misses, 5)
        self.assertIs(changed.preferred_transport, Transport.UDP)

    def test_wrong_settings(self) -> None:
        """Mistakes are told with what would be right."""
        for name, text, expected in (
            ("relay_grace", "soon", "seconds"),
            ("relay_grace", "-1", "seconds"),
            ("relay_grace", "nan", "seconds"),
            ("udp_keep_alive_misses", "1.5", "a whole number"),
            ("preferred_transport", "sctp", "none, udp or tcp"),
            ("colour", "red", "relay_grace"),
        ):
            error = self.assertRaises(
                ValueError, ConnectionParameters().replace, {name: text}
            )
            self.assertIn(expected, str(error))

    def test_keep_alive_is_kept_in_range(self) -> None:
        """A mediator can make a server neither send without pause nor wait for ever."""
        eager = KeepAlive.decode(bytes(12))
        self.assertEqual((eager.idle, eager.interval, eager.misses), (1.0, 1.0, 1))
        lazy = KeepAlive.decode(b"\xff" * 12)
        self.assertEqual((lazy.idle, lazy.interval, lazy.misses), (600.0, 600.0, 100))

    def test_labels(self) -> None:
        """Result codes read like words."""
        self.assertEqual(ResultCode.OK.label, "ok")
        self.assertEqual(ResultCode.PEER_OFFLINE.label, "peer offline")
