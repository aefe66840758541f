"""The base of the tests against the reference UDT library."""

from __future__ import annotations

import hashlib
import pathlib
import random
import tempfile
import time

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.protocol.udt import CloseReason, Connection, ConnectionClosed
from tests.interop.reference import PATIENCE, Reference, SocketPort, reference_program

HOST = "127.0.0.1"


def material(seed: int, size: int) -> bytes:
    """Return so many bytes that look random."""
    return random.Random(seed).randbytes(size)


def sha256(data: bytes | bytearray) -> str:
    """Return the digest by which data are compared."""
    return hashlib.sha256(data).hexdigest()


class LibraryTestCase(SynchronousTestCase):
    """Sends :attr:`ours` to the library and receives :attr:`theirs` from it."""

    ours = b""
    theirs = b""

    def setUp(self) -> None:
        reference_program()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def exchange(self, size: int) -> None:
        """Let so many bytes be carried in each direction."""
        self.ours, self.theirs = material(1, size), material(2, size)

    def port(self, host: str = HOST, **settings: object) -> SocketPort:
        """Return a port of ours."""
        settings.setdefault("connect_timeout", PATIENCE)
        port = SocketPort(host, **settings)  # type: ignore[arg-type]
        self.addCleanup(port.close)
        return port

    def reference(
        self,
        mode: str,
        local: int,
        remote: int = 0,
        receive: int | None = None,
        **options: int,
    ) -> Reference:
        """Start the library's side.

        :param receive: bytes it waits for, by default all of :attr:`ours`; 0 lets it
            read until we close.
        """
        receive = len(self.ours) if receive is None else receive
        reference = Reference.start(
            self.directory, mode, local, remote, self.theirs, receive, **options
        )
        self.addCleanup(reference.stop)
        return reference

    def accepted(self, port: SocketPort) -> Connection:
        """Wait until a connection is up."""
        self.assertTrue(port.run(lambda: bool(port.connections_up())))
        return port.connections_up()[0]

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
        self.finish(port, reference)
        self.assertEqual(sha256(received), sha256(self.theirs))
        self.assertEqual(reference.digest(), sha256(self.ours))
        (closed,) = [
            event
            for event in port.events
            if isinstance(event, ConnectionClosed) and event.connection is connection
        ]
        self.assertIn(closed.reason, (CloseReason.LOCAL, CloseReason.PEER_SHUTDOWN))

    def finish(self, port: SocketPort, reference: Reference) -> None:
        """Wait for the library's side to end well."""
        port.run(lambda: reference.ended)
        self.assertEqual(reference.process.poll(), 0)
