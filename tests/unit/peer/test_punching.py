"""The server's side of hole punching."""

from __future__ import annotations

import uuid
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import UDTHandshakeTimeout, UDTRejected
from dwcloud.net.udp import SharedUDPPort
from dwcloud.peer import punching
from dwcloud.peer.punching import Puncher
from dwcloud.protocol.addresses import Address
from dwcloud.protocol.mediation.messages import ConnectionRequested
from dwcloud.protocol.mediation.parameters import ConnectionParameters
from dwcloud.protocol.punching.probes import (
    PROBE_LENGTH,
    Probe,
    ProbeCodec,
    punch_key,
)

A, B = Address("198.51.100.1", 1), Address("192.168.1.5", 2)
A_6 = Address("2001:db8::1", 1)


@attrs.define(eq=False)
class Rendezvous:
    """One that the port was asked for."""

    address: Address
    timeout: float
    result: Deferred[Any]
    cancelled: bool = False


class FakePort:
    """A UDP port on which nothing happens but what the test says."""

    def __init__(self) -> None:
        self.asked: list[Rendezvous] = []
        self.probes: list[tuple[bytes, Address]] = []
        self.refuses = False
        self.udt = self
        self.ports = {4: self}

    def sendDatagram(self, data: bytes, address: Address) -> None:
        self.probes.append((data, address))

    def known_as(self, address: Address) -> Address:
        return address

    def rendezvous(
        self, address: Address, factory: object, timeout: float
    ) -> Deferred[Any]:
        if self.refuses:
            self.asked.append(Rendezvous(address, timeout, Deferred()))
            return fail(UDTRejected("no"))
        one = Rendezvous(address, timeout, Deferred())
        one.result = Deferred(lambda _: setattr(one, "cancelled", True))
        self.asked.append(one)
        return one.result


def codec_of_client(answer: bytes, session: uuid.UUID) -> Probe:
    """Read a probe of the server as the session's client."""
    key = punch_key(bytes(16), session)
    return ProbeCodec(key, from_server=False).decode(answer)


