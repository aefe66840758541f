"""The UDP face of the mediator."""

from __future__ import annotations

import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.datagrams import MediatorDatagrams
from dwcloud.mediator.mediator import Mediator
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import (
    Bind,
    Connect,
    ConnectionAck,
    ConnectionResult,
    ConnectResponse,
)
from dwcloud.protocol.mediation.methods import Method
from dwcloud.protocol.mediation.registry import ServerRecord
from dwcloud.protocol.mediation.result_codes import ResultCode
from dwcloud.protocol.stun.attributes import AttributeType, decode_error_code
from dwcloud.protocol.stun.binding import binding_request, reflexive_address
from dwcloud.protocol.stun.message import MessageClass, RawAttribute, STUNMessage
from tests.unit.protocol.mediation.test_registry import Channel, name

CLIENT = ("203.0.113.7", 4000)
TRANSACTION = b"transactions"


class Outbox:
    """A UDP transport that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self.error: OSError | None = None

    def write(self, data: bytes, address: Any) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((data, address))


class DatagramTests(SynchronousTestCase):
    """Requests over UDP and their answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.mediator = Mediator(self.clock, MediatorConfiguration())
        self.outbox = Outbox()
        self.protocol = MediatorDatagrams(self.mediator)
        self.protocol.transport = self.outbox  # type: ignore[assignment]
        self.channel = Channel()
        self.mediator.server_online(ServerRecord(name(1, 2), self.channel, Bind(), 0.0))

    def receive(self, data: bytes, source: Any = CLIENT) -> list[STUNMessage]:
        """Let a datagram arrive and return the answers so far, to whom it came from."""
        self.protocol.datagramReceived(data, source)
        return self.answers()

    def answers(self) -> list[STUNMessage]:
        return [STUNMessage.decode(data) for data, _ in self.outbox.sent]

    def test_binding(self) -> None:
        """Any STUN client learns its address, in 32 bytes."""
        [answer] = self.receive(binding_request(TRANSACTION).encode())
        self.assertEqual(reflexive_address(answer), Address(*CLIENT))
        self.assertEqual(len(self.outbox.sent[0][0]), 32)
        self.assertEqual(self.outbox.sent[0][1], CLIENT)

    def test_binding_with_fingerprint(self) -> None:
        """A client that marks its messages gets a marked answer."""
        raw = binding_request(TRANSACTION).encode(fingerprint=True)
        [answer] = self.receive(raw)
        self.assertTrue(answer.has_fingerprint)

    def test_connect(self) -> None:
        """The answer goes to where the request came from, when the server confirmed."""
        connect = Connect(session_id=uuid.UUID(int=1), target=name(1))
        self.receive(connect.to_padded_stun(TRANSACTION).encode())
        [request] = self.channel.requests
        self.assertEqual(request.udp_endpoints, (Address(*CLIENT),))
        ack = ConnectionAck(session_id=connect.session_id).to_stun(b"acknowledges")
        server = ("198.51.100.2", 5000)
        self.receive(ack.encode(integrity_key=request.token), server)
        (_, first), (raw_ack, second) = self.outbox.sent
        self.assertEqual((first, second), (CLIENT, server))
        response = ConnectResponse.from_stun(self.answers()[0])
        self.assertEqual(response.udp_endpoints, (Address(*server),))
        self.assertTrue(STUNMessage.decode(raw_ack).verify_integrity(request.token))

    def test_connect_times_out(self) -> None:
        """Without confirmation the clock releases the answer."""
        connect = Connect(session_id=uuid.UUID(int=1), target=name(1))
        self.receive(connect.to_padded_stun(TRANSACTION).encode())
        self.clock.advance(2.9)
        self.assertEqual(self.outbox.sent, [])
        self.clock.advance(0.2)
        self.assertEqual(len(self.outbox.sent), 1)

    def test_dual_stack(self) -> None:
        """An IPv4 client at a dual-stack socket is known by its IPv4 address."""
        connect = Connect(session_id=uuid.UUID(int=1), target=name(1))
        source = ("::ffff:203.0.113.7", 4000)
        self.receive(connect.to_padded_stun(TRANSACTION).encode(), source)
        [request] = self.channel.requests
        self.assertEqual(request.udp_endpoints, (Address(*CLIENT),))
        self.clock.advance(3.0)
        self.assertEqual(self.outbox.sent[0][1], source)

    def test_forged_ack(self) -> None:
        """A confirmation that is not authentic is refused, in a short answer."""
        ack = ConnectionAck(session_id=uuid.UUID(int=1)).to_stun(TRANSACTION)
        [answer] = self.receive(ack.encode(integrity_key=b"x" * 16))
        code = decode_error_code(answer.require(AttributeType.ERROR_CODE)).code
        self.assertEqual(code, 401)
        self.assertEqual(self.mediator.statistics.bad_acks, 1)

    def test_result(self) -> None:
        """A result is always acknowledged; a stranger learns nothing."""
        result = ConnectionResult(session_id=uuid.UUID(int=1), result=ResultCode.OK)
        [answer] = self.receive(result.to_stun(TRANSACTION).encode())
        self.assertIs(answer.message_class, MessageClass.SUCCESS)

    def test_methods_of_tcp(self) -> None:
        """The control channel is no affair of UDP."""
        [answer] = self.receive(Bind(uplink_rate=1).to_stun(TRANSACTION).encode())
        self.assertIs(answer.message_class, MessageClass.ERROR)

    def test_short_request(self) -> None:
        """A request without padding gets what fits, never more than it sent."""
        connect = Connect(session_id=uuid.UUID(int=1), target=name(1))
        raw = connect.to_stun(TRANSACTION).encode()
        self.receive(raw)
        self.clock.advance(3.0)
        for data, _ in self.outbox.sent:
            self.assertLessEqual(len(data), len(raw))

    def test_send_error(self) -> None:
        """What the system does not send counts as lost."""
        self.outbox.error = OSError(11, "try again")
        self.receive(binding_request(TRANSACTION).encode())
        self.assertEqual(self.mediator.statistics.send_failures, 1)

    @given(st.binary(max_size=200))
    def test_any_bytes(self, data: bytes) -> None:
        """Garbage is ignored."""
        self.protocol.datagramReceived(data, CLIENT)

    @given(
        st.sampled_from(list(Method)),
        st.sampled_from(MessageClass),
        st.lists(
            st.builds(
                RawAttribute,
                st.one_of(st.integers(0x4D00, 0x4D15), st.integers(0, 0xFFFF)),
                st.binary(max_size=40),
            ).filter(lambda a: a.type not in (0x0008, 0x001C, 0x8028)),
            max_size=8,
        ),
    )
    def test_no_amplification(
        self, method: Method, kind: MessageClass, raw: list[RawAttribute]
    ) -> None:
        """No answer but that of Binding is longer than its request."""
        self.outbox.sent.clear()
        request = STUNMessage(method, kind, TRANSACTION, tuple(raw)).encode()
        self.protocol.datagramReceived(request, CLIENT)
        for data, _ in self.outbox.sent:
            if method is not Method.BINDING:
                self.assertLessEqual(len(data), len(request))
        self.assertLessEqual(len(self.outbox.sent), 1)
