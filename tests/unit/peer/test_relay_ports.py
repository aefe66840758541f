"""Relays whose own port is blocked, and what else may listen at 443 and 80."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site
from twisted.web.static import Data

from dwcloud.net.http_client import HTTPClientConnection
from dwcloud.net.proxy_endpoint import Proxies
from dwcloud.peer.relay_ports import RelayPorts
from dwcloud.protocol.relaying.paths import STATISTICS_PATH
from dwcloud.protocol.tunnelling.prober import Carrier
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.protocol.tunnelling.urls import ServiceURL
from dwcloud.relay.service import RelayService
from dwcloud.testing import Firewall, World
from dwcloud.testing.proxy import BadProxy, Defects
from tests.certificates import tls_endpoint

RELAY = "203.0.113.5"
URL = ServiceURL.parse(f"http://{RELAY}:3349")


class RelayPortsTests(SynchronousTestCase):
    """A client that asks for connections to a relay."""

    def setUp(self) -> None:
        self.world = World(seed=1)
        internet = self.world.internet()
        self.relay_host = internet.host(RELAY, name="relay")
        self.proxy_host = internet.host("203.0.113.8", name="proxy")
        self.host = internet.host("203.0.113.20", name="client")
        self.ports = RelayPorts(self.host.reactor, Proxies(self.host.reactor))

    def listen(self, *endpoints: str) -> None:
        relay = RelayService(self.relay_host.reactor, endpoints)
        relay.startService()
        self.addCleanup(relay.stopService)

    def tls(self) -> str:
        directory = Path(self.mktemp())
        directory.mkdir()
        return tls_endpoint(directory, 443)

    def only(self, *ports: int) -> None:
        self.host.firewall = Firewall(tcp_ports=ports)

    def connect(
        self, url: ServiceURL = URL, by: Carrier = Carrier.DIRECT
    ) -> HTTPClientConnection:
        """Connect, and make sure that a relay is there."""
        connecting = self.ports.destination(url).connect(by)
        connection: Any = self.world.run_until(connecting, 5.0)
        answer: Any = self.world.run_until(connection.request("GET", STATISTICS_PATH))
        self.assertEqual(answer.status, 200)
        connection.disconnect()
        return connection

    def tried(self) -> list[int]:
        """The ports to which connections were tried."""
        return [
            record.destination.port
            for record in self.world.trace
            if record.kind == "syn" and record.origin == "client"
        ]

    def test_own_port(self) -> None:
        """Where the relay's own port works nothing else is tried."""
        self.listen("tcp:3349", "tcp:80", self.tls())
        self.connect()
        self.assertEqual(self.tried(), [3349])
        self.assertEqual(self.ports.reached_at(str(URL)), "")

    def test_blocked(self) -> None:
        """TLS at 443 takes the place, at once the second time."""
        self.listen("tcp:3349", "tcp:80", self.tls())
        self.only(80, 443)
        self.connect()
        self.assertEqual(self.ports.reached_at(str(URL)), f"https://{RELAY}")
        before = self.world.seconds()
        self.connect()
        self.assertLess(self.world.seconds() - before, 0.5)

    def test_remembered_no_longer_works(self) -> None:
        """In another network another port may be open: all are tried again."""
        self.listen("tcp:3349", "tcp:80", self.tls())
        self.only(443)
        self.connect()
        self.only(80)
        self.connect()
        self.assertEqual(self.ports.reached_at(str(URL)), f"http://{RELAY}")

    def test_a_web_site_is_no_relay(self) -> None:
        """What answers at port 80 must be a relay; else the first reason is told."""
        site = Site(Data(b"hello", "text/html"), reactor=self.relay_host.reactor)
        self.relay_host.reactor.listenTCP(80, site)
        connecting = self.ports.destination(URL).connect(Carrier.DIRECT)
        self.assertRaises(ConnectionRefusedError, self.world.run_until, connecting)
        self.assertIn(80, self.tried())

    def test_https(self) -> None:
        """A relay announced with TLS is not reached without."""
        self.listen("tcp:80")
        url = ServiceURL.parse(f"https://{RELAY}:8443")
        connecting = self.ports.destination(url).connect(Carrier.DIRECT)
        self.assertRaises(ConnectionRefusedError, self.world.run_until, connecting)
        self.assertEqual(self.tried(), [8443])

    def test_proxy(self) -> None:
        """CONNECT leads to 443 where it does not lead to the relay's own port."""
        self.listen("tcp:3349", "tcp:80", self.tls())
        proxy = BadProxy(self.proxy_host.reactor, Defects(connect_ports=(443,)))
        self.proxy_host.reactor.listenTCP(3128, proxy)
        settings = ProxySettings.of(Proxy("203.0.113.8", 3128))
        proxies = Proxies(self.host.reactor, settings)
        self.ports = RelayPorts(self.host.reactor, proxies)
        self.assertIn(Carrier.CONNECT, self.ports.destination(URL).carriers)
        self.connect(by=Carrier.CONNECT)
        self.assertEqual(self.ports.reached_at(str(URL)), f"https://{RELAY}")
        self.connect(by=Carrier.WEB)
        self.assertIn(("GET", f"{URL}{STATISTICS_PATH}"), proxy.requests)

    def test_cancelled(self) -> None:
        """A cancelled connection leaves nothing behind."""
        self.only()
        connecting = self.ports.destination(URL).connect(Carrier.DIRECT)
        self.world.advance(1.5)
        connecting.cancel()
        self.failureResultOf(connecting)
        self.world.advance(0.1)
        self.assertEqual(list(self.host.reactor.getDelayedCalls()), [])
