"""Tests that Twisted's own programs run on simulated hosts, and so the example."""

import re
import textwrap

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.application.internet import ClientService
from twisted.internet import ssl
from twisted.internet.endpoints import (
    HostnameEndpoint,
    clientFromString,
    connectProtocol,
    serverFromString,
)
from twisted.internet.interfaces import ITLSTransport
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import Agent, HTTPConnectionPool, readBody
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

import dwcloud.testing
from dwcloud.testing import TCP, World
from tests.packaging.source_tree import ROOT

from .programs import Recorder, Server


class ProgramCase(SynchronousTestCase):
    """A server with a name and a client behind a NAT."""

    def setUp(self):
        self.world = World(seed=1)
        internet = self.world.internet()
        self.server = internet.host("203.0.113.1", "2001:db8::1", name="server")
        self.world.add_name("www.example", *self.server.addresses)
        self.client = internet.nat("198.51.100.1").host("192.168.1.10", name="client")


class WebTests(ProgramCase):
    """A web site and a web client."""

    def setUp(self):
        super().setUp()
        self.body = self.world.random_bytes(1_000_000)
        root = Resource()
        root.putChild(b"file", Data(self.body, "application/octet-stream"))
        self.site = Site(root, reactor=self.server.reactor)

    def get(self, agent, url):
        response = self.world.run_until(agent.request(b"GET", url))
        return response.code, self.world.run_until(readBody(response))

    def test_site(self):
        """A page comes over the simulated network, and the trace shows it."""
        self.server.reactor.listenTCP(80, self.site)
        reactor = self.client.reactor
        agent = Agent(reactor, pool=HTTPConnectionPool(reactor))
        for _ in range(2):
            self.assertEqual(
                self.get(agent, b"http://www.example/file"), (200, self.body)
            )
        self.assertEqual(self.get(agent, b"http://www.example/x")[0], 404)
        carried = self.world.trace.bytes_carried("server", "client", TCP)
        self.assertGreater(carried, 2_000_000)
        syns = [r for r in self.world.trace.select(origin="client") if r.kind == "syn"]
        self.assertEqual(len(syns), 1)

    def test_tls(self):
        """TLS works over simulated connections."""
        certificate = make_certificate("www.example")
        self.server.reactor.listenSSL(443, self.site, certificate.options())
        trust = ssl.Certificate(certificate.original)
        # Not wrapClientTLS: it takes the clock of the process's own reactor.
        reactor = self.client.reactor
        options = ssl.optionsForClientTLS("www.example", trustRoot=trust)
        factory = TLSMemoryBIOFactory(
            options, True, Factory.forProtocol(Recorder), reactor
        )
        endpoint = HostnameEndpoint(reactor, "www.example", 443)
        wrapper = self.world.run_until(endpoint.connect(factory))
        protocol = wrapper.wrappedProtocol
        self.assertTrue(ITLSTransport.providedBy(protocol.transport))
        protocol.transport.write(b"GET /file HTTP/1.0\r\n\r\n")
        self.world.run_until(lambda: protocol.reason)
        self.assertEqual(protocol.received[-1_000_000:], self.body)

    def test_connect_ssl(self):
        """The old way to connect by TLS works too."""
        certificate = make_certificate("www.example")
        self.server.reactor.listenSSL(443, self.site, certificate.options())
        factory = Server()
        factory.startedConnecting = factory.clientConnectionLost = lambda *args: None
        self.client.reactor.connectSSL(
            "203.0.113.1", 443, factory, ssl.CertificateOptions()
        )
        self.world.run_until(lambda: factory.protocols)
        protocol = factory.protocols[0]
        protocol.transport.write(b"GET /file HTTP/1.0\r\n\r\n")
        self.world.run_until(lambda: len(protocol.received) > 1_000_000)


