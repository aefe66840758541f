"""Connections through proxies good and bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data
from zope.interface.verify import verifyObject

from dwcloud.errors import (
    ConnectTimeout,
    ProxyAuthenticationFailed,
    ProxyRefused,
    ProxyUnreachable,
)
from dwcloud.net.proxy_endpoint import Proxies, ProxyEndpoint
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.testing import World
from dwcloud.testing.proxy import BadProxy, Defects
from tests.unit.net.stream_world import Recorder
from tests.unit.relay.relay_world import Echo

USER = ("user", "pass: word")


class ProxyEndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.world.internet()
        self.origin = internet.host("203.0.113.5", name="origin")
        self.proxy_host = internet.host("203.0.113.8", name="proxy")
        self.host = internet.host("203.0.113.20", name="client")
        self.origin.reactor.listenTCP(3349, Factory.forProtocol(Echo))
        self.proxies: Proxies

    def start(
        self, defects: Defects | None = None, credentials: tuple[str, str] | None = None
    ) -> None:
        """Start a proxy, and know it with these credentials."""
        self.proxy = BadProxy(self.proxy_host.reactor, defects)
        self.proxy_host.reactor.listenTCP(3128, self.proxy)
        user, password = credentials or (None, "")
        settings = ProxySettings.of(
            Proxy("203.0.113.8", 3128, False, user, password),
        )
        self.proxies = Proxies(self.host.reactor, settings)

    def endpoint(self) -> Any:
        return self.proxies.endpoint("203.0.113.5", 3349)

    def echo(self) -> Recorder:
        """Connect, and have bytes echoed."""
        recorder = Recorder()
        self.world.run_until(connectProtocol(self.endpoint(), recorder))
        recorder.transport.write(b"there and back")
        self.world.run_until(lambda: recorder.data == b"there and back")
        return recorder

    def refused(self, kind: type[Exception] = ProxyRefused) -> Any:
        connecting = connectProtocol(self.endpoint(), Recorder())
        return self.assertRaises(kind, self.world.run_until, connecting)

    def test_interface(self) -> None:
        """It is a client endpoint like any other."""
        self.start()
        verifyObject(IStreamClientEndpoint, self.endpoint())

    def test_connected(self) -> None:
        """Bytes go both ways, and the end of the connection is noticed."""
        self.start()
        recorder = self.echo()
        self.assertEqual(self.proxy.requests, [("CONNECT", "203.0.113.5:3349")])
        recorder.transport.loseConnection()
        self.world.run_until(lambda: recorder.lost is not None)

    def test_not_allowed(self) -> None:
        """A refusal is told with its most likely reason."""
        self.start(Defects(connect_ports=(443,)))
        error = self.refused()
        self.assertEqual(error.status, 403)
        self.assertIn("proxy 203.0.113.8:3128 does not connect to", str(error))
        self.assertIn("port 443 alone", str(error))

    def test_authentication(self) -> None:
        """Basic and Digest are answered once they are asked for, then at once."""
        for digest in (False, True):
            self.setUp()
            self.start(Defects(credentials=USER, digest=digest), USER)
            self.echo()
            self.assertEqual(len(self.proxy.requests), 2)
            self.echo()
            self.assertEqual(len(self.proxy.requests), 3)

    def test_several_at_once(self) -> None:
        """Connections that are all asked for a proof give it; nobody is suspected."""
        for digest in (False, True):
            self.setUp()
            self.start(Defects(credentials=USER, digest=digest), USER)
            both = [connectProtocol(self.endpoint(), Recorder()) for _ in range(5)]
            self.world.run_until(gatherResults(both))
            self.assertEqual(len(self.proxy.requests), 10)

    def test_passed_on(self) -> None:
        """Requests that are passed on prove themselves, too, and that is found out."""
        for digest in (False, True):
            self.setUp()
            root = Resource()
            root.putChild(b"", Data(b"page", "text/plain"))
            site = Site(root, reactor=self.origin.reactor)
            self.origin.reactor.listenTCP(80, site)
            url = ServiceURL.parse("http://203.0.113.5")
            defects = Defects(connect_ports=(), credentials=USER, digest=digest)
            self.start(defects, USER)
            both = [
                self.proxies.destination(url).connect(Carrier.WEB) for _ in range(2)
            ]
            connections: Any = self.world.run_until(gatherResults(both))
            for connection in connections:
                answer: Any = self.world.run_until(connection.request("GET", "/"))
                self.assertEqual((answer.status, answer.body), (200, b"page"))

    def test_always_stale(self) -> None:
        """A proxy that calls every proof out of date is not asked without end."""
        root = Resource()
        self.origin.reactor.listenTCP(80, Site(root, reactor=self.origin.reactor))
        url = ServiceURL.parse("http://203.0.113.5")
        defects = Defects(credentials=USER, digest=True, nonce_uses=0)
        self.start(defects, USER)
        ways: list[Callable[[], Any]] = [
            lambda: connectProtocol(self.endpoint(), Recorder()),
            lambda: self.proxies.destination(url).connect(Carrier.WEB),
        ]
        for connect in ways:
            self.proxies = Proxies(self.host.reactor, self.proxies.settings)
            self.proxy.requests.clear()
            error = self.assertRaises(
                ProxyAuthenticationFailed, self.world.run_until, connect(), 3.0
            )
            self.assertIn("calls every new proof out of date", str(error))
            self.assertLessEqual(len(self.proxy.requests), 4)

    def test_passed_on_with_a_wrong_password(self) -> None:
        """The password's rejection is the error, not a refused page."""
        self.start(Defects(connect_ports=(), credentials=USER), ("user", "wrong"))
        url = ServiceURL.parse("http://203.0.113.5:3349")
        connecting = self.proxies.destination(url).connect(Carrier.WEB)
        error = self.assertRaises(
            ProxyAuthenticationFailed, self.world.run_until, connecting
        )
        self.assertIn("rejects the password", str(error))

    def test_wrong_password(self) -> None:
        """A wrong password is told, and not sent again and again."""
        for digest in (False, True):
            self.setUp()
            self.start(Defects(credentials=USER, digest=digest), ("user", "wrong"))
            error = self.refused(ProxyAuthenticationFailed)
            self.assertIn("rejects the password of 'user'", str(error))
            self.assertNotIn("wrong", str(error))
            for _ in range(5):
                self.refused(ProxyAuthenticationFailed)
            self.assertEqual(len(self.proxy.requests), 2)
            for _ in range(5):
                self.world.advance(1000.0)
                self.refused(ProxyAuthenticationFailed)
            self.assertEqual(len(self.proxy.requests), 6)

    def test_no_password(self) -> None:
        """A proxy that wants one and gets none is a clear error."""
        self.start(Defects(credentials=USER))
        error = self.refused(ProxyAuthenticationFailed)
        self.assertIn("wants a user name and password", str(error))

    def test_unknown_scheme(self) -> None:
        """A proxy that accepts neither Basic nor Digest is named with what it wants."""
        self.start(None, USER)
        self.serve_raw(
            b"HTTP/1.1 407 No\r\nProxy-Authenticate: SCRAM-SHA-256\r\n"
            b'Proxy-Authenticate: Digest realm="x", nonce="y", algorithm=SHA-512\r\n'
            b"Content-Length: 0\r\n\r\n"
        )
        error = self.refused(ProxyAuthenticationFailed)
        self.assertIn("digest, scram-sha-256", str(error))

    def serve_raw(self, answer: bytes) -> None:
        """Answer anything with these bytes, at another port."""

        class Raw(Recorder):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(answer)

        self.proxy_host.reactor.listenTCP(8080, Factory.forProtocol(Raw))
        proxy = Proxy("203.0.113.8", 8080, False, "user", "x")
        self.proxies = Proxies(self.host.reactor, ProxySettings.of(proxy))

    def test_not_a_proxy(self) -> None:
        """Something else at the proxy's port is told apart."""
        self.start()
        self.serve_raw(b"220 mail\r\n\r\n")
        self.assertIn("is not an HTTP proxy", str(self.refused()))

    def test_nobody_there(self) -> None:
        """Where no proxy listens, or has no name, the proxy is to blame, by name."""
        self.proxies = Proxies(
            self.host.reactor, ProxySettings.of(Proxy("203.0.113.8", 3998))
        )
        error = self.refused(ProxyUnreachable)
        self.assertIn("proxy 203.0.113.8:3998 cannot be reached: ", str(error))
        self.assertIn("refused", str(error))
        self.proxies = Proxies(
            self.host.reactor, ProxySettings.of(Proxy("nosuch.invalid", 3128))
        )
        error = self.refused(ProxyUnreachable)
        self.assertIn("proxy nosuch.invalid:3128 cannot be reached: ", str(error))

    def test_silent_proxy(self) -> None:
        """A proxy that says nothing is given up in time."""
        self.start()
        self.serve_raw(b"")
        error = self.refused(ConnectTimeout)
        self.assertIn("within 15 seconds", str(error))
        self.world.advance(1.0)
        self.assertEqual(self.host.connections, [])

    def test_unreachable_origin(self) -> None:
        """A proxy that finds nobody at the far end says so."""
        self.start()
        endpoint = ProxyEndpoint(
            self.host.reactor, Proxy("203.0.113.8", 3128), "203.0.113.5", 9
        )
        connecting = connectProtocol(endpoint, Recorder())
        error = self.assertRaises(ProxyRefused, self.world.run_until, connecting)
        self.assertIn("could not connect", str(error))

    def test_defects_that_cut(self) -> None:
        """The testing proxy cuts what is no TLS, what idles and what grows old."""
        for defects in (
            Defects(connect_tls_only=True),
            Defects(idle_limit=5.0),
            Defects(life_limit=8.0),
        ):
            self.setUp()
            self.start(defects)
            recorder = Recorder()
            self.world.run_until(connectProtocol(self.endpoint(), recorder))
            recorder.transport.write(b"no TLS")
            self.world.run_until(lambda r=recorder: r.lost is not None, 20.0)

    def test_no_proxy(self) -> None:
        """Where settings name none, the connection is direct."""
        proxies = Proxies(self.host.reactor)
        self.assertIsNone(proxies.endpoint("203.0.113.5", 3349))
        carrier = proxies.carrier(ServiceURL.parse("http://203.0.113.5:3349"))
        recorder = Recorder()
        self.world.run_until(connectProtocol(carrier, recorder))
