"""Paths over IPv6, between networks whose IPv4 does not let through.

Each network has a symmetric NAT for IPv4, and addresses of its own for IPv6 behind a
firewall that lets in answers only.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.client import CloudClient
from dwcloud.peer.mediator_address import MediatorAddress
from dwcloud.peer.server import CloudServer
from dwcloud.peer.status import ConnectionReport, PathKind
from dwcloud.protocol.addresses import parse_address
from dwcloud.testing import NAT_KINDS, TCP, UDP, Firewall, Host, Realm

from .cloud_world import FILE_SHA256, FILE_SIZE, CloudWorld

MEDIATOR = "2a00:1450:4000::1"
SYMMETRIC = NAT_KINDS["symmetric"]


def network(cloud: CloudWorld, number: int, **rules: Any) -> Realm:
    """Return a network of both versions of IP, with such rules in its firewall."""
    return cloud.internet.nat(
        f"198.51.{number}.1",
        SYMMETRIC,
        firewall=Firewall(**rules),
        lan=[f"192.168.{number}.0/24", f"2a00:1450:{number}::/64"],
    )


def host(realm: Realm, number: int, name: str, *, ipv6: bool = True) -> Host:
    """Return a host in the network of that number."""
    addresses = [f"192.168.{number}.10"]
    if ipv6:
        addresses.append(f"2a00:1450:{number}::10")
    return realm.host(*addresses, name=name)


class IPv6TestCase(SynchronousTestCase):
    """A server in one network, a client in another."""

    def start(self, cloud: CloudWorld, server_host: Host, client_host: Host) -> None:
        """Start both."""
        self.cloud = cloud
        self.server: CloudServer = cloud.serve(server_host, interface="")
        cloud.wait_online(server_host)
        cloud.world.advance(5.0)
        self.client: CloudClient = cloud.client(client_host, interface="")

    def start_usual(self, cloud: CloudWorld) -> None:
        """Start both in usual networks of both versions of IP."""
        server_host = host(network(cloud, 1), 1, "server")
        client_host = host(network(cloud, 2), 2, "client")
        self.start(cloud, server_host, client_host)

    def fetch(self) -> ConnectionReport:
        """Fetch the file whole; return how."""
        self.cloud.world.trace.clear()
        report, digest = self.cloud.download(self.client, self.server)
        self.assertEqual(digest, FILE_SHA256)
        return report

    def assert_over_ipv6(self, report: ConnectionReport, path: PathKind) -> None:
        """The file, and no copy of it, went from host to host, to such an address."""
        self.assertIs(report.path, path)
        assert report.remote_address is not None
        remote = parse_address(report.remote_address)
        self.assertEqual(remote.host, "2a00:1450:1::10")
        trace, protocol = self.cloud.world.trace, {PathKind.UDP: UDP}.get(path, TCP)
        carried = trace.bytes_carried("server", "client", protocol)
        self.assertGreater(carried, FILE_SIZE)
        self.assertLess(trace.bytes_carried("relay", "client", TCP), 10_000)

    def assert_relayed(self, report: ConnectionReport) -> None:
        """The file went through the relay."""
        self.assertIs(report.path, PathKind.RELAY)
        carried = self.cloud.world.trace.bytes_carried("relay", "client", TCP)
        self.assertGreater(carried, FILE_SIZE)


class PunchingTests(IPv6TestCase):
    """Through two firewalls that let in answers only."""

    def test_mediator_without_ipv6(self) -> None:
        """Where nobody can see the client's address, one probe opens the firewall."""
        self.start_usual(CloudWorld())
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)

    def test_mediator_tells_its_address(self) -> None:
        """Named by IPv4, the mediator tells where it is by IPv6, and sees who asks."""
        self.start_usual(CloudWorld(ipv6=MEDIATOR))
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)
        self.assert_seen()

    def assert_seen(self) -> None:
        """The mediator saw each end over IPv6."""
        seen = {
            record.source.host
            for record in self.cloud.world.trace
            if record.destination.host == MEDIATOR
        }
        self.assertIn("2a00:1450:2::10", seen)

    def test_mediator_by_name(self) -> None:
        """A name with addresses of both versions is asked at both at once."""
        cloud = CloudWorld(ipv6=MEDIATOR)
        cloud.world.add_name("cloud.example", "203.0.113.1", MEDIATOR)
        cloud.address = MediatorAddress("cloud.example")
        self.start_usual(cloud)
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)
        self.assert_seen()

    def test_probe_lost(self) -> None:
        """Where the one probe is lost the relay carries it, until a later try."""
        cloud = CloudWorld()
        near = network(cloud, 1)
        client_host = host(network(cloud, 2), 2, "client")
        self.start(cloud, host(near, 1, "server"), client_host)
        lost = []

        def first_probe(packet: Any) -> bool:
            over = packet.source.host == "2a00:1450:1::10"
            if over and not lost and len(packet.payload) == 84:
                lost.append(packet)
                return True
            return False

        near.network.add_filter(first_probe)
        self.assert_relayed(self.fetch())
        self.assertEqual(len(lost), 1)
        cloud.world.advance(60.0)
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)

    def test_one_end_has_none(self) -> None:
        """IPv6 at one end is of no use."""
        for has in ("server", "client", "none"):
            with self.subTest(has=has):
                cloud = CloudWorld(ipv6=MEDIATOR)
                self.start(
                    cloud,
                    host(network(cloud, 1), 1, "server", ipv6=has == "server"),
                    host(network(cloud, 2), 2, "client", ipv6=has == "client"),
                )
                self.assert_relayed(self.fetch())

    def test_mediator_by_ipv6_alone(self) -> None:
        """Peers whose IPv4 reaches nobody are introduced over IPv6."""
        cloud = CloudWorld(ipv6=MEDIATOR)
        cloud.address = MediatorAddress(MEDIATOR)
        reactor = cloud.mediator_host.reactor
        reactor.listenTCP(3345, cloud.mediator._either, interface=MEDIATOR)
        self.start_usual(cloud)
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)


