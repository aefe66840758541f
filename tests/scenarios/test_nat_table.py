"""Which path carries the bytes, for pairs of NATs and for troubled networks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.status import PathKind
from dwcloud.testing import (
    ADDRESS_RESTRICTED,
    FULL_CONE,
    PORT_RESTRICTED,
    SYMMETRIC,
    TCP,
    UDP,
    Firewall,
    NATBehaviour,
)

from .cloud_world import FILE_SHA256, FILE_SIZE, CloudWorld

CONES = {
    "full cone": FULL_CONE,
    "address-restricted": ADDRESS_RESTRICTED,
    "port-restricted": PORT_RESTRICTED,
}


class NATTableTests(SynchronousTestCase):
    """Server and client behind a NAT each."""

    def connect(
        self,
        server_nat: NATBehaviour,
        client_nat: NATBehaviour,
        options: ConnectOptions | None = None,
    ) -> tuple[CloudWorld, PathKind | None]:
        """Fetch the file through both NATs and tell by which path it came."""
        cloud = CloudWorld()
        server_host = cloud.internet.nat("198.51.100.1", server_nat).host(
            "192.168.1.10", name="server"
        )
        client_host = cloud.internet.nat("198.51.100.2", client_nat).host(
            "192.168.1.20", name="client"
        )
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        client = cloud.client(client_host)
        cloud.world.trace.clear()
        report, digest = cloud.download(client, server, options)
        self.assertEqual(digest, FILE_SHA256)
        return cloud, report.path

    def assert_carried_by(self, cloud: CloudWorld, path: PathKind | None) -> None:
        """The trace must show the bytes on the reported path and on no other."""
        trace = cloud.world.trace
        direct = trace.bytes_carried("server", "client", UDP)
        relayed = trace.bytes_carried("relay", "client", TCP)
        if path is PathKind.UDP:
            self.assertGreater(direct, FILE_SIZE)
            self.assertLess(relayed, FILE_SIZE // 10)
        else:
            self.assertIs(path, PathKind.RELAY)
            self.assertGreater(relayed, FILE_SIZE)
            self.assertLess(direct, FILE_SIZE // 10)

    def test_cones_are_punched(self) -> None:
        """All NATs with endpoint-independent mapping let a direct path through."""
        for server_name, server_nat in CONES.items():
            for client_name, client_nat in CONES.items():
                with self.subTest(server=server_name, client=client_name):
                    cloud, path = self.connect(server_nat, client_nat)
                    self.assertIs(path, PathKind.UDP)
                    self.assert_carried_by(cloud, path)

    def test_symmetric_is_relayed(self) -> None:
        """Where punching cannot work the relay carries the stream."""
        for server_nat, client_nat in (
            (SYMMETRIC, PORT_RESTRICTED),
            (PORT_RESTRICTED, SYMMETRIC),
            (SYMMETRIC, SYMMETRIC),
        ):
            with self.subTest(server=server_nat, client=client_nat):
                cloud, path = self.connect(server_nat, client_nat)
                self.assert_carried_by(cloud, path)
                self.assertIs(path, PathKind.RELAY)

    def test_forced_relay(self) -> None:
        """The relay can be asked for although a direct path would work."""
        cloud, path = self.connect(FULL_CONE, FULL_CONE, ConnectOptions(path="relay"))
        self.assertIs(path, PathKind.RELAY)
        self.assert_carried_by(cloud, path)

    def test_forced_udp(self) -> None:
        """A direct UDP path can be asked for."""
        cloud, path = self.connect(
            PORT_RESTRICTED, PORT_RESTRICTED, ConnectOptions(path="udp")
        )
        self.assertIs(path, PathKind.UDP)
        self.assert_carried_by(cloud, path)


class OtherPathTests(SynchronousTestCase):
    """LAN, public servers, blocked UDP, further streams."""

    def test_same_lan_needs_no_mediator(self) -> None:
        """On one LAN the client connects directly and the mediator hears nothing."""
        cloud = CloudWorld()
        lan = cloud.internet.nat("198.51.100.1", PORT_RESTRICTED)
        server_host = lan.host("192.168.1.10", name="server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        client = cloud.client(lan.host("192.168.1.20", name="client"))
        cloud.world.trace.clear()
        report, digest = cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.LAN, FILE_SHA256))
        trace = cloud.world.trace
        self.assertEqual(trace.packets_carried("client", "mediator", UDP), 0)
        self.assertEqual(trace.packets_carried("client", "mediator", TCP), 0)
        self.assertGreater(trace.bytes_carried("server", "client", TCP), FILE_SIZE)

    def test_public_server_is_reached_by_tcp(self) -> None:
        """A server with a public address is reached directly."""
        cloud = CloudWorld()
        server_host = cloud.internet.host("203.0.113.10", name="server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        home = cloud.internet.nat("198.51.100.2", PORT_RESTRICTED)
        client = cloud.client(home.host("192.168.1.20", name="client"))
        report, digest = cloud.download(client, server, ConnectOptions(path="tcp"))
        self.assertEqual((report.path, digest), (PathKind.TCP, FILE_SHA256))
        trace = cloud.world.trace
        self.assertGreater(trace.bytes_carried("server", "client", TCP), FILE_SIZE)

    def test_no_udp_at_the_client(self) -> None:
        """Where UDP is blocked the request goes over TCP and the relay carries."""
        cloud = CloudWorld()
        server_host = cloud.internet.nat("198.51.100.1", PORT_RESTRICTED).host(
            "192.168.1.10", name="server"
        )
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        office = cloud.internet.nat(
            "198.51.100.2", PORT_RESTRICTED, firewall=Firewall(block_udp=True)
        )
        client = cloud.client(office.host("192.168.1.20", name="client"))
        report, digest = cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))

    def test_no_udp_at_the_server(self) -> None:
        """A server without UDP is reached through the relay."""
        cloud = CloudWorld()
        office = cloud.internet.nat(
            "198.51.100.1", PORT_RESTRICTED, firewall=Firewall(block_udp=True)
        )
        server_host = office.host("192.168.1.10", name="server")
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        home = cloud.internet.nat("198.51.100.2", PORT_RESTRICTED)
        client = cloud.client(home.host("192.168.1.20", name="client"))
        report, digest = cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))

    def test_further_streams_need_no_mediator(self) -> None:
        """Through an open hole the next stream goes without the mediator."""
        cloud = CloudWorld()
        server_host = cloud.internet.nat("198.51.100.1", PORT_RESTRICTED).host(
            "192.168.1.10", name="server"
        )
        server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        home = cloud.internet.nat("198.51.100.2", PORT_RESTRICTED)
        client = cloud.client(home.host("192.168.1.20", name="client"))
        first, _ = cloud.download(client, server)
        self.assertIs(first.path, PathKind.UDP)
        # Longer than the NATs remember a silent mapping.
        cloud.world.advance(300)
        cloud.world.trace.clear()
        second, digest = cloud.download(client, server)
        self.assertEqual((second.path, digest), (PathKind.UDP, FILE_SHA256))
        self.assertEqual(second.connect_session_id, first.connect_session_id)
        trace = cloud.world.trace
        self.assertEqual(trace.packets_carried("client", "mediator", UDP), 0)
        self.assertEqual(trace.packets_carried("client", "mediator", TCP), 0)
        self.assertGreater(trace.bytes_carried("server", "client", UDP), FILE_SIZE)
