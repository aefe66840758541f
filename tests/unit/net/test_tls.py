"""TLS between client and server: who is let through."""

from __future__ import annotations

import os
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import providedBy

from dwcloud.net.bulk_tls import BulkTLSFactory, BulkTLSTransport
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.net.tls import PeerVerifier, ServerTLS
from dwcloud.protocol.names import PeerName


class Recorder(Protocol):
    """Records what arrives; says something at once."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting
        self.received = b""
        self.lost: BaseException | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason) -> None:  # type: ignore[no-untyped-def]
        self.lost = reason.value


class VerificationTests(SynchronousTestCase):
    """A client that knows a GUID and nothing else."""

    def setUp(self) -> None:
        self.system = SystemIdentity.generate()
        self.server = self.system.issue_server()

    def handshake(
        self, wanted: PeerName, identity: ServerIdentity
    ) -> tuple[PeerVerifier, Recorder, Recorder]:
        """Join a client that wants ``wanted`` with a server that is ``identity``."""
        verifier = PeerVerifier(wanted)
        client, server = Recorder(b"secret"), Recorder(b"hello")
        clock = Clock()
        client_tls = BulkTLSFactory(
            verifier, True, Factory.forProtocol(lambda: client), clock
        ).buildProtocol(None)
        server_tls = BulkTLSFactory(
            ServerTLS(identity), False, Factory.forProtocol(lambda: server), clock
        ).buildProtocol(None)
        pump = connect(
            server_tls,
            FakeTransport(server_tls, isServer=True),
            client_tls,
            FakeTransport(client_tls, isServer=False),
        )
        pump.flush()
        clock.advance(0)
        pump.flush()
        return verifier, client, server

    def test_wanted_server(self) -> None:
        """The named server is let through, over TLS 1.3."""
        verifier, client, server = self.handshake(self.server.name, self.server)
        self.assertEqual(verifier.verified_name, self.server.name)
        self.assertEqual((client.received, server.received), (b"hello", b"secret"))

    def test_each_verifies_for_itself(self) -> None:
        """Connections at the same time hold the far end against their own name."""
        other = self.system.issue_server()
        wrong = PeerVerifier(other.name)
        right = PeerVerifier(self.server.name)
        ends = [v.clientConnectionForTLS(cast(Any, None)) for v in (wrong, right)]
        for end in ends:
            end.set_connect_state()
            self.assertRaises(SSL.WantReadError, end.do_handshake)
        far = [
            ServerTLS(self.server).serverConnectionForTLS(cast(Any, None)) for _ in ends
        ]
        for near, end in zip(ends, far, strict=True):
            end.set_accept_state()
            end.bio_write(near.bio_read(1 << 16))
            self.assertRaises(SSL.WantReadError, end.do_handshake)
            near.bio_write(end.bio_read(1 << 16))
        self.assertRaises(SSL.Error, ends[0].do_handshake)
        ends[1].do_handshake()
        self.assertEqual(
            (wrong.verified_name, right.verified_name), (None, self.server.name)
        )
        self.assertIn(f"the far end is {self.server.name}", str(wrong.failure))
        self.assertIsNone(right.failure)

    def test_transport_interfaces(self) -> None:
        """A protocol in TLS finds what the transport below it provides."""
        _, client, _ = self.handshake(self.server.name, self.server)
        transport = client.transport
        assert isinstance(transport, BulkTLSTransport)
        below = list(providedBy(transport.transport))
        self.assertIn(ITransport, below)
        for interface in below:
            self.assertTrue(interface.providedBy(transport), interface)

    def test_bulk(self) -> None:
        """What needs many records arrives whole, whether written before or after."""
        early, late = os.urandom(300_001), os.urandom(5 << 14)
        verifier = PeerVerifier(self.server.name)
        client, server = Recorder(early), Recorder(b"hello")
        clock = Clock()
        client_tls, server_tls = (
            BulkTLSFactory(
                tls, is_client, Factory.forProtocol(lambda p=protocol: p), clock
            ).buildProtocol(None)
            for tls, is_client, protocol in (
                (verifier, True, client),
                (ServerTLS(self.server), False, server),
            )
        )
        pump = connect(
            server_tls,
            FakeTransport(server_tls, isServer=True),
            client_tls,
            FakeTransport(client_tls, isServer=False),
        )
        pump.flush()
        assert client.transport is not None
        client.transport.write(late)
        client.transport.loseConnection()
        clock.advance(0)
        pump.flush()
        self.assertEqual(server.received, early + late)
        self.assertIsInstance(server.lost, ConnectionDone)

    def test_any_server_of_the_system(self) -> None:
        """A system's name admits each of its servers and tells which it was."""
        verifier, _, server = self.handshake(
            PeerName(self.server.name.system), self.server
        )
        self.assertEqual(verifier.verified_name, self.server.name)
        self.assertEqual(server.received, b"secret")

    def assertRefused(self, wanted: PeerName, identity: ServerIdentity) -> str:
        """The client fails and not one byte of it reaches the other side."""
        verifier, client, server = self.handshake(wanted, identity)
        self.assertIsNone(verifier.verified_name)
        self.assertEqual((client.received, server.received), (b"", b""))
        self.assertIsNotNone(client.lost)
        assert verifier.failure is not None
        return str(verifier.failure)

    def test_other_server_of_the_system(self) -> None:
        """Another server of the same system is not the named one."""
        message = self.assertRefused(self.system.issue_server().name, self.server)
        self.assertIn(f"the far end is {self.server.name}", message)

    def test_other_system(self) -> None:
        """A genuine server of another system is refused."""
        other = SystemIdentity.generate().issue_server()
        self.assertRefused(self.server.name, other)
        self.assertRefused(PeerName(self.server.name.system), other)

    def test_stolen_system_certificate(self) -> None:
        """The system's certificate beside a certificate it never issued is refused."""
        other = SystemIdentity.generate().issue_server()
        forged = ServerIdentity(
            self.server.name, other.key, other.certificate, self.system.certificate
        )
        self.assertIn("system", self.assertRefused(self.server.name, forged))
