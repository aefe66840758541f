"""Tests of the UDP port that STUN and UDT share."""

from __future__ import annotations

import gc
import struct
import weakref
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.udp import SharedUDPPort, is_stun_datagram, shared_port, shared_ports
from dwcloud.net.udp_port import segments
from dwcloud.protocol.addresses import Address
from dwcloud.testing import World

PEER = Address("192.0.2.9", 4000)


def stun(size: int = 0) -> bytes:
    """Return a Binding request with an attribute area of ``size`` bytes."""
    return struct.pack("!HHI", 1, size, 0x2112A442) + bytes(12 + size)


class RecordingUDT:
    """Stands where UDT is, and keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, int | None, Any]] = []

    def datagrams_received(
        self, data: bytes, segment_size: int | None, address: Any
    ) -> None:
        self.received.append((bytes(data), segment_size, address))


class SortingTests(SynchronousTestCase):
    """STUN here, everything else there."""

    def setUp(self) -> None:
        self.world = World()
        self.host = self.world.internet().host("192.0.2.1")
        self.port = SharedUDPPort(self.host.reactor, port=3345)
        self.udt = RecordingUDT()
        self.port.udt = self.udt  # type: ignore[assignment]
        self.stun: list[tuple[bytes, Address]] = []
        self.port.onSTUN = lambda data, address: self.stun.append((data, address))

    def test_recognition(self) -> None:
        """A STUN message has zero bits, the cookie and the right length."""
        self.assertTrue(is_stun_datagram(stun()))
        self.assertTrue(is_stun_datagram(memoryview(stun(8))))
        for wrong in (
            b"",
            stun()[:19],
            stun() + b"x",
            b"\x80" + stun()[1:],
            stun()[:4] + b"\x21\x12\xa4\x43" + stun()[8:],
        ):
            self.assertFalse(is_stun_datagram(wrong))

    def test_single_datagrams(self) -> None:
        """A datagram goes where it belongs."""
        self.port.datagrams_received(stun(4), None, PEER)
        self.port.datagrams_received(b"\x80" + bytes(19), None, PEER)
        self.assertEqual(self.stun, [(stun(4), PEER)])
        self.assertEqual(self.udt.received, [(b"\x80" + bytes(19), None, PEER)])

    def test_batch_without_stun(self) -> None:
        """A batch of UDT packets stays together."""
        batch = (b"\x80" + bytes(19)) * 3
        self.port.datagrams_received(batch, 20, PEER)
        self.assertEqual(self.udt.received, [(batch, 20, PEER)])

    def test_mixed_batch(self) -> None:
        """The kernel joins by size, so STUN may be in the midst of UDT."""
        packet = b"\x80" + bytes(19)
        self.port.datagrams_received(packet + stun() + packet[:5], 20, PEER)
        self.assertEqual(self.stun, [(stun(), PEER)])
        self.assertEqual(
            [data for data, _, _ in self.udt.received], [packet, packet[:5]]
        )

    @given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 40))
    def test_any_batch(self, parts: list[bytes], size: int) -> None:
        """Whatever comes, every datagram goes to exactly one of the two, in order."""
        self.stun.clear()
        self.udt.received.clear()
        data = b"".join(parts)
        self.port.datagrams_received(data, size, PEER)
        to_udt = [
            bytes(datagram)
            for batch, segment_size, _ in self.udt.received
            for datagram in segments(batch, segment_size)
        ]
        sent = [bytes(datagram) for datagram in segments(data, size)]
        self.assertEqual(
            [d for d, _ in self.stun], [d for d in sent if is_stun_datagram(d)]
        )
        self.assertEqual(to_udt, [d for d in sent if not is_stun_datagram(d)])

    def test_nobody_wants_stun(self) -> None:
        """Without a taker STUN is dropped."""
        self.port.onSTUN = None
        self.port.datagrams_received(stun(), None, PEER)
        self.assertEqual(self.udt.received, [])

    def test_taker_fails(self) -> None:
        """What the taker of STUN raises is logged and stops nothing."""

        def fail(data: bytes, address: Address) -> None:
            raise ZeroDivisionError

        self.port.onSTUN = fail
        self.port.datagrams_received(stun(), None, PEER)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SharedUDPPortTests(SynchronousTestCase):
    """The port in a simulated network."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.one, self.two = internet.host("192.0.2.1"), internet.host("192.0.2.2")

    def test_stun_both_ways(self) -> None:
        """Two ports exchange STUN messages and count them."""
        port = SharedUDPPort(self.one.reactor, port=3345)
        other = SharedUDPPort(self.two.reactor)
        received: list[tuple[bytes, Address]] = []
        port.onSTUN = lambda data, address: port.sendDatagram(data + b"", address)
        other.onSTUN = lambda data, address: received.append((data, address))
        port.start()
        other.start()
        self.assertEqual(port.getHost(), ("0.0.0.0", 3345))
        other.sendDatagram(stun(8), ("192.0.2.1", 3345))
        self.world.run_until(lambda: received)
        self.assertEqual(received, [(stun(8), ("192.0.2.1", 3345))])
        self.assertEqual(other.statistics.datagrams_sent, 1)
        self.assertEqual(other.statistics.bytes_received, 28)

    def test_nearby(self) -> None:
        """One datagram is dropped on the way, those before and after it are not."""
        port, other = SharedUDPPort(self.one.reactor), SharedUDPPort(self.two.reactor)
        received: list[bytes] = []
        other.onSTUN = lambda data, address: received.append(data)
        port.start()
        other.start()
        address = Address("192.0.2.2", other.getHost().port)
        port.sendDatagram(stun(4), address)
        port.send_nearby(stun(8), address, 1)
        port.sendDatagram(stun(12), address)
        self.world.run_until_idle()
        self.assertEqual(received, [stun(4), stun(12)])
        self.assertEqual(port.statistics.datagrams_sent, 3)
        self.world.run_until(port.stop())
        port.send_nearby(stun(8), address, 1)
        self.assertEqual(port.statistics.datagrams_lost, 1)

    def test_port_in_use(self) -> None:
        """A second port of the same number raises CannotListenError."""
        SharedUDPPort(self.one.reactor, port=3345).start()
        second = SharedUDPPort(self.one.reactor, port=3345)
        self.assertRaises(CannotListenError, second.start)

    def test_send_errors_are_loss(self) -> None:
        """What cannot be sent is counted and not raised, open or closed."""
        port = SharedUDPPort(self.one.reactor)
        port.start()
        port.sendDatagram(bytes(70_000), PEER)
        port.sendDatagram(b"", ("2001:db8::1", 1))
        self.assertEqual(port.statistics.datagrams_lost, 2)
        self.world.run_until(port.stop())
        port.sendDatagram(b"x", PEER)
        self.assertEqual(port.statistics.datagrams_lost, 3)
        self.assertFalse(port.running)
        self.world.run_until(port.stop())

    def test_closes_with_the_program(self) -> None:
        """Twisted closing the socket ends what runs over the port."""
        port = SharedUDPPort(self.one.reactor)
        port.start()
        attempt = port.udt.connect(("192.0.2.2", 9), Factory.forProtocol(Protocol))
        port._port._port.stopListening()  # type: ignore[attr-defined]
        self.world.advance(1)
        self.failureResultOf(attempt)
        self.assertFalse(port.running)
        self.assertEqual(self.one.reactor.getDelayedCalls(), [])


