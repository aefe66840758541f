"""Protocols on one port, told apart: TLS among them, and clients that are slow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import ConfigurationError
from dwcloud.mediator.first_byte import FirstByteFactory
from dwcloud.net.http_messages import Reply, Request, plain_response
from dwcloud.net.http_server import REQUEST_TIMEOUT, HTTPServerFactory
from dwcloud.net.https import CertificateTLS
from tests.certificates import write_certificate
from tests.unit.net.http_world import HTTPTransport

LIMIT = 15.0


class Named(Factory):
    """Makes protocols that do nothing."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.protocol = Protocol


class ChoiceTests(SynchronousTestCase):
    """The first byte decides."""

    def setUp(self) -> None:
        self.stun, self.http, self.tls = map(Named, ("stun", "http", "tls"))

    def choose(self, first: int, tls: Named | None) -> str:
        factory = FirstByteFactory(
            Clock(), self.stun, self.http, limit=LIMIT, capacity=9, tls=tls
        )
        chosen: Any = factory.choose(first)
        name: str = chosen.name
        return name

    def test_choices(self) -> None:
        """Zero bits are STUN, a handshake record TLS, a letter HTTP."""
        for first, chosen in ((0, "stun"), (1, "stun"), (0x16, "tls"), (71, "http")):
            self.assertEqual(self.choose(first, self.tls), chosen)

    @given(st.integers(0, 255))
    def test_any(self, first: int) -> None:
        """Each byte is one of them, and without TLS all are as if there were none."""
        plain = self.choose(first, None)
        self.assertEqual(plain, "stun" if first < 0x40 else "http")
        if first != 0x16:
            self.assertEqual(self.choose(first, self.tls), plain)


class TLSClient:
    """The client's side of a TLS connection over a transport that a test has."""

    def __init__(self, transport: HTTPTransport, version: int) -> None:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_max_proto_version(version)
        self._connection = SSL.Connection(context, None)
        self._connection.set_connect_state()
        self._transport = transport

    def hello(self) -> bytes:
        """Return what a client says first."""
        with contextlib.suppress(SSL.WantReadError):
            self._connection.do_handshake()
        try:
            return self._connection.bio_read(65536)
        except SSL.WantReadError:
            return b""

    def shake_hands(self) -> None:
        """Do all of the handshake."""
        self._transport.deliver(self.hello())
        while True:
            data = self._transport.take()
            if not data:
                break
            self._connection.bio_write(data)
            reply = self.hello()
            if reply:
                self._transport.deliver(reply)
        self._connection.do_handshake()

    def send(self, data: bytes) -> None:
        """Send application data."""
        self._connection.send(data)
        self._transport.deliver(self._connection.bio_read(65536))

    def receive(self) -> bytes:
        """Return application data that has come."""
        self._connection.bio_write(self._transport.take())
        try:
            return self._connection.recv(65536)
        except (SSL.WantReadError, SSL.ZeroReturnError):
            return b""


class TLSTests(SynchronousTestCase):
    """HTTP in TLS on the port of STUN."""

    version = SSL.TLS1_3_VERSION

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        tls = CertificateTLS(*write_certificate(directory, "cloud.example"))
        self.clock = Clock()
        self.requests: list[Request] = []
        stun, http = Named("stun"), HTTPServerFactory(self.answer, self.clock)
        self.inside = FirstByteFactory(self.clock, stun, http, limit=LIMIT, capacity=9)
        outside = FirstByteFactory(
            self.clock,
            stun,
            http,
            limit=LIMIT,
            capacity=9,
            tls=TLSMemoryBIOFactory(tls, False, self.inside, self.clock),
        )
        self.transport = HTTPTransport()
        self.transport.attach(outside.buildProtocol(None))
        self.client = TLSClient(self.transport, self.version)

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        return plain_response(200, "hello")

    def test_request(self) -> None:
        """A request is answered, and known to be secure."""
        self.client.shake_hands()
        self.client.send(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        self.clock.advance(0)  # Small writes are collected until then.
        self.assertIn(b"hello", self.client.receive())
        [request] = self.requests
        self.assertTrue(request.secure)
        self.assertEqual(request.path, "/x")

    def test_hello_alone(self) -> None:
        """Who does not go on after his first message is let go."""
        self.transport.deliver(self.client.hello())
        self.clock.advance(LIMIT)
        self.assertTrue(self.transport.aborted)

    def test_half_a_hello(self) -> None:
        """So is who does not end it, however slowly he goes on."""
        hello = self.client.hello()
        for at in range(14):
            self.transport.deliver(hello[at : at + 1])
            self.clock.advance(1)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)

    def test_silence(self) -> None:
        """And who shook hands and says nothing."""
        self.client.shake_hands()
        self.clock.advance(LIMIT)
        self.assertTrue(self.transport.aborted or self.transport.disconnecting)

    def test_slow_request(self) -> None:
        """A request that comes byte by byte is given up in time."""
        self.client.shake_hands()
        for at in range(int(REQUEST_TIMEOUT)):
            self.client.send(b"GET / HTTP/1.1\r\nX: aaaaaaaaaa"[at : at + 1])
            self.clock.advance(1)
        self.assertIn(b"HTTP/1.1 408 ", self.client.receive())

    def test_garbage(self) -> None:
        """What only begins as TLS ends."""
        self.transport.deliver(b"\x16" + b"garbage" * 20)
        self.assertTrue(self.transport.disconnecting or self.transport.aborted)


class OlderTLSTests(TLSTests):
    """The same by the oldest version that is served."""

    version = SSL.TLS1_2_VERSION


class CertificateTests(SynchronousTestCase):
    """Files of a key and a certificate."""

    def test_broken(self) -> None:
        """What is no key, or not the certificate's, is told by its path."""
        directory = Path(self.mktemp())
        directory.mkdir()
        key, certificate = write_certificate(directory, "cloud.example")
        other = directory / "other"
        other.mkdir()
        foreign, _ = write_certificate(other, "cloud.example")
        for pair in ((foreign, certificate), (certificate, key), (other / "x", key)):
            error = self.assertRaises(ConfigurationError, CertificateTLS, *pair)
            self.assertIn(str(pair[0]), str(error))
