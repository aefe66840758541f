"""The three kinds of UDP port on the real kernel."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dwcloud.net.udp_batch import BatchedUDPPort, offload_available
from dwcloud.net.udp_direct import DirectUDPPort
from dwcloud.net.udp_port import PlainUDPPort, segments
from tests.requirements import require


class Collector:
    """Keeps datagrams one by one, and tells when there are enough."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []
        self.calls = 0
        self.batches = 0
        self.address: tuple[str, int] | None = None
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()

    def datagrams_received(
        self, data: Any, segment_size: int | None, address: tuple[str, int]
    ) -> None:
        self.calls += 1
        self.address = address
        self.datagrams += [bytes(d) for d in segments(data, segment_size)]

    def batch_ended(self) -> None:
        self.batches += 1
        if len(self.datagrams) >= self.wanted and not self.enough.called:
            self.enough.callback(None)

    def port_closed(self, reason: Any) -> None:
        pass


class DatagramPortTestsMixin:
    """What all kinds of port do alike."""

    kind: Any
    interface = "127.0.0.1"

    @property
    def reactor(self) -> Any:
        """The reactor that trial runs."""
        from twisted.internet import reactor

        return reactor

    def make(self: Any, port: int = 0) -> tuple[Any, Collector]:
        """Return a started port and what it feeds."""
        collector = Collector()
        made = self.kind(self.reactor, collector, interface=self.interface, port=port)
        made.start()
        self.addCleanup(made.stop)
        return made, collector

    async def test_batch(self: Any) -> None:
        """A batch arrives as the same datagrams in order, however it is carried."""
        sender, _ = self.make()
        receiver, collector = self.make()
        data = bytes(range(256)) * 100
        sender.send(data, 1000, receiver.local_address())
        collector.wanted = 26
        await collector.enough
        self.assertEqual(
            collector.datagrams, [bytes(part) for part in segments(data, 1000)]
        )
        self.assertEqual(collector.address, sender.local_address())
        self.assertEqual(sender.statistics.datagrams_sent, 26)
        self.assertEqual(receiver.statistics.datagrams_received, 26)
        self.assertEqual(receiver.statistics.bytes_received, len(data))

    async def test_largest_datagram(self: Any) -> None:
        """The largest datagram of IPv4 arrives whole, the next size is lost."""
        sender, _ = self.make()
        receiver, collector = self.make()
        data = bytes(range(256)) * 256
        sender.send(data[:65507], None, receiver.local_address())
        collector.wanted = 1
        await collector.enough
        self.assertEqual(collector.datagrams, [data[:65507]])
        sender.send(data + data, None, receiver.local_address())
        self.assertEqual(sender.statistics.datagrams_lost, 1)

    async def test_closed_destination(self: Any) -> None:
        """Nobody at the destination is loss; the port goes on working."""
        sender, own = self.make()
        closed, _ = self.make()
        address = closed.local_address()
        await closed.stop()
        for _ in range(3):
            sender.send(b"anybody there", None, address)
            await deferLater(self.reactor, 0.01)
        sender.send(b"myself", None, sender.local_address())
        own.wanted = 1
        await own.enough
        self.assertEqual(own.datagrams, [b"myself"])

    def test_wrong_destinations(self: Any) -> None:
        """What cannot be sent is counted, whatever the reason."""
        sender, _ = self.make()
        for address in (("::1", 1), ("255.255.255.255", 1), ("127.0.0.1", 0)):
            sender.send(b"a" * 30, 10, address)
        self.assertEqual(
            sender.statistics.datagrams_lost + sender.statistics.datagrams_sent, 9
        )
        self.assertGreaterEqual(sender.statistics.datagrams_lost, 3)

    def test_address_in_use(self: Any) -> None:
        """A taken port raises CannotListenError."""
        port, _ = self.make()
        self.assertRaises(CannotListenError, self.make, port.local_address()[1])


class BatchedUDPPortTests(DatagramPortTestsMixin, TestCase):
    """With the kernel's segmentation."""

    kind = BatchedUDPPort
    without_checksums = accept_without_checksums = (socket.SOL_SOCKET, 11)

    def setUp(self) -> None:
        available = offload_available(self.reactor)
        require(available, "this kernel has no UDP_SEGMENT and UDP_GRO")

    async def test_one_call_a_batch(self) -> None:
        """The batch arrives by few calls."""
        sender, _ = self.make()
        receiver, collector = self.make()
        sender.send(bytes(40 * 1472), 1472, receiver.local_address())
        collector.wanted = 40
        await collector.enough
        self.assertLess(collector.calls, 5)

    async def test_kernel_refuses_to_segment(self) -> None:
        """Where the kernel refuses a batch, its datagrams arrive singly."""
        sender, _ = self.make()
        receiver, collector = self.make()
        # Without checksums nothing can be segmented (udp_send_skb: EINVAL).
        sender._socket.setsockopt(*self.without_checksums, 1)
        receiver._socket.setsockopt(*self.accept_without_checksums, 1)
        for _ in range(2):
            sender.send(bytes(3000), 1000, receiver.local_address())
        collector.wanted = 6
        await collector.enough
        self.assertEqual([len(d) for d in collector.datagrams], [1000] * 6)
        self.assertEqual(sender.statistics.datagrams_lost, 0)
        self.assertIn(receiver.local_address(), sender._unsegmentable)


class BatchedUDP6PortTests(BatchedUDPPortTests):
    """With the kernel's segmentation over IPv6."""

    interface = "::1"
    without_checksums, accept_without_checksums = (17, 101), (17, 102)

    def setUp(self) -> None:
        super().setUp()
        require(socket.has_ipv6, "no IPv6 here")

    def test_wrong_destinations(self) -> None:
        """An IPv4 destination of an IPv6 port is loss."""
        sender, _ = self.make()
        sender.send(b"abc", None, ("127.0.0.1", 1))
        self.assertEqual(sender.statistics.datagrams_lost, 1)


class DirectUDPPortTests(DatagramPortTestsMixin, TestCase):
    """On a descriptor of its own."""

    kind = DirectUDPPort

    async def test_connected(self) -> None:
        """A socket for one peer takes nothing from the others, and nobody gets in."""
        sender, own = self.make()
        receiver, collector = self.make()
        other, _ = self.make()
        data = bytes(40 * 1000)
        sender.send(data, 1000, receiver.local_address())
        collector.wanted = 40
        await collector.enough
        self.assertEqual(b"".join(collector.datagrams), data)
        self.assertEqual(collector.address, sender.local_address())
        self.assertEqual(len(sender._companions), 1)
        own.wanted = 20
        for number in range(10):
            receiver.send(b"r%d" % number, None, sender.local_address())
            other.send(b"o%d" % number, None, sender.local_address())
        await own.enough
        for name in (b"r", b"o"):
            got = [data for data in own.datagrams if data.startswith(name)]
            self.assertEqual(got, [name + b"%d" % number for number in range(10)])
        self.assertRaises(CannotListenError, self.make, sender.local_address()[1])


class PlainUDPPortTests(DatagramPortTestsMixin, TestCase):
    """On ``reactor.listenUDP``."""

    kind = PlainUDPPort