class SharedPortTests(SynchronousTestCase):
    """:func:`shared_port`."""

    def setUp(self) -> None:
        self.world = World()
        internet = self.world.internet()
        self.one, self.two = internet.host("192.0.2.1"), internet.host("192.0.2.2")

    def test_same_place_same_port(self) -> None:
        """All who ask for the same local address get the same port."""
        free = shared_port(self.one.reactor)
        self.assertIs(shared_port(self.one.reactor), free)
        self.assertIs(shared_port(self.one.reactor, port=free.getHost().port), free)
        fixed = shared_port(self.one.reactor, port=3345)
        self.assertIsNot(fixed, free)
        self.assertIs(shared_port(self.one.reactor, port=3345), fixed)
        bound = shared_port(self.one.reactor, interface="192.0.2.1", port=3346)
        self.assertEqual(bound.getHost(), ("192.0.2.1", 3346))
        self.assertEqual(set(shared_ports(self.one.reactor)), {free, fixed, bound})

    def test_listeners_have_their_own(self) -> None:
        """Who needs an own port gets another free one each time."""
        ports = {
            shared_port(self.one.reactor, exclusive=True).getHost().port
            for _ in range(3)
        }
        self.assertEqual(len(ports), 3)

    def test_reactors_do_not_meet(self) -> None:
        """Two machines in one process have different ports."""
        self.assertIsNot(
            shared_port(self.one.reactor, port=1), shared_port(self.two.reactor, port=1)
        )
        self.assertEqual(len(shared_ports(self.two.reactor)), 1)

    def test_replaced_when_closed(self) -> None:
        """A closed port is not given out again."""
        port = shared_port(self.one.reactor, port=3345)
        self.world.run_until(port.stop())
        again = shared_port(self.one.reactor, port=3345)
        self.assertIsNot(again, port)
        self.assertTrue(again.running)

    def test_closes_when_idle(self) -> None:
        """The port closes with the last thing that used it."""
        port = shared_port(self.one.reactor)
        attempt = port.udt.connect(("192.0.2.2", 9), Factory.forProtocol(Protocol))
        self.world.advance(1)
        self.assertTrue(port.running)
        attempt.cancel()
        self.failureResultOf(attempt)
        self.world.advance(5)
        self.assertFalse(port.running)
        self.assertEqual(self.one.reactor.getDelayedCalls(), [])
        self.assertEqual(shared_ports(self.one.reactor), [])

    def test_holds_nothing_alive(self) -> None:
        """Neither port nor reactor live on because of the dictionary."""
        port = shared_port(self.one.reactor)
        port.stop()
        references = [weakref.ref(port), weakref.ref(self.one.reactor)]
        del port, self.one, self.two, self.world
        gc.collect()
        self.assertEqual([reference() for reference in references], [None, None])