class PuncherTests(SynchronousTestCase):
    """Rendezvous towards clients."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.port = FakePort()
        self.puncher = Puncher(
            self.clock,
            cast(SharedUDPPort, self.port),
            Factory.forProtocol(Protocol),
        )

    def request(
        self,
        *addresses: Address,
        timeout: float = 15.0,
        session: uuid.UUID | None = None,
        unproven: Address | None = None,
    ) -> None:
        """The mediator asks to meet a client at these addresses."""
        self.puncher.punch(
            ConnectionRequested(
                session_id=session or uuid.uuid4(),
                token=bytes(16),
                client_name="me",
                udp_endpoints=addresses,
                parameters=ConnectionParameters(rendezvous_timeout=timeout),
                unproven=unproven,
            )
        )

    def test_one_family(self) -> None:
        """Without a socket of IPv6 there is nothing to punch with over that."""
        self.request(A, A_6)
        self.assertEqual([each.address for each in self.port.asked], [A])
        self.port.ports[6] = self.port
        self.request(A, A_6)
        self.assertEqual([each.address for each in self.port.asked], [A, A_6])

    def test_unproven(self) -> None:
        """An address that nobody has proven gets one probe in all, and no handshake."""
        session = uuid.uuid4()
        self.port.ports[6] = self.port
        for _ in range(2):
            self.request(A, session=session, unproven=A_6)
            self.clock.pump([0.1] * 60)
        self.assertEqual([each.address for each in self.port.asked], [A])
        felt = [data for data, address in self.port.probes if address == A_6]
        self.assertEqual([len(data) for data in felt], [PROBE_LENGTH])
        # What comes from there is met as from any address that was not named.
        session_key = punch_key(bytes(16), session)
        client = ProbeCodec(session_key, from_server=False)
        heard = client.decode(felt[0]).hello
        probe = client.encode(Probe(bytes(12), heard, in_use=True))
        self.puncher.searches.datagramReceived(probe, A_6)
        self.assertEqual([each.address for each in self.port.asked], [A, A_6])

    def test_every_address(self) -> None:
        """All addresses of a client are tried at once."""
        self.request(A, B)
        self.assertEqual([one.address for one in self.port.asked], [A, B])
        self.assertEqual({one.timeout for one in self.port.asked}, {15.0})
        self.assertEqual(len(self.puncher), 2)

    def test_met(self) -> None:
        """Where a client was met is known from then on."""
        self.request(A, B)
        self.assertFalse(self.puncher.knows(A))
        self.port.asked[0].result.callback(Protocol())
        self.assertTrue(self.puncher.knows(A))
        self.assertFalse(self.puncher.knows(B))
        self.assertEqual(len(self.puncher), 1)

    def test_missed(self) -> None:
        """A rendezvous that fails in the end is forgotten."""
        self.request(A)
        self.clock.advance(15)
        self.port.asked[0].result.errback(UDTHandshakeTimeout())
        self.assertEqual((len(self.puncher), len(self.port.asked)), (0, 1))
        self.assertFalse(self.puncher.knows(A))

    def test_asked_again(self) -> None:
        """A second request for the same address starts none, but prolongs the first."""
        self.request(A)
        self.clock.advance(10)
        self.request(A)
        self.assertEqual(len(self.port.asked), 1)
        self.clock.advance(5)
        self.port.asked[0].result.errback(UDTHandshakeTimeout())
        self.assertEqual([one.timeout for one in self.port.asked], [15.0, 10.0])
        self.clock.advance(10)
        self.port.asked[1].result.errback(UDTHandshakeTimeout())
        self.assertEqual((len(self.puncher), len(self.port.asked)), (0, 2))

    def test_rejected(self) -> None:
        """A client that rejects is not tried again and again."""
        self.port.refuses = True
        self.request(A)
        self.assertEqual((len(self.puncher), len(self.port.asked)), (0, 1))

    def test_limits(self) -> None:
        """A client has few addresses, and there are only so many clients."""
        self.request(*(Address("198.51.100.1", port) for port in range(1, 50)))
        self.assertEqual(len(self.puncher), 8)
        self.patch(punching, "_MAX_PENDING", 10)
        self.request(*(Address("198.51.100.2", port) for port in range(1, 50)))
        self.assertEqual(len(self.puncher), 10)

    def test_remembers_so_many(self) -> None:
        """The addresses of clients that were met are bounded, the latest are kept."""
        self.patch(punching, "_MAX_MET", 3)
        met = [Address("198.51.100.1", port) for port in range(1, 6)]
        for address in met:
            self.request(address)
            self.port.asked[-1].result.callback(Protocol())
        self.assertEqual(
            [self.puncher.knows(address) for address in met],
            [False, False, True, True, True],
        )

    def prove(self, session: uuid.UUID, address: Address) -> None:
        """The client of a session sends probes from an address, and hears there."""
        codec = ProbeCodec(punch_key(bytes(16), session), from_server=False)
        hello = b"a" * 12
        receive = self.puncher.searches.datagramReceived
        self.assertTrue(receive(codec.encode(Probe(hello)), address))
        answer, to = self.port.probes[-1]
        self.assertEqual(to, address)
        heard = codec_of_client(answer, session)
        probe = codec.encode(Probe(hello, heard.hello, in_use=True))
        self.assertTrue(receive(probe, address))

    def test_calls_from_elsewhere(self) -> None:
        """A client is met where it calls from, until the session's time is over."""
        session = uuid.uuid4()
        self.request(A, session=session)
        self.assertEqual([to for _, to in self.port.probes], [A])
        other = Address(A.host, 4711)
        self.clock.advance(5)
        self.prove(session, other)
        self.assertEqual([one.address for one in self.port.asked], [A, other])
        self.assertEqual(self.port.asked[1].timeout, 10.0)
        self.port.asked[1].result.callback(Protocol())
        self.assertTrue(self.puncher.knows(other))

    def test_further_addresses(self) -> None:
        """A repeated request adds to the search of its session."""
        session = uuid.uuid4()
        self.request(session=session)
        self.request(A, session=session)
        self.assertEqual(len(self.puncher.searches), 1)
        self.assertEqual([to for _, to in self.port.probes], [A])

    def test_stopped(self) -> None:
        """Stopping gives up what is pending."""
        self.request(A, B)
        self.puncher.stop()
        self.assertTrue(all(one.cancelled for one in self.port.asked))
        self.assertEqual((len(self.puncher), len(self.port.asked)), (0, 2))
