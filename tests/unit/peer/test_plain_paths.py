"""Paths in the clear: an explicit choice of both ends, proven all the same."""

from __future__ import annotations

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from dwcloud.errors import ConnectTimeout, IdentityMismatch, ServiceRefused
from dwcloud.net.cloud_stream import CloudStream
from dwcloud.net.identity import SystemIdentity
from dwcloud.net.path import VERIFICATION_TIMEOUT
from dwcloud.peer.acceptor import OPENING_TIMEOUT
from dwcloud.peer.status import PathKind
from dwcloud.protocol.names import PeerName
from dwcloud.protocol.opening.messages import Open, RefusalCode, Refused
from tests.unit.net.stream_world import AttachAtOnce

from .path_world import SESSION, PathWorldTestCase


class PlainPathTests(PathWorldTestCase):
    """A server that offers its service without TLS, too."""

    def setUp(self) -> None:
        super().setUp()
        self.acceptor.plain_services.add("web")

    def test_in_the_clear(self) -> None:
        """Both ends agree: the service is connected, its server proven."""
        path = self.path(tls=False)
        self.world.run_until(self.open(path))
        self.assertEqual(path.server, self.identity.name)
        client = self.start(path=path)
        client.transport.write(b"plain words")
        self.world.run_until_idle()
        self.assertEqual(bytes(self.web.made[0].data), b"plain words")
        client.transport.loseConnection()
        self.web.made[0].transport.loseConnection()
        self.assertNothingOpen()

    def test_tls_on_the_same_port(self) -> None:
        """Who wants TLS gets it from the same server."""
        client = self.start()
        client.transport.write(b"secret")
        self.world.run_until_idle()
        self.assertEqual(bytes(self.web.made[0].data), b"secret")

    def test_system_name(self) -> None:
        """A system's name is proven by any of its servers, which is then known."""
        path = self.path(wanted=PeerName(self.identity.name.system), tls=False)
        self.world.run_until(self.open(path))
        self.assertEqual(path.server, self.identity.name)

    def test_other_server(self) -> None:
        """A server with another key is refused before the service is named."""
        wanted = SystemIdentity.generate().issue_server().name
        opening = self.open(self.path(wanted=wanted, tls=False))
        self.assertRaises(IdentityMismatch, self.world.run_until, opening)
        self.world.run_until_idle()
        self.assertEqual(self.web.made, [])
        self.assertNothingOpen()

    def test_stolen_certificates(self) -> None:
        """Certificates are public: without the key they prove nothing."""
        thief = SystemIdentity.generate().issue_server()

        class Thief:
            certificates = self.identity.certificates
            sign = staticmethod(thief.sign)

        self.acceptor.identity = Thief()  # type: ignore[assignment]
        opening = self.open(self.path(tls=False))
        self.assertRaises(IdentityMismatch, self.world.run_until, opening)
        self.assertNothingOpen()

    def test_service_with_tls_only(self) -> None:
        """Of several services only those that are offered so go without TLS."""
        self.acceptor.services["private"] = self.service(8000)
        path = self.world.run_until(self.open(self.path(tls=False)))
        assert path is not None
        error = self.assertRaises(ServiceRefused, self.start, "private", path)
        self.assertIn("TLS only", str(error))
        self.assertEqual(self.web.made, [])

    def test_without_nonce(self) -> None:
        """A client that wants nothing signed is turned away."""
        owner = AttachAtOnce(None)
        stream = CloudStream(owner, self.client_host.reactor)
        inner = Factory.forProtocol(lambda: stream)
        endpoint = TCP4ClientEndpoint(
            self.client_host.reactor, self.server_host.address, 4000
        )
        self.world.run_until(endpoint.connect(inner))
        stream.send(Open(SESSION, "me"))
        self.world.run_until_idle()
        refused = owner.messages[0]
        assert isinstance(refused, Refused)
        self.assertIs(refused.code, RefusalCode.BAD_REQUEST)

    def test_silent_stranger(self) -> None:
        """Who connects and says nothing is given up, and counted until then."""
        endpoint = TCP4ClientEndpoint(
            self.client_host.reactor, self.server_host.address, 4000
        )
        self.world.run_until(endpoint.connect(Factory.forProtocol(Protocol)))
        self.world.run_until_idle()
        self.assertEqual(self.acceptor.opening[PathKind.TCP], 1)
        self.world.advance(OPENING_TIMEOUT + 1)
        self.assertNothingOpen()


class TLSOnlyServerTests(PathWorldTestCase):
    """A server that offers nothing without TLS, which is the default."""

    def test_client_without_tls(self) -> None:
        """A client that insists gets nothing, and says that nothing was proven."""
        opening = self.open(self.path(tls=False))
        failures = []
        opening.addErrback(failures.append)
        self.world.run_until(lambda: bool(failures), VERIFICATION_TIMEOUT + 1)
        self.assertNotIsInstance(failures[0].value, ConnectTimeout)
        self.assertEqual(self.web.made, [])
