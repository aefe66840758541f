"""What ``dwcloud check`` finds in networks of every kind, and what it makes of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.cli.check_report import as_json, render
from dwcloud.mediator.configuration import MediatorConfiguration
from dwcloud.mediator.service import MediatorService, StreamSocket, UDPSocket
from dwcloud.peer.diagnosis import Diagnosis, diagnose
from dwcloud.peer.examination import Examination
from dwcloud.peer.findings import Findings, PeerState
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.protocol.tunnelling.methods import METHOD_NAMES
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import NAT_KINDS, PORT_RESTRICTED, Firewall, Host, World
from dwcloud.testing.proxy import BadProxy, Defects
from tests.certificates import tls_endpoint
from tests.nat_table import KINDS
from tests.unit.peer.mapping_router import MappingRouter

from .cloud_world import CloudWorld
from .test_nat_table import behind


class CheckTestCase(SynchronousTestCase):
    """Examines simulated networks."""

    def examine(
        self, cloud: CloudWorld, host: Host, **options: Any
    ) -> tuple[Findings, Diagnosis]:
        """Examine the network of a host, and print it for people and programs."""
        options.setdefault("mediator", cloud.address)
        options.setdefault("interface", host.address)
        examination = Examination(reactor=host.reactor, **options)
        started = cloud.world.seconds()
        findings = cloud.world.run_until(examination.start(), 30.0)
        assert findings is not None
        self.assertLess(cloud.world.seconds() - started, examination.limit + 1.5)
        diagnosis = diagnose(findings)
        for line in render(findings, diagnosis):
            self.assertNotIn("\x1b", line)
        self.assertEqual(as_json(findings, diagnosis)["possible"], diagnosis.possible)
        return findings, diagnosis


class KindTests(CheckTestCase):
    """Each kind of NAT is told by its name."""

    def test_kinds(self) -> None:
        """The kind, and what can be expected, are those of the table."""
        names = {"open": "none", "linux-nofw": "port-restricted"}
        for kind in KINDS:
            with self.subTest(kind=kind):
                cloud = CloudWorld()
                _, found = self.examine(cloud, behind(cloud, kind, 1, "host"))
                self.assertEqual(found.kind, names.get(kind, kind))
                self.assertTrue(found.possible)

    def test_one_address(self) -> None:
        """A mediator with one address cannot tell, and that is said with a remedy."""
        cloud = CloudWorld(discovery=False)
        _, found = self.examine(cloud, behind(cloud, "symmetric", 1, "host"))
        self.assertEqual(found.kind, "unknown")
        self.assertIn("--udp-other", " ".join(found.unknown))
        paths = {e.far_end: e.path for e in found.expectations}
        self.assertEqual(paths["port-restricted"], "udp or relay")
        self.assertEqual(paths["public"], "tcp")

    def test_hairpinning(self) -> None:
        """Whether the router turns packets round is found."""
        for hairpinning in (True, False):
            cloud = CloudWorld()
            lan = cloud.internet.nat("198.51.1.1", hairpinning=hairpinning)
            findings, _ = self.examine(cloud, lan.host("192.168.1.10"))
            assert findings.nat is not None
            self.assertIs(findings.nat.hairpinning, hairpinning)

    def test_carrier(self) -> None:
        """An address of a carrier's network is taken for what it is."""
        cloud = CloudWorld()
        carrier = cloud.internet.nat("198.51.1.1", lan="100.64.0.0/24")
        _, found = self.examine(cloud, carrier.host("100.64.0.10"))
        self.assertEqual(found.kind, "port-restricted")
        self.assertIn("provider", " ".join(found.advice))

    def test_ipv6(self) -> None:
        """A global IPv6 address is found, and whether the mediator has one."""
        cloud = CloudWorld()
        host = cloud.internet.host("198.51.1.1", "2a00:1450:4001::8")
        findings, _ = self.examine(cloud, host)
        self.assertEqual(findings.ipv6.addresses, ("2a00:1450:4001::8",))
        self.assertIn("only 198.51.1.1", findings.ipv6.mediator.reason)
        self.assertFalse(findings.ipv6.used)
        findings, found = self.examine(cloud, host, interface="")
        self.assertIs(findings.ipv6.mediator.works, False)
        self.assertTrue(findings.ipv6.used)
        paths = {e.far_end: e.path for e in found.expectations}
        self.assertEqual(paths["ipv6"], "udp or relay")

    def test_mediator_by_ipv6(self) -> None:
        """A mediator that has addresses of both families is asked over both."""
        cloud = CloudWorld()
        host = cloud.internet.host("203.0.113.5", "2a00:1450:4001::5")
        cloud.world.add_name("both.example", *host.addresses)
        MediatorService(
            host.reactor,
            MediatorConfiguration(),
            [StreamSocket("tcp:3345", serverFromString(host.reactor, "tcp:3345"))],
            [UDPSocket(3345, address) for address in host.addresses],
        ).startService()
        client = cloud.internet.host("198.51.1.1", "2a00:1450:4001::8")
        findings, found = self.examine(
            cloud, client, mediator=MediatorAddress("both.example"), interface=""
        )
        self.assertTrue(findings.udp.works)
        self.assertTrue(findings.ipv6.mediator.works, findings.ipv6)
        seen = findings.ipv6.mediator.address
        assert seen is not None
        self.assertEqual(seen.host, "2a00:1450:4001::8")
        paths = {e.far_end: e.path for e in found.expectations}
        self.assertEqual(paths["ipv6"], "udp")


