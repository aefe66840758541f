"""Networks that let nothing out but web pages: the relay carries the stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import PeerUnknown
from dwcloud.net.signing import SigningKey
from dwcloud.peer.status import PathKind
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import DELIVERED, PORT_RESTRICTED, Firewall, Host
from dwcloud.testing.proxy import BadProxy, Defects
from tests.certificates import tls_endpoint
from tests.scenarios.cloud_world import FILE_SHA256, FILE_SIZE, CloudWorld
from tests.unit.peer.cloud_grants import Grants, TestCloud

OVERVIEW = Defects(
    connect_ports=(443,),
    connect_tls_only=True,
    strips_upgrade=True,
    buffers_requests=True,
)
"""The Squid of the overview: what it lets through, and how."""


class WebOnlyTestCase(SynchronousTestCase):
    """Mediator and relay listen on 80 and 443, too."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.cloud = CloudWorld(web_ports=("tcp:80", tls_endpoint(directory, 443)))

    def office(self, address: str, label: str, **rules: Any) -> Host:
        """A host behind a router that lets only some of it out."""
        realm = self.cloud.internet.nat(
            address, PORT_RESTRICTED, firewall=Firewall(**rules)
        )
        return realm.host("192.168.1.10", name=label)

    def proxy(self, address: str, defects: Defects) -> tuple[BadProxy, ProxySettings]:
        """A proxy on the Internet, and the settings that name it."""
        host = self.cloud.internet.host(address, name=f"proxy {address}")
        proxy = BadProxy(host.reactor, defects)
        host.reactor.listenTCP(3128, proxy)
        return proxy, ProxySettings.of(Proxy(address, 3128))

    def assert_relayed(
        self, server_host: Host, client_host: Host, **settings: ProxySettings
    ) -> None:
        """A file comes from the server to the client, whole, by the relay."""
        none = ProxySettings()
        server = self.cloud.serve(server_host, proxies=settings.get("server", none))
        self.cloud.wait_online(server_host)
        client = self.cloud.client(client_host, proxies=settings.get("client", none))
        report, digest = self.cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))

    def heard_from(self, host: Host) -> Counter[int]:
        """How many bytes a host got by TCP from each port of the Internet."""
        heard: Counter[int] = Counter()
        for record in self.cloud.world.trace:
            if (
                (record.place, record.verdict) == (host.name, DELIVERED)
                and record.protocol == "tcp"
                and record.payload_size
                and record.source.host.startswith("203.0.113.")
            ):
                heard[record.source.port] += record.payload_size
        return heard


class FirewallTests(WebOnlyTestCase):
    """Only the web's ports lead out, without any proxy."""

    def test_web_ports(self) -> None:
        """Both ends reach mediator and relay at 443."""
        rules = {"block_udp": True, "tcp_ports": (80, 443)}
        server_host = self.office("198.51.100.1", "server", **rules)
        client_host = self.office("198.51.100.2", "client", **rules)
        self.assert_relayed(server_host, client_host)
        (online,) = (e for e in self.cloud.events["server"] if e.event == "online")
        self.assertEqual(online.details["way"], "https://203.0.113.1 by upgrade")
        (relay,) = (e for e in self.cloud.events["server"] if e.event == "relay")
        self.assertEqual(relay.details["reached_at"], "https://203.0.113.2")
        self.assertEqual(set(self.heard_from(server_host)), {443})
        heard = self.heard_from(client_host)
        self.assertEqual(set(heard), {443})
        self.assertGreater(heard[443], FILE_SIZE)

    def test_http_alone(self) -> None:
        """One end has 443 alone, the other 80 alone."""
        server_host = self.office(
            "198.51.100.1", "server", block_udp=True, tcp_ports=(443,)
        )
        client_host = self.office(
            "198.51.100.2", "client", block_udp=True, tcp_ports=(80,), rejects=True
        )
        self.assert_relayed(server_host, client_host)
        self.assertEqual(set(self.heard_from(server_host)), {443})
        self.assertEqual(set(self.heard_from(client_host)), {80})

    def test_no_udp(self) -> None:
        """Without UDP alone, the usual ports do."""
        server_host = self.office("198.51.100.1", "server", block_udp=True)
        client_host = self.office("198.51.100.2", "client", block_udp=True)
        self.assert_relayed(server_host, client_host)


