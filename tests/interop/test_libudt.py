"""Streams between our UDT and the reference library 4.11, over loopback."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable

from dwcloud.protocol.udt import CloseReason, Connection, ConnectionClosed
from tests.interop.library_case import HOST, LibraryTestCase, material, sha256
from tests.interop.reference import Reference, SocketPort, free_port

LARGE = 10_000_000
SMALL = 1_000_000
READY = 0.5
"""Seconds for the library to be ready for data; busy machines need more than 20 ms."""


def is_handshake(data: bytes) -> bool:
    """Tell whether a datagram is a handshake."""
    return data[:4] == b"\x80\0\0\0"


class StreamTests(LibraryTestCase):
    """Streams both ways at once, whoever starts."""

    def test_client(self) -> None:
        """Our client to the library's listener, 10 MB each way. [udt:handshake]"""
        self.exchange(LARGE)
        port, number = self.port(), free_port()
        reference = self.reference("listener", number)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.check(port, connection, reference)
        self.assertEqual(connection.statistics.packet_size, 1500)

    def test_listener(self) -> None:
        """The library's client to our listener, 10 MB each way. [udt:handshake]"""
        self.exchange(LARGE)
        port = self.port()
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number)
        connection = self.accepted(port)
        self.check(port, connection, reference)
        self.assertEqual(connection.statistics.packet_size, 1500)

    def test_rendezvous_library_first(self) -> None:
        """A rendezvous that the library has started before. [udt:rendezvous]"""
        self.exchange(SMALL)
        port, number = self.port(), free_port()
        reference = self.reference("rendezvous", number, port.number)
        port.run(lambda: False, 0.5)
        handshakes = 0

        def count(data: bytes) -> bool:
            # By the socket id of the sender, as both directions are shown here.
            nonlocal handshakes
            theirs = data[40:44] != connection.socket_id.to_bytes(4)
            handshakes += is_handshake(data) and theirs
            return False

        connection = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        port.drop = count
        self.assertIs(self.accepted(port), connection)
        # The library repeats its own every 0.25 s: it was not waited for.
        self.assertLessEqual(handshakes, 2)
        self.check(port, connection, reference)

    def test_rendezvous_library_second(self) -> None:
        """A rendezvous that we have started before. [udt:rendezvous]"""
        self.exchange(SMALL)
        port, number = self.port(), free_port()
        connection = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        port.run(lambda: False, 0.5)
        reference = self.reference("rendezvous", number, port.number)
        self.assertIs(self.accepted(port), connection)
        self.check(port, connection, reference)

    def test_half_of_the_handshakes_lost(self) -> None:
        """Every second handshake is lost, in each way to come up. [udt:handshake]"""
        self.exchange(100_000)
        for seed, mode in enumerate(("rendezvous", "rendezvous", "listener", "client")):
            chance = random.Random(seed)
            port, number = self.port(connect_timeout=10.0), free_port()
            # A listener's response that is lost more than twice kills the library's
            # client, see docs/protocol/udt; so only what this client sends is lost.
            to_anybody = mode != "client"
            port.drop = (
                lambda data, c=chance, to_anybody=to_anybody: (  # type: ignore[misc]
                    is_handshake(data)
                    and (to_anybody or data[12:16] == bytes(4))
                    and c.random() < 0.5
                )
            )
            if mode == "client":
                port.multiplexer.listen()
            reference = self.reference(mode, number, port.number)
            now = time.monotonic()
            if mode == "rendezvous":
                connection = port.multiplexer.rendezvous((HOST, number), now=now)
            elif mode == "listener":
                connection = port.multiplexer.connect((HOST, number), now=now)
            else:
                connection = self.accepted(port)
            self.check(port, connection, reference)

    def wrapping(self) -> SocketPort:
        """Return a port whose numbers wrap after 301 packets."""
        values = iter([(77).to_bytes(4), ((1 << 31) - 301).to_bytes(4)])
        return self.port(random_bytes=lambda size: next(values, bytes(size)))

    def test_sequence_wrap(self) -> None:
        """Both directions wrap from 2^31-1 to 0. [udt:sequence-wrap]"""
        self.exchange(2_000_000)
        port, number = self.wrapping(), free_port()
        reference = self.reference("listener", number)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.check(port, connection, reference)

    def test_sequence_wrap_in_rendezvous(self) -> None:
        """Ours wrap, each side having numbers of its own. [udt:sequence-wrap]"""
        self.exchange(1_000_000)
        port, number = self.wrapping(), free_port()
        reference = self.reference("rendezvous", number, port.number)
        connection = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        self.check(port, connection, reference)


