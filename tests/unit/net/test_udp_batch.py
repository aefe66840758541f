"""Tests of the UDP port on the kernel's segmentation, without the kernel."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.error import CannotListenError, ConnectionLost
from twisted.internet.interfaces import IReactorFDSet, IReactorSocket, IReadDescriptor
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides
from zope.interface.verify import verifyObject

from dwcloud.net import udp_batch
from dwcloud.net.udp import fastest_port_type
from dwcloud.net.udp_batch import BatchedUDPPort, offload_available
from dwcloud.net.udp_direct import DirectUDPPort
from dwcloud.net.udp_port import PlainUDPPort

PEER = ("192.0.2.1", 4000)
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104


class RecordingReceiver:
    """Keeps what a port hands over."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, int | None, tuple[str, int]]] = []
        self.batches = 0
        self.closed: list[Failure] = []
        self.on_datagrams: Callable[[], None] = lambda: None

    def datagrams_received(
        self, data: Any, segment_size: int | None, address: tuple[str, int]
    ) -> None:
        self.received.append((bytes(data), segment_size, address))
        self.on_datagrams()

    def batch_ended(self) -> None:
        self.batches += 1

    def port_closed(self, reason: Failure) -> None:
        self.closed.append(reason)


class FakeReactor(Clock):
    """Knows readers only."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)


class FakeSocket:
    """Records what is sent, raises and returns what it is told to."""

    def __init__(self, family: int, kind: int) -> None:
        self.family = family
        self.options: dict[tuple[int, int], int] = {}
        self.sent: list[tuple[bytes, int | None, tuple[str, int]]] = []
        self.waiting: list[tuple[bytes, int | None, tuple[Any, ...]]] = []
        self.batch_error: int | None = None
        self.single_error: int | None = None
        self.bind_error: int | None = None
        self.closed = False

    def setblocking(self, flag: bool) -> None:
        self.blocking = flag

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int) -> int:
        return self.options.get((level, option), 64)

    def bind(self, address: tuple[str, int]) -> None:
        if self.bind_error is not None:
            raise OSError(self.bind_error, "no")
        self.bound = address

    def getsockname(self) -> tuple[Any, ...]:
        host, port = self.bound
        host = host or "0.0.0.0"
        return (host, port or 5000, 0, 0) if ":" in host else (host, port or 5000)

    def fileno(self) -> int:
        return 99

    def close(self) -> None:
        self.closed = True

    def sendto(self, data: bytes, address: tuple[str, int]) -> int:
        if self.single_error is not None:
            raise OSError(self.single_error, "no")
        self.sent.append((bytes(data), None, address))
        return len(data)

    def sendmsg(
        self,
        buffers: Iterable[bytes],
        ancillary: Iterable[tuple[int, int, bytes]],
        flags: int,
        address: tuple[str, int],
    ) -> int:
        if self.batch_error is not None:
            raise OSError(self.batch_error, "no")
        data = b"".join(buffers)
        [(level, kind, value)] = ancillary
        assert (level, kind) == (SOL_UDP, UDP_SEGMENT)
        self.sent.append((data, struct.unpack("=H", value)[0], address))
        return len(data)

    def recvmsg_into(
        self, buffers: Sequence[memoryview], space: int
    ) -> tuple[int, list[tuple[int, int, bytes]], int, tuple[Any, ...]]:
        if not self.waiting:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        data, segment_size, address = self.waiting.pop(0)
        [buffer] = buffers
        assert len(buffer) >= 65535
        buffer[: len(data)] = data
        ancillary = []
        if segment_size is not None:
            ancillary.append((SOL_UDP, UDP_GRO, struct.pack("=i", segment_size)))
        return len(data), ancillary, 0, address

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, tuple[Any, ...]]:
        size, ancillary, _, address = self.recvmsg_into([buffer], 0)
        assert not ancillary
        return size, address


class BatchedUDPPortTests(SynchronousTestCase):
    """:class:`BatchedUDPPort` over a fake socket."""

    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.receiver = RecordingReceiver()
        self.sockets: list[FakeSocket] = []
        self.port = self.make_port()
        self.port.start()
        [self.socket] = self.sockets

    def make_port(self, interface: str = "", port: int = 0) -> BatchedUDPPort:
        def make_socket(family: int, kind: int) -> Any:
            self.sockets.append(FakeSocket(family, kind))
            return self.sockets[-1]

        return BatchedUDPPort(
            self.reactor,
            self.receiver,
            interface=interface,
            port=port,
            make_socket=make_socket,
        )

    def test_interface(self) -> None:
        """The port is a descriptor that a reactor can read from."""
        self.assertTrue(verifyObject(IReadDescriptor, self.port))
        self.assertEqual(self.reactor.readers, [self.port])
        self.assertEqual(self.port.fileno(), 99)
        self.assertEqual(self.port.logPrefix(), "UDP 5000")

    def test_socket_options(self) -> None:
        """The kernel is asked to join what it receives, and nothing blocks."""
        self.assertEqual(self.socket.options[SOL_UDP, UDP_GRO], 1)
        self.assertFalse(self.socket.blocking)
        self.assertEqual(self.socket.family, socket.AF_INET)

    def test_ipv6(self) -> None:
        """An IPv6 interface opens an IPv6 socket."""
        port = self.make_port("::1", 7)
        port.start()
        self.assertEqual(self.sockets[-1].family, socket.AF_INET6)
        self.assertEqual(port.local_address(), ("::1", 7))

    def test_address_in_use(self) -> None:
        """An address that cannot be bound raises CannotListenError."""

        def make_socket(family: int, kind: int) -> Any:
            self.sockets.append(FakeSocket(family, kind))
            self.sockets[-1].bind_error = errno.EADDRINUSE
            return self.sockets[-1]

        port = BatchedUDPPort(
            self.reactor, self.receiver, interface="", port=1, make_socket=make_socket
        )
        self.assertRaises(CannotListenError, port.start)
        self.assertTrue(self.sockets[-1].closed)

    def test_send_one(self) -> None:
        """One datagram goes out by the plain call."""
        self.port.send(b"abc", None, PEER)
        self.port.send(b"def", 3, PEER)
        self.assertEqual(self.socket.sent, [(b"abc", None, PEER), (b"def", None, PEER)])
        self.assertEqual(self.port.statistics.datagrams_sent, 2)
        self.assertEqual(self.port.statistics.bytes_sent, 6)

    def test_send_batch(self) -> None:
        """Several datagrams go out by one call."""
        self.port.send(b"aabbc", 2, PEER)
        self.assertEqual(self.socket.sent, [(b"aabbc", 2, PEER)])
        self.assertEqual(self.port.statistics.datagrams_sent, 3)

    def test_send_more_than_the_kernel_takes(self) -> None:
        """A batch is cut at 64 segments and at the largest IP packet."""
        self.port.send(b"x" * 130, 1, PEER)
        self.assertEqual([len(d) for d, _, _ in self.socket.sent], [64, 64, 2])
        self.socket.sent.clear()
        self.port.send(b"y" * 100_000, 1472, PEER)
        self.assertEqual(
            [len(d) for d, _, _ in self.socket.sent], [44 * 1472, 100_000 - 44 * 1472]
        )
        self.assertEqual(self.port.statistics.datagrams_sent, 130 + 68)

    def test_loss(self) -> None:
        """What the operating system refuses is counted and not raised."""
        for number in (
            errno.EAGAIN,
            errno.ENOBUFS,
            errno.EPERM,
            errno.ENETUNREACH,
            errno.ECONNREFUSED,
        ):
            self.socket.batch_error = self.socket.single_error = number
            self.port.send(b"abc", None, PEER)
            self.port.send(b"aabbc", 2, PEER)
        self.assertEqual(self.port.statistics.datagrams_lost, 5 * (1 + 3))
        self.assertEqual(self.port.statistics.datagrams_sent, 0)
        self.assertEqual(self.socket.sent, [])
        self.assertIn("no", self.port.statistics.last_loss)

    def test_path_without_segmentation(self) -> None:
        """Where a batch is impossible its datagrams go singly, from then on at once."""
        for number in (errno.EIO, errno.EMSGSIZE, errno.EINVAL):
            peer = ("192.0.2.1", number)
            self.socket.batch_error = number
            self.socket.sent.clear()
            self.port.send(b"aabbc", 2, peer)
            singles = [(b"aa", None, peer), (b"bb", None, peer), (b"c", None, peer)]
            self.assertEqual(self.socket.sent, singles)
            self.socket.batch_error = None
            self.port.send(b"aabbc", 2, peer)
            self.assertEqual(self.socket.sent, singles * 2)
        self.port.send(b"aabbc", 2, PEER)
        self.assertEqual(self.socket.sent[-1], (b"aabbc", 2, PEER))

    def test_memory_of_paths_is_bounded(self) -> None:
        """The addresses without segmentation are remembered up to a limit."""
        self.socket.batch_error = errno.EIO
        for number in range(1000):
            self.port.send(b"aabb", 2, ("192.0.2.1", number))
        self.assertLessEqual(len(self.port._unsegmentable), 256)

    def test_too_long_datagram(self) -> None:
        """A single datagram above the path's limit is lost, not raised."""
        self.socket.single_error = errno.EMSGSIZE
        self.port.send(b"x" * 70_000, None, PEER)
        self.assertEqual(self.port.statistics.datagrams_lost, 1)

    def test_receive(self) -> None:
        """Single datagrams and batches reach the receiver, then the batch's end."""
        self.socket.waiting = [
            (b"abc", None, PEER),
            (b"aabbc", 2, PEER),
            (b"dd", 2, ("::1", 9, 0, 0)),
        ]
        self.port.doRead()
        self.assertEqual(
            self.receiver.received,
            [(b"abc", None, PEER), (b"aabbc", 2, PEER), (b"dd", None, ("::1", 9))],
        )
        self.assertEqual(self.receiver.batches, 1)
        self.assertEqual(self.port.statistics.datagrams_received, 5)
        self.assertEqual(self.port.statistics.bytes_received, 10)

    def test_others_have_their_turn(self) -> None:
        """One turn reads a bounded number of datagrams and of bytes."""
        self.socket.waiting = [(b"a", None, PEER)] * 300
        self.port.doRead()
        self.assertEqual(self.receiver.received, [(b"a" * 256, 1, PEER)])
        self.assertEqual(self.receiver.batches, 1)
        self.receiver.received.clear()
        self.socket.waiting = [(bytes(50_000), 1000, PEER)] * 100
        self.port.doRead()
        self.assertEqual(len(self.socket.waiting), 100 - 21)
        received = sum(len(data) for data, _, _ in self.receiver.received)
        self.assertEqual(received, 21 * 50_000)

    def test_stop(self) -> None:
        """Stopping tells the receiver first, then closes the socket."""
        states: list[bool] = []
        self.receiver.port_closed = (  # type: ignore[method-assign]
            lambda reason: states.append(self.socket.closed)
        )
        self.successResultOf(self.port.stop())
        self.successResultOf(self.port.stop())
        self.assertEqual(states, [False])
        self.assertTrue(self.socket.closed)
        self.assertEqual(self.reactor.readers, [])
        self.assertEqual(self.port.fileno(), -1)

    def test_send_after_stop(self) -> None:
        """A datagram for a closed port is lost."""
        self.port.stop()
        self.port.send(b"abc", None, PEER)
        self.port.send(b"aabb", 2, PEER)
        self.assertEqual(self.port.statistics.datagrams_lost, 3)

    def test_stopped_by_the_receiver(self) -> None:
        """The receiver may stop the port from within; reading ends there."""
        self.receiver.on_datagrams = self.port.stop
        self.socket.waiting = [(b"a", None, PEER), (b"bb", None, PEER)] * 2
        self.port.doRead()
        self.assertEqual(len(self.receiver.received), 1)
        self.assertEqual(self.receiver.batches, 0)

    def test_reactor_stops(self) -> None:
        """The end of the reactor closes the port."""
        self.port.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.socket.closed)
        self.assertEqual(len(self.receiver.closed), 1)