class EndpointTests(ProgramCase):
    """Endpoints made from strings."""

    def test_strings(self):
        """Server and client endpoint strings work, with names and both families."""
        for number, (served, dialled) in enumerate(
            [
                ("tcp:8000", "tcp:203.0.113.1:8000"),
                ("tcp:8001:interface=203.0.113.1", "tcp:www.example:8001"),
            ]
        ):
            factory = Server()
            endpoint = serverFromString(self.server.reactor, served)
            port = self.world.run_until(endpoint.listen(factory))
            self.assertEqual(port.getHost().port, 8000 + number)
            dialling = clientFromString(self.client.reactor, dialled)
            self.world.run_until(connectProtocol(dialling, Recorder()))
            self.world.run_until(lambda factory=factory: factory.protocols)
            self.world.run_until(port.stopListening())

    def test_client_service(self):
        """A persistent connection comes back after the server was away."""
        made = []
        factory = Server(lambda: made.append(Recorder()) or made[-1])
        service = ClientService(
            clientFromString(self.client.reactor, "tcp:203.0.113.1:80"),
            factory,
            clock=self.client.reactor,
        )
        service.startService()
        self.world.advance(5.0)
        self.assertEqual(made, [])
        server = Server()
        self.server.reactor.listenTCP(80, server)
        self.world.run_until(lambda: len(made) == 1)
        self.world.run_until_idle()
        server.protocols[0].transport.abortConnection()
        self.world.run_until(lambda: len(made) == 2)
        self.world.run_until(service.stopService())
        self.world.advance(10.0)
        self.assertEqual(self.client.reactor.getDelayedCalls(), [])

    def test_many_connections(self):
        """Some hundred connections at once do not disturb each other."""
        factory = Server()
        self.server.reactor.listenTCP(80, factory, 500)
        endpoint = clientFromString(self.client.reactor, "tcp:203.0.113.1:80")
        clients = []
        for _ in range(300):
            connectProtocol(endpoint, Recorder()).addCallback(clients.append)
        self.world.run_until(lambda: len(clients) == 300)
        for number, client in enumerate(clients):
            client.transport.write(number.to_bytes(2, "big"))
        self.world.run_until_idle()
        received = sorted(int.from_bytes(p.received, "big") for p in factory.protocols)
        self.assertEqual(received, list(range(300)))

    def test_backlog(self):
        """More connections at once than the backlog has room for come later."""
        self.server.reactor.listenTCP(80, Server(), backlog=5)
        endpoint = clientFromString(self.client.reactor, "tcp:203.0.113.1:80")
        clients = []
        for _ in range(12):
            connectProtocol(endpoint, Recorder()).addCallback(clients.append)
        self.world.advance(0.5)
        self.assertEqual(len(clients), 5)
        self.world.run_until(lambda: len(clients) == 12)


class ExampleTests(SynchronousTestCase):
    """The examples of the documentation run as they stand."""

    def check_example(self, text, most):
        """The first block of code runs, and has few statements."""
        block = re.split(r"(?:::|code-block:: python)\n\n", text, maxsplit=1)[1]
        lines = []
        for line in block.splitlines():
            if line and not line.startswith("   "):
                break
            lines.append(line)
        source = textwrap.dedent("\n".join(lines))
        exec(compile(source, "example", "exec"), {})
        statements = [
            line
            for line in source.splitlines()
            if line and not re.match(r"(from|import) |[ ()]|#", line)
        ]
        self.assertLessEqual(len(statements), most)

    def test_package(self):
        """The one of the package documentation."""
        self.check_example(dwcloud.testing.__doc__, 12)

    def test_guide(self):
        """The one of the guide has ten lines."""
        guide = ROOT / "docs" / "howto" / "testing.rst"
        self.check_example(guide.read_text(encoding="utf-8"), 10)


def make_certificate(name):
    """Return a self-signed certificate with its key for a DNS name."""
    import datetime

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem += certificate.public_bytes(serialization.Encoding.PEM)
    return ssl.PrivateCertificate.loadPEM(pem)
