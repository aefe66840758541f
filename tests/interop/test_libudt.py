"""Our UDT against the reference library 4.11, over loopback."""

from __future__ import annotations

import hashlib
import pathlib
import random
import socket
import tempfile
import time

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import CloseReason, Connection, ConnectionClosed
from tests.interop.reference import Reference, SocketPort, free_port, reference_program

HOST = "127.0.0.1"
SIZE = 2_500_000


def material(seed: int, size: int = SIZE) -> bytes:
    return random.Random(seed).randbytes(size)


def sha256(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


class LibraryTests(SynchronousTestCase):
    """Streams both ways at once, whoever starts."""

    def setUp(self) -> None:
        reference_program()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)
        self.ours, self.theirs = material(1), material(2)

    def port(self, **settings: object) -> SocketPort:
        port = SocketPort(**settings)  # type: ignore[arg-type]
        self.addCleanup(port.close)
        return port

    def reference(
        self, mode: str, local: int, remote: int, packet_size: int | None = None
    ) -> Reference:
        reference = Reference.start(
            self.directory,
            mode,
            local,
            remote,
            self.theirs,
            len(self.ours),
            packet_size,
        )
        self.addCleanup(reference.stop)
        return reference

    def check(
        self, port: SocketPort, connection: Connection, reference: Reference
    ) -> None:
        """Send and receive everything, close, and compare."""
        connection.write(self.ours, now=time.monotonic())
        received = port.received.setdefault(connection, bytearray())
        complete = port.run(lambda: len(received) >= len(self.theirs))
        self.assertTrue(complete, f"{len(received)} bytes; {connection.statistics}")
        connection.close(now=time.monotonic())
        port.run(lambda: connection not in port.connections_up())
        port.run(lambda: reference.process.poll() is not None, 10.0)
        self.assertEqual(reference.process.poll(), 0)
        self.assertEqual(sha256(received), sha256(self.theirs))
        self.assertEqual(reference.digest(), sha256(self.ours))
        (closed,) = [e for e in port.events if isinstance(e, ConnectionClosed)]
        self.assertIn(closed.reason, (CloseReason.LOCAL, CloseReason.PEER_SHUTDOWN))

    def accepted(self, port: SocketPort) -> Connection:
        self.assertTrue(port.run(lambda: bool(port.connections_up()), 10.0))
        return port.connections_up()[0]

    def test_client(self) -> None:
        """Our client to the library's listener."""
        port, number = self.port(), free_port()
        reference = self.reference("listener", number, 0)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.check(port, connection, reference)

    def test_listener(self) -> None:
        """The library's client to our listener."""
        port = self.port()
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number)
        self.check(port, self.accepted(port), reference)

    def test_rendezvous_library_first(self) -> None:
        """A rendezvous that the library has started half a second before."""
        port, number = self.port(), free_port()
        reference = self.reference("rendezvous", number, port.number)
        port.run(lambda: False, 0.5)
        started = time.monotonic()
        connection = port.multiplexer.rendezvous((HOST, number), now=started)
        self.assertIs(self.accepted(port), connection)
        self.assertLess(time.monotonic() - started, 0.4)
        self.check(port, connection, reference)

    def test_rendezvous_library_second(self) -> None:
        """A rendezvous that we have started half a second before."""
        port, number = self.port(), free_port()
        connection = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        port.run(lambda: False, 0.5)
        reference = self.reference("rendezvous", number, port.number)
        self.assertIs(self.accepted(port), connection)
        self.check(port, connection, reference)

    def test_rendezvous_with_half_of_the_handshakes_lost(self) -> None:
        """Every second handshake packet is lost in both directions, at random."""
        chance = random.Random(7)
        port, number = self.port(), free_port()
        port.drop = lambda data: data[:4] == b"\x80\0\0\0" and chance.random() < 0.5
        reference = self.reference("rendezvous", number, port.number)
        connection = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        self.check(port, connection, reference)

    def lossy(self, share: float) -> None:
        self.ours, self.theirs = material(3, 300_000), material(4, 300_000)
        chance = random.Random(8)
        port, number = self.port(), free_port()
        reference = self.reference("listener", number, 0)
        connection = port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.accepted(port)
        port.drop = lambda data: chance.random() < share
        self.check(port, connection, reference)

    def test_one_percent_lost(self) -> None:
        """One percent of all packets is lost in both directions."""
        self.lossy(0.01)

    def test_five_percent_lost(self) -> None:
        """Five percent of all packets are lost in both directions."""
        self.lossy(0.05)

    def test_smaller_packets(self) -> None:
        """The library's packet size of 1000 bytes is kept to in both directions."""
        port = self.port()
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number, 1000)
        self.check(port, self.accepted(port), reference)

    def test_two_connections_on_one_port(self) -> None:
        """Two clients of the library reach one port of ours at the same time."""
        port = self.port()
        port.multiplexer.listen()
        references = [
            self.reference("client", free_port(), port.number) for _ in range(2)
        ]
        self.assertTrue(port.run(lambda: len(port.connections_up()) == 2, 10.0))
        connections = port.connections_up()
        for connection in connections:
            connection.write(self.ours, now=time.monotonic())
        self.assertTrue(
            port.run(
                lambda: all(
                    len(received) >= len(self.theirs)
                    for received in port.received.values()
                )
            )
        )
        for connection in connections:
            self.assertEqual(sha256(port.received[connection]), sha256(self.theirs))
            connection.close(now=time.monotonic())
        port.run(lambda: all(r.process.poll() is not None for r in references), 10.0)
        for reference in references:
            self.assertEqual(reference.digest(), sha256(self.ours))

    def test_nonsense_before(self) -> None:
        """Packets that make no sense do not disturb the listener."""
        port = self.port()
        port.multiplexer.listen()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for data in (b"", b"\x80" * 15, bytes(16), b"\x80" + bytes(63)):
                stranger.sendto(data, (HOST, port.number))
        reference = self.reference("client", free_port(), port.number)
        self.check(port, self.accepted(port), reference)