class SurroundingsTests(IPv6TestCase):
    """Other networks than the usual ones."""

    def test_tcp(self) -> None:
        """Without UDP, TCP reaches a server that no firewall protects."""
        cloud = CloudWorld()
        open_network = network(cloud, 1, open_ports=[("tcp", 7001)])
        server_host = host(open_network, 1, "server")
        client_host = host(network(cloud, 2, block_udp=True), 2, "client")
        self.cloud = cloud
        self.server = cloud.serve(server_host, interface="", tcp_port=7001)
        cloud.wait_online(server_host)
        self.client = cloud.client(client_host, interface="")
        self.assert_over_ipv6(self.fetch(), PathKind.TCP)

    def test_one_interface(self) -> None:
        """Who is told to use an address of IPv4 alone uses no other."""
        cloud = CloudWorld(ipv6=MEDIATOR)
        server_host = host(network(cloud, 1), 1, "server")
        client_host = host(network(cloud, 2), 2, "client")
        self.start(cloud, server_host, client_host)
        self.client = cloud.client(client_host, interface="192.168.2.10")
        self.assert_relayed(self.fetch())

    def test_ipv6_comes_later(self) -> None:
        """An address that a machine gets while it runs is used from then on."""
        cloud = CloudWorld(ipv6=MEDIATOR)
        server_host = host(network(cloud, 1), 1, "server", ipv6=False)
        client_host = host(network(cloud, 2), 2, "client", ipv6=False)
        self.start(cloud, server_host, client_host)
        self.assert_relayed(self.fetch())
        for each, number in ((server_host, 1), (client_host, 2)):
            addresses = [f"192.168.{number}.10", f"2a00:1450:{number}::10"]
            each.change_addresses(each.interfaces[0], addresses)
        cloud.world.advance(5.0)
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)

    def test_own_addresses(self) -> None:
        """Of several addresses that one is met which the system sends from."""
        cloud = CloudWorld()
        server_host = network(cloud, 1).host(
            "192.168.1.10", *(f"2a00:1450:1::1{n}" for n in range(6)), name="server"
        )
        client_host = network(cloud, 2).host(
            "192.168.2.10", *(f"2a00:1450:2::1{n}" for n in range(6)), name="client"
        )
        self.start(cloud, server_host, client_host)
        self.assert_over_ipv6(self.fetch(), PathKind.UDP)