class DirectUDPPortTests(SynchronousTestCase):
    """:class:`DirectUDPPort` over a fake socket."""

    def setUp(self) -> None:
        self.receiver = RecordingReceiver()
        self.socket = FakeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = DirectUDPPort(
            FakeReactor(),
            self.receiver,
            interface="192.0.2.9",
            port=7,
            make_socket=lambda family, kind: self.socket,  # type: ignore[arg-type]
        )
        self.port.start()

    def test_asks_nothing_of_the_kernel(self) -> None:
        """No option is set that only Linux knows, and nothing blocks."""
        self.assertNotIn((SOL_UDP, UDP_GRO), self.socket.options)
        self.assertFalse(self.socket.blocking)
        self.assertEqual(self.port.local_address(), ("192.0.2.9", 7))

    def send_nearby(self, option: tuple[int, int]) -> list[int]:
        """Send one datagram nearby and one as usual; return their times to live."""
        seen: list[int] = []
        send = self.socket.sendto

        def note(data: bytes, address: tuple[str, int]) -> int:
            seen.append(self.socket.getsockopt(*option))
            return send(data, address)

        self.patch(self.socket, "sendto", note)
        self.port.send_nearby(b"a", PEER, 2)
        self.port.send(b"b", None, PEER)
        return seen

    def test_nearby(self) -> None:
        """A datagram that few routers pass on leaves the next ones as they are."""
        option = (socket.IPPROTO_IP, socket.IP_TTL)
        self.assertEqual(self.send_nearby(option), [2, 64])
        self.socket.single_error = errno.EHOSTUNREACH
        self.port.send_nearby(b"c", PEER, 2)
        self.assertEqual(self.socket.getsockopt(*option), 64)
        self.assertEqual(self.port.statistics.datagrams_lost, 1)
        self.port.stop()
        self.port.send_nearby(b"d", PEER, 2)
        self.assertEqual(self.port.statistics.datagrams_lost, 2)

    def test_nearby_by_ipv6(self) -> None:
        """With IPv6 it is another option."""
        self.socket.family = socket.AF_INET6
        option = (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
        self.assertEqual(self.send_nearby(option), [2, 64])

    def test_send(self) -> None:
        """A batch goes out datagram by datagram, and each is counted."""
        self.port.send(b"aabbc", 2, PEER)
        self.port.send(b"d", None, PEER)
        sent = [data for data, _, _ in self.socket.sent]
        self.assertEqual(sent, [b"aa", b"bb", b"c", b"d"])
        statistics = self.port.statistics
        self.assertEqual((statistics.datagrams_sent, statistics.bytes_sent), (4, 6))

    def test_loss(self) -> None:
        """What the system refuses of a batch is counted as lost, the rest as sent."""
        refused = {b"bb", b"c"}
        send = self.socket.sendto

        def sendto(data: bytes, address: tuple[str, int]) -> int:
            if bytes(data) in refused:
                raise OSError(errno.ENOBUFS, "no")
            return send(data, address)

        self.socket.sendto = sendto  # type: ignore[method-assign]
        self.port.send(b"aabbc", 2, PEER)
        statistics = self.port.statistics
        self.assertEqual((statistics.datagrams_sent, statistics.bytes_sent), (1, 2))
        self.assertEqual(statistics.datagrams_lost, 2)
        self.port.stop()
        self.port.send(b"aabbc", 2, PEER)
        self.assertEqual(statistics.datagrams_lost, 5)
        self.assertIn("closed", statistics.last_loss)

    def test_receive(self) -> None:
        """Datagrams that came singly reach the receiver together."""
        self.socket.waiting = [
            (b"aa", None, PEER),
            (b"bb", None, PEER),
            (b"c", None, PEER),
            (b"", None, PEER),
            (b"dd", None, PEER),
        ]
        self.port.doRead()
        self.assertEqual(
            self.receiver.received, [(b"aabbc", 2, PEER), (b"dd", None, PEER)]
        )
        self.assertEqual(self.receiver.batches, 1)
        self.assertEqual(self.port.statistics.datagrams_received, 5)


class OffloadAvailableTests(SynchronousTestCase):
    """The choice between the ports."""

    def setUp(self) -> None:
        udp_batch._kernel_segments.cache_clear()
        self.addCleanup(udp_batch._kernel_segments.cache_clear)

    def test_needs_readers_of_the_kernel(self) -> None:
        """A reactor without descriptors, or with simulated ones, is no base."""
        plain, simulated = Clock(), Clock()
        directlyProvides(simulated, IReactorFDSet)
        self.assertFalse(offload_available(plain))
        self.assertFalse(offload_available(simulated))
        self.assertIs(fastest_port_type(plain), PlainUDPPort)
        self.assertIs(fastest_port_type(simulated), PlainUDPPort)

    def test_needs_the_kernel(self) -> None:
        """A system other than Linux, or an old kernel, is no base."""
        reactor = Clock()
        directlyProvides(reactor, IReactorFDSet, IReactorSocket)
        self.patch(udp_batch.sys, "platform", "darwin")
        self.assertFalse(offload_available(reactor))
        self.assertIs(fastest_port_type(reactor), DirectUDPPort)
        self.patch(udp_batch.sys, "platform", "linux")
        self.patch(udp_batch, "_UDP_GRO", 9999)
        udp_batch._kernel_segments.cache_clear()
        self.assertFalse(offload_available(reactor))
