"""TLS between client and server: who is let through."""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, connect
from twisted.trial.unittest import SynchronousTestCase

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
        client_tls = TLSMemoryBIOFactory(
            verifier, True, Factory.forProtocol(lambda: client), clock
        ).buildProtocol(None)
        server_tls = TLSMemoryBIOFactory(
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