class LossTests(LibraryTestCase):
    """Some of all packets lost in both directions."""

    def lossy(self, share: float, mode: str) -> None:
        self.exchange(300_000)
        chance = random.Random(8)
        port, number = self.port(), free_port()
        if mode == "client":
            port.multiplexer.listen()
        reference = self.reference(mode, number, port.number)
        if mode == "listener":
            port.multiplexer.connect((HOST, number), now=time.monotonic())
        connection = self.accepted(port)
        port.drop = lambda data: chance.random() < share
        self.check(port, connection, reference)

    def test_one_percent(self) -> None:
        """One percent, as client. [udt:nak]"""
        self.lossy(0.01, "listener")

    def test_one_percent_as_listener(self) -> None:
        """One percent, as listener. [udt:nak]"""
        self.lossy(0.01, "client")

    def test_five_percent(self) -> None:
        """Five percent, as client. [udt:expiration]"""
        self.lossy(0.05, "listener")

    def test_five_percent_as_listener(self) -> None:
        """Five percent, as listener. [udt:expiration]"""
        self.lossy(0.05, "client")


class SizeTests(LibraryTestCase):
    """Packets of other sizes."""

    def sizes(self, own: int, theirs: int, expected: int) -> None:
        self.exchange(SMALL)
        port = self.port(maximum_packet_size=own)
        largest = 0

        def measure(data: bytes) -> bool:
            nonlocal largest
            largest = max(largest, len(data))
            return False

        port.drop = measure
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number, mss=theirs)
        self.check(port, self.accepted(port), reference)
        self.assertEqual(largest, expected - 28)

    def test_smaller(self) -> None:
        """The library's packet size of 1000 bytes is kept to. [udt:packet-size]"""
        self.sizes(1500, 1000, 1000)

    def test_larger(self) -> None:
        """The library keeps to ours, even if it could do more. [udt:packet-size]"""
        self.sizes(1400, 9000, 1400)

    def test_rendezvous(self) -> None:
        """In a rendezvous the library does not take the smaller size but what the
        other end named; both ways work. [udt:packet-size]"""
        self.exchange(SMALL)
        port, number = self.port(), free_port()
        sizes: dict[bool, int] = {}

        def measure(data: bytes) -> bool:
            # By the socket id, as both directions are shown here.
            ours = int.from_bytes(data[12:16]) == connection.socket_id
            sizes[ours] = max(sizes.get(ours, 0), len(data))
            return False

        reference = self.reference("rendezvous", number, port.number, mss=1000)
        connection = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        port.drop = measure
        self.check(port, connection, reference)
        self.assertEqual(sizes, {False: 1000 - 28, True: 1500 - 28})

    def narrow(self, limit: int) -> Callable[[bytes], bool]:
        """Return a path that swallows larger IPv4 packets."""
        return lambda data: len(data) + 28 > limit

    def test_narrow_path(self) -> None:
        """A path of 1400 bytes is found out and kept to. [udt:path-mtu]"""
        self.exchange(SMALL)
        port, number = self.port(), free_port()
        port.drop_sent = self.narrow(1400)
        reference = self.reference("listener", number)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        known = port.run(lambda: connection.statistics.packet_size == 1400)
        self.assertTrue(known, connection.statistics.packet_size)
        self.check(port, connection, reference)

    def test_ipv6(self) -> None:
        """Over IPv6, in packets that an Ethernet carries whole. [udt:packet-size]"""
        self.exchange(SMALL)
        port = self.port("::1")
        port.drop_sent = lambda data: len(data) + 48 > 1500
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number, ipv6=1)
        self.check(port, self.accepted(port), reference)


