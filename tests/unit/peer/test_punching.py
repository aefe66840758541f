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

A, B = Address("198.51.100.1", 1), Address("192.168.1.5", 2)


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
        self.refuses = False
        self.udt = self

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

    def request(self, *addresses: Address, timeout: float = 15.0) -> None:
        """The mediator asks to meet a client at these addresses."""
        self.puncher.punch(
            ConnectionRequested(
                session_id=uuid.uuid4(),
                token=bytes(16),
                client_name="me",
                udp_endpoints=addresses,
                parameters=ConnectionParameters(rendezvous_timeout=timeout),
            )
        )

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

    def test_stopped(self) -> None:
        """Stopping gives up what is pending."""
        self.request(A, B)
        self.puncher.stop()
        self.assertTrue(all(one.cancelled for one in self.port.asked))
        self.assertEqual((len(self.puncher), len(self.port.asked)), (0, 2))