class AccountsTests(WebOnlyTestCase):
    """Grants go through HTTP, too: to the mediator, and to the relay of a cloud."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.key = SigningKey.generate()
        self.cloud = CloudWorld(
            web_ports=("tcp:80", tls_endpoint(directory, 443)), cloud_key=self.key
        )

    def test_member_and_stranger(self) -> None:
        """By every method that is left, a member gets in and a stranger does not."""
        rules = {"block_udp": True, "tcp_ports": (80, 443)}
        server = self.cloud.serve(self.office("198.51.100.1", "server", **rules))
        self.cloud.wait_online(self.cloud.world.hosts["server"])
        _, settings = self.proxy("203.0.113.8", OVERVIEW)
        name, now = server.identity.name, self.cloud.world.seconds()
        cloud = TestCloud(self.key)
        for number, (hosts, options) in enumerate(
            (
                ({"tcp_ports": (80,)}, {}),
                ({"tcp_ports": (443,)}, {}),
                ({"hosts": ["203.0.113.8"], "rejects": True}, {"proxies": settings}),
            )
        ):
            with self.subTest(rules=hosts):
                address = f"198.51.100.{10 + number}"
                host = self.office(address, f"client {number}", block_udp=True, **hosts)
                grants = Grants(cloud.grant(name, now))
                member = self.cloud.client(host, lan=False, grants=grants, **options)
                report, digest = self.cloud.download(member, server)
                self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
                stranger = self.cloud.client(host, lan=False, **options)
                self.assertRaises(PeerUnknown, self.cloud.download, stranger, server)


class ProxyTests(WebOnlyTestCase):
    """Proxies are the only way out, another one for each end."""

    def behind(self, address: str, label: str, proxy: str) -> Host:
        return self.office(address, label, hosts=[proxy], rejects=True)

    def test_the_squid_of_the_overview(self) -> None:
        """The server has CONNECT to 443 alone, the client a proxy without any."""
        squid, server_settings = self.proxy("203.0.113.8", OVERVIEW)
        worse = Defects(
            connect_ports=(),
            strips_upgrade=True,
            buffers_requests=True,
            buffers_answers=True,
            body_limit=32 * 1024,
        )
        other, client_settings = self.proxy("203.0.113.9", worse)
        self.assert_relayed(
            self.behind("198.51.100.1", "server", "203.0.113.8"),
            self.behind("198.51.100.2", "client", "203.0.113.9"),
            server=server_settings,
            client=client_settings,
        )
        self.assertIn(("CONNECT", "203.0.113.1:443"), squid.requests)
        self.assertIn("POST", {method for method, _ in other.requests})

    def test_cut_after_a_while(self) -> None:
        """Where nothing lives for more than 20 s, the server can be found for hours."""
        office = Defects(connect_ports=(443,), life_limit=20.0)
        _, settings = self.proxy("203.0.113.8", office)
        server_host = self.behind("198.51.100.1", "server", "203.0.113.8")
        server = self.cloud.serve(server_host, proxies=settings)
        self.cloud.wait_online(server_host)
        self.cloud.world.advance(600.0)
        client_host = self.office("198.51.100.2", "client", block_udp=True)
        client = self.cloud.client(client_host)
        for _ in range(3):
            report, digest = self.cloud.download(client, server)
            self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
            self.cloud.world.advance(97.0)
        online = [e for e in self.cloud.events["server"] if e.event == "online"]
        self.assertLess(len(online), 6)
        self.assertIn("by finite_messages", online[-1].details["way"])

    def test_both_at_the_worst(self) -> None:
        """Two proxies that keep every body until it is whole."""
        worst = Defects(connect_ports=(), speaks_http_1_0=True, buffers_answers=True)
        _, server_settings = self.proxy("203.0.113.8", worst)
        _, client_settings = self.proxy("203.0.113.9", worst)
        self.assert_relayed(
            self.behind("198.51.100.1", "server", "203.0.113.8"),
            self.behind("198.51.100.2", "client", "203.0.113.9"),
            server=server_settings,
            client=client_settings,
        )
