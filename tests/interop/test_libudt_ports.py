"""Several connections with the reference library on one UDP port of either side."""

from __future__ import annotations

import time

from dwcloud.protocol.udt import Connection
from tests.interop.library_case import HOST, LibraryTestCase, sha256
from tests.interop.reference import Reference, SocketPort, free_port

SIZE = 1_000_000


class PortTests(LibraryTestCase):
    """Connections that share ports are told apart by their ids. [udt:multiplexer]"""

    def setUp(self) -> None:
        super().setUp()
        self.exchange(SIZE)

    def all_up(self, port: SocketPort, number: int) -> list[Connection]:
        """Wait for so many connections."""
        self.assertTrue(port.run(lambda: len(port.connections_up()) == number))
        return port.connections_up()

    def carry(self, port: SocketPort, connections: list[Connection]) -> None:
        """Let all of them carry everything at the same time, and close."""
        for connection in connections:
            connection.write(self.ours, now=time.monotonic())

        def is_complete() -> bool:
            return all(len(port.received[c]) >= SIZE for c in connections)

        self.assertTrue(port.run(is_complete))
        for connection in connections:
            self.assertEqual(sha256(port.received[connection]), sha256(self.theirs))
            connection.close(now=time.monotonic())

    def check_files(self, reference: Reference, number: int) -> None:
        for index in range(number):
            self.assertEqual(reference.digest(f".{index}"), sha256(self.ours))

    def test_two_processes(self) -> None:
        """Two programs with the library reach one port of ours. [udt:multiplexer]"""
        port = self.port()
        port.multiplexer.listen()
        references = [
            self.reference("client", free_port(), port.number) for _ in range(2)
        ]
        self.carry(port, self.all_up(port, 2))
        for reference in references:
            self.finish(port, reference)
            self.assertEqual(reference.digest(), sha256(self.ours))

    def test_listener(self) -> None:
        """Three sockets of the library on one port reach one port of ours.
        [udt:multiplexer]"""
        port = self.port()
        port.multiplexer.listen()
        reference = self.reference("client", free_port(), port.number, connections=3)
        self.carry(port, self.all_up(port, 3))
        self.finish(port, reference)
        self.check_files(reference, 3)

    def test_clients(self) -> None:
        """Three of our clients on one port reach a listener of the library.
        [udt:multiplexer]"""
        port, number = self.port(), free_port()
        reference = self.reference("listener", number, connections=3)
        for _ in range(3):
            port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.carry(port, self.all_up(port, 3))
        self.finish(port, reference)
        self.check_files(reference, 3)

    def test_both_roles(self) -> None:
        """One port of ours listens and connects at the same time. [udt:multiplexer]"""
        port, number = self.port(), free_port()
        port.multiplexer.listen()
        listener = self.reference("listener", number)
        client = self.reference("client", free_port(), port.number)
        port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.carry(port, self.all_up(port, 2))
        for reference in (listener, client):
            self.finish(port, reference)
            self.assertEqual(reference.digest(), sha256(self.ours))

    def test_through_the_hole(self) -> None:
        """After a rendezvous, an ordinary connection between the same ports.
        [udt:one-rendezvous]"""
        port, number = self.port(), free_port()
        reference = self.reference("rendezvous", number, port.number, then=1)
        first = port.multiplexer.rendezvous((HOST, number), now=time.monotonic())
        self.all_up(port, 1)
        first.write(self.ours, now=time.monotonic())
        self.assertTrue(port.run(lambda: len(port.received[first]) == SIZE))
        self.assertTrue(port.run(lambda: not first.send_buffer_bytes))
        self.assertEqual(reference.line(), b"connected")
        self.assertEqual(reference.line(), b"listening")
        second = port.multiplexer.connect((HOST, number), now=time.monotonic())
        self.all_up(port, 2)
        self.carry(port, [second])
        first.close(now=time.monotonic())
        self.finish(port, reference)
        self.assertEqual(reference.digest(), sha256(self.ours))
        self.assertEqual(reference.digest(".then"), sha256(self.ours))
