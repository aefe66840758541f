"""What the kernel is asked to watch."""

import socket
from typing import Any

from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.net.liveness import watch_busy_connection, watch_idle_connection


class Below:
    """A transport with a handle, or above another transport."""

    def __init__(self, handle: Any = None, transport: Any = None) -> None:
        self.getHandle = lambda: handle
        self.transport = transport


class LivenessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.socket = socket.socket()
        self.addCleanup(self.socket.close)

    def option(self, name: str) -> int:
        return self.socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

    def test_idle_then_busy(self) -> None:
        """An idle connection has a limit for acknowledgement, a busy one probes."""
        watch_idle_connection(Below(self.socket))
        self.assertEqual(self.option("TCP_USER_TIMEOUT"), 60_000)
        # As inside TLS, whose handle is OpenSSL's.
        watch_busy_connection(Below("not a socket", Below(self.socket)))
        self.assertEqual(self.option("TCP_USER_TIMEOUT"), 0)
        self.assertEqual(self.option("TCP_KEEPIDLE"), 60)

    def test_nothing_to_watch(self) -> None:
        """Other sockets, and transports without one, are left alone."""
        unix, other = socket.socketpair()
        self.addCleanup(unix.close)
        self.addCleanup(other.close)
        for transport in (StringTransport(), Below(unix), Below()):
            watch_idle_connection(transport)
            watch_busy_connection(transport)