class TrapTests(LibraryTestCase):
    """What the library does that one would not expect."""

    def test_nonsense_before(self) -> None:
        """Packets that make no sense do not disturb the listener."""
        self.exchange(10_000)
        port = self.port()
        port.multiplexer.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in (b"", b"\x80" * 15, bytes(16), b"\x80" + bytes(63)):
                stranger.sendto(data, (HOST, port.number))
        reference = self.reference("client", free_port(), port.number)
        self.check(port, self.accepted(port), reference)

    def test_first_data_of_an_acceptor(self) -> None:
        """Data written at once are not lost in the library. [udt:first-data]"""
        self.ours = b"welcome" * 10
        for _ in range(5):
            port = self.port(first_data_delay=READY)
            port.multiplexer.listen()
            reference = self.reference("client", free_port(), port.number)
            self.check_first_data(port, self.accepted(port), reference)

    def test_first_data_of_a_rendezvous(self) -> None:
        """Data written at once are not lost in the library. [udt:first-data]"""
        self.ours = b"welcome" * 10
        for _ in range(5):
            port, number = self.port(first_data_delay=READY), free_port()
            reference = self.reference("rendezvous", number, port.number)
            now = time.monotonic()
            connection = port.multiplexer.rendezvous((HOST, number), now=now)
            self.check_first_data(port, connection, reference)

    def check_first_data(
        self, port: SocketPort, connection: Connection, reference: Reference
    ) -> None:
        """Write at once; all of it arrives, and nothing was sent twice for that."""
        connection.write(self.ours, now=time.monotonic())
        self.assertTrue(port.run(lambda: not connection.send_buffer_bytes))
        self.assertEqual(connection.statistics.packets_retransmitted, 0)
        self.finish(port, reference)
        self.assertEqual(reference.digest(), sha256(self.ours))

    def test_close_at_once(self) -> None:
        """What was written before the close arrives before it. [udt:linger]"""
        self.ours = material(5, SMALL)
        port = self.port()
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number, receive=0)
        connection = self.accepted(port)
        connection.write(self.ours, now=time.monotonic())
        connection.close(now=time.monotonic())
        self.finish(port, reference)
        self.assertEqual(reference.digest(), sha256(self.ours))

    def test_library_closes_at_once(self) -> None:
        """What the library wrote before its close arrives before it. [udt:drain]"""
        self.theirs = material(6, SMALL)
        port, number = self.port(), free_port()
        # It ends when it has received one byte, which is sent first.
        self.ours = b"!"
        reference = self.reference("listener", number)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        connection.write(self.ours, now=time.monotonic())
        self.assertTrue(port.run(lambda: not port.connections_up() and port.events))
        self.assertEqual(sha256(port.received[connection]), sha256(self.theirs))
        closed = port.events[-1]
        assert isinstance(closed, ConnectionClosed)
        self.assertIs(closed.reason, CloseReason.PEER_SHUTDOWN)
        self.finish(port, reference)

    def test_slow_reader(self) -> None:
        """A library that does not read stops us, and goes on. [udt:window-update]"""
        # More than its buffer of 8192 packets holds.
        self.ours = material(7, 16_000_000)
        port = self.port()
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number, wait=1)
        connection = self.accepted(port)
        connection.write(self.ours, now=time.monotonic())
        port.run(lambda: False, 1.2)
        self.assertGreater(connection.send_buffer_bytes, 1_000_000)
        reference.go_on()
        self.assertTrue(port.run(lambda: not connection.send_buffer_bytes))
        self.finish(port, reference)
        self.assertEqual(reference.digest(), sha256(self.ours))

    def test_rejected_by_us(self) -> None:
        """A socket of the wrong type learns of it at once. [udt:rejection]"""
        port = self.port()
        port.multiplexer.listen()
        # The library tells a rejection from the end of its own patience.
        reference = self.reference(
            "client", free_port(), port.number, messages=1, rejected=1
        )
        self.finish(port, reference)
        self.assertEqual(port.events, [])

    def test_rejected_by_the_library(self) -> None:
        """And so do we. [udt:rejection]"""
        port, number = self.port(), free_port()
        self.reference("listener", number, messages=1)
        port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.assertTrue(port.run(lambda: bool(port.events)))
        (closed,) = port.events
        assert isinstance(closed, ConnectionClosed)
        self.assertIs(closed.reason, CloseReason.REJECTED)

    def test_dead_library(self) -> None:
        """A library whose process is gone is noticed. [udt:half-open]"""
        self.ours = b"more than nothing"
        port, number = self.port(silence_limit=4.0), free_port()
        reference = self.reference("listener", number, receive=1 << 30)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.accepted(port)
        connection.write(self.ours, now=time.monotonic())
        port.run(lambda: not connection.send_buffer_bytes)
        # Quiet for longer than the limit: the library keeps it alive.
        port.run(lambda: False, 5.0)
        self.assertEqual(port.connections_up(), [connection])
        reference.stop()
        self.assertTrue(port.run(lambda: not port.connections_up()))
        closed = port.events[-1]
        assert isinstance(closed, ConnectionClosed)
        self.assertIs(closed.reason, CloseReason.BROKEN)