class FirewallTests(CheckTestCase):
    """Networks that let only some of it out."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.cloud = CloudWorld(web_ports=("tcp:80", tls_endpoint(directory, 443)))

    def office(self, **rules: Any) -> Host:
        """A host behind a router with such rules."""
        wall = Firewall(**rules)
        lan = self.cloud.internet.nat("198.51.100.1", PORT_RESTRICTED, firewall=wall)
        return lan.host("192.168.1.10", name="client")

    def test_no_udp(self) -> None:
        """Without UDP the relay carries everything but what is public."""
        findings, found = self.examine(self.cloud, self.office(block_udp=True))
        self.assertEqual(found.kind, "udp-blocked")
        self.assertTrue(found.possible)
        self.assertIn("Let UDP out", found.advice[0])
        paths = {e.far_end: e.path for e in found.expectations}
        self.assertEqual(paths.pop("public"), "tcp")
        self.assertEqual(set(paths.values()), {"relay"})
        self.assertIs(findings.udp.works, False)
        self.assertTrue(findings.tcp.works)

    def test_web_only(self) -> None:
        """Where only 80 and 443 lead out, each method there is tried."""
        host = self.office(block_udp=True, tcp_ports=(80, 443))
        findings, found = self.examine(self.cloud, host)
        self.assertTrue(found.possible)
        works = {(m.url, m.method): m.works for m in findings.methods}
        self.assertIs(works["tcp://203.0.113.1:3345", "direct"], False)
        for url in ("https://203.0.113.1", "http://203.0.113.1"):
            for name in METHOD_NAMES:
                self.assertIs(works[url, name], True, (url, name))
        paths = {e.path for e in found.expectations}
        self.assertEqual(paths, {"relay"})
        self.assertIn("https://203.0.113.1", findings.way)

    def test_nothing(self) -> None:
        """Where nothing leads out, nothing is possible; the limit is kept."""
        host = self.office(hosts=["203.0.113.99"])
        findings, found = self.examine(self.cloud, host, limit=6.0)
        self.assertFalse(found.possible)
        self.assertIn("mediator is not reached", found.verdict)
        self.assertFalse(any(m.works for m in findings.methods))
        self.assertTrue(all(m.reason for m in findings.methods))

    def test_mediator_down(self) -> None:
        """A mediator that does not run is told from a network that lets nothing out."""
        self.cloud.world.run_until(self.cloud.mediator.stopService())
        findings, found = self.examine(self.cloud, self.office())
        self.assertFalse(found.possible)
        self.assertIn("refused", findings.tcp.reason)
        self.assertIn("Check the name", found.advice[0])
        (relay,) = findings.relays
        self.assertEqual((relay.url, relay.assumed), ("http://203.0.113.1:3349", True))


class ProxyTests(CheckTestCase):
    """Networks whose only way out is a proxy."""

    ADDRESS = "203.0.113.8"

    def examine_behind(self, defects: Defects, text: str) -> tuple[Findings, Diagnosis]:
        """Examine a network with such a proxy, named so."""
        cloud = CloudWorld()
        host = cloud.internet.host(self.ADDRESS, name="proxy")
        host.reactor.listenTCP(3128, BadProxy(host.reactor, defects))
        wall = Firewall(hosts=[self.ADDRESS], rejects=True)
        office = cloud.internet.nat("198.51.100.1", PORT_RESTRICTED, firewall=wall)
        return self.examine(
            cloud,
            office.host("192.168.1.10"),
            proxies=ProxySettings.of(Proxy.parse(f"{text}{self.ADDRESS}:3128")),
            proxy_source="--proxy",
        )

    def test_good(self) -> None:
        """What goes by CONNECT, and what as web requests, is told apart."""
        findings, found = self.examine_behind(Defects(connect_ports=(443,)), "")
        self.assertTrue(found.possible)
        (proxy,) = findings.proxies
        self.assertEqual((proxy.works, proxy.authentication), (False, ()))
        self.assertIn("no CONNECT", proxy.reason)
        works = {
            (m.method, m.carrier): m.works
            for m in findings.methods
            if m.service == "relay"
        }
        self.assertIs(works["upgrade", "CONNECT"], False)
        self.assertIs(works["finite_messages", "web requests"], True)

    def test_authentication(self) -> None:
        """A proxy that wants a password is found out, with and without one."""
        wants = Defects(credentials=("user", "password"), digest=True)
        findings, found = self.examine_behind(wants, "user:password@")
        (proxy,) = findings.proxies
        self.assertEqual((proxy.works, proxy.authentication), (True, ("digest",)))
        self.assertTrue(found.possible)
        findings, found = self.examine_behind(wants, "")
        (proxy,) = findings.proxies
        self.assertEqual((proxy.works, proxy.authentication), (False, ("digest",)))
        self.assertFalse(found.possible)
        self.assertIn("USER:PASSWORD@", found.advice[0])


class RouterTests(SynchronousTestCase):
    """Routers that forward ports, in a network without Internet."""

    def test_port_mapping(self) -> None:
        """The protocol is found, and nothing stays mapped."""
        for version, protocol in ((2, "PCP"), (0, "NAT-PMP")):
            world = World()
            lan = world.lan()
            router = lan.host("192.168.1.1", name="router")
            lan.network.gateway = router.interfaces[0]
            host = lan.host("192.168.1.2", name="host")
            daemon = MappingRouter(router, version)
            examination = Examination(reactor=host.reactor, mediator=None)
            findings = world.run_until(examination.start(), 30.0)
            assert findings is not None
            found = {m.protocol: m.external for m in findings.port_mapping if m.found}
            self.assertEqual(found, {protocol: daemon.external})
            self.assertGreater(daemon.asked, 1)
            self.assertEqual(daemon.mappings, {})

    def test_cut_short(self) -> None:
        """Also who gives up in the middle leaves nothing behind."""
        world = World()
        lan = world.lan()
        router = lan.host("192.168.1.1", name="router")
        lan.network.gateway = router.interfaces[0]
        host = lan.host("192.168.1.2", name="host")
        daemon = MappingRouter(router)
        running = Examination(reactor=host.reactor, mediator=None).start()
        world.run_until(lambda: daemon.mappings, 5.0)
        running.cancel()
        world.advance(3.0)
        self.failureResultOf(running)
        self.assertEqual(daemon.mappings, {})


class PeerTests(CheckTestCase):
    """With the name of a server."""

    def check(self, server_kind: str, client_kind: str) -> tuple[Findings, Diagnosis]:
        """Examine the way from one kind of NAT to a server behind another."""
        cloud = CloudWorld()
        server_host = behind(cloud, server_kind, 1, "server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        cloud.world.advance(5.0)
        client = behind(cloud, client_kind, 2, "client")
        return self.examine(cloud, client, peer=server.identity.name)

    def test_direct(self) -> None:
        """A hole that can be punched is, and why that is possible is said."""
        findings, found = self.check("port-restricted", "addr-restricted")
        self.assertEqual((found.path, found.possible), ("udp", True))
        self.assertIn("here addr-restricted, there port-restricted", found.why[0])
        self.assertEqual(found.expectations, ())
        assert findings.peer is not None
        self.assertIs(findings.peer.state, PeerState.CONNECTED)

    def test_relayed(self) -> None:
        """Two symmetric NATs need the relay, and the advice names both routers."""
        _, found = self.check("symmetric", "symmetric")
        self.assertEqual((found.path, found.possible), ("relay", True))
        self.assertIn("neither end can know", " ".join(found.why))
        advice = " ".join(found.advice)
        self.assertIn("At the server", advice)
        self.assertIn("endpoint-independent", advice)

    def test_ipv6(self) -> None:
        """Where IPv4 would be relayed, IPv6 at both ends is told as the reason."""
        cloud = CloudWorld()
        hosts = [
            cloud.internet.nat(
                f"198.51.{number}.1",
                NAT_KINDS["symmetric"],
                firewall=Firewall(),
                lan=[f"192.168.{number}.0/24", f"2a00:1450:{number}::/64"],
            ).host(f"192.168.{number}.10", f"2a00:1450:{number}::10")
            for number in (1, 2)
        ]
        server = cloud.serve(hosts[0], interface="")
        cloud.wait_online(hosts[0])
        cloud.world.advance(5.0)
        _, found = self.examine(
            cloud, hosts[1], interface="", peer=server.identity.name
        )
        self.assertEqual((found.path, found.possible), ("udp", True))
        self.assertIn("by IPv6", found.verdict)
        self.assertIn("no NAT is in the way", found.why[0])

    def test_public(self) -> None:
        """A public server is reached by TCP or UDP at once."""
        _, found = self.check("open", "symmetric")
        self.assertIn(found.path, ("tcp", "udp"))

    def test_lan(self) -> None:
        """A server in the same network is heard, and reached there."""
        cloud = CloudWorld()
        lan = cloud.internet.nat("198.51.100.1", PORT_RESTRICTED)
        server_host = lan.host("192.168.1.10", name="server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        client = lan.host("192.168.1.20", name="client")
        findings, found = self.examine(
            cloud, client, peer=server.identity.name, mediator=None
        )
        self.assertEqual((found.path, found.possible), ("lan", True))
        (heard,) = findings.lan.servers
        self.assertEqual(heard[0], str(server.identity.name))

    def test_offline(self) -> None:
        """A server that went away is offline, a stranger is unknown."""
        cloud = CloudWorld()
        server_host = cloud.internet.host("198.51.1.1", name="server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        cloud.world.run_until(server.stopService())
        client = cloud.internet.host("198.51.2.1", name="client")
        findings, found = self.examine(cloud, client, peer=server.identity.name)
        assert findings.peer is not None
        self.assertIs(findings.peer.state, PeerState.OFFLINE)
        self.assertFalse(found.possible)
        self.assertIn("offline", found.verdict)
        stranger = cloud.system.issue_server().name
        findings, found = self.examine(cloud, client, peer=stranger)
        assert findings.peer is not None
        self.assertIs(findings.peer.state, PeerState.UNKNOWN)

    def test_unreachable(self) -> None:
        """A server that is online, where no relay is and no hole can be punched."""
        cloud = CloudWorld(relay=False)
        server_host = behind(cloud, "symmetric", 1, "server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        client = behind(cloud, "symmetric", 2, "client")
        findings, found = self.examine(cloud, client, peer=server.identity.name)
        assert findings.peer is not None
        self.assertIs(findings.peer.state, PeerState.UNREACHABLE)
        self.assertEqual(findings.peer.step, "paths")
        self.assertFalse(found.possible)
        self.assertTrue(findings.peer.report.failures)
        self.assertIn("twistd relay", " ".join(found.advice))
