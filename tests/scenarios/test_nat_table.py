"""Which path carries the bytes, for pairs of NATs and for troubled networks."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.guessing import governor_of
from dwcloud.peer.status import PathKind
from dwcloud.testing import (
    NAT_KINDS,
    PORT_RESTRICTED,
    TCP,
    UDP,
    Firewall,
    Host,
    LinkProfile,
)
from tests.nat_table import KINDS, entry, expected_later, expected_paths

from .cloud_world import FILE_SHA256, FILE_SIZE, CloudWorld

_SLOW = LinkProfile(latency=0.1)
"""A wireless network: what comes from outside is at the router long before the host
has sent."""


def behind(
    cloud: CloudWorld, kind: str, number: int, name: str, lan: LinkProfile | None = None
) -> Host:
    """Return a host behind a NAT of this kind.

    :param lan: its link to the router.
    """
    address = f"198.51.{number}.1"
    if kind == "open":
        return cloud.internet.host(address, name=name)
    if kind == "firewall":
        edge = cloud.internet.firewall(f"198.51.{number}.0/24")
        return edge.host(f"198.51.{number}.9", name=name, link=lan)
    home = cloud.internet.nat(address, NAT_KINDS[kind])
    return home.host("192.168.1.10", name=name, link=lan)


class NATTableTests(SynchronousTestCase):
    """Server and client behind a NAT each."""

    def connect(
        self,
        server_kind: str,
        client_kind: str,
        options: ConnectOptions | None = None,
        seed: int = 1,
        slow: str = "",
    ) -> tuple[CloudWorld, PathKind | None]:
        """Fetch the file through both NATs and tell by which path it came.

        :param slow: the host that is in a slow network.
        """
        cloud = CloudWorld(seed)
        server_lan, client_lan = (
            _SLOW if slow == end else None for end in ("server", "client")
        )
        server_host = behind(cloud, server_kind, 1, "server", server_lan)
        client_host = behind(cloud, client_kind, 2, "client", client_lan)
        self.server = cloud.serve(server_host)
        cloud.wait_online(server_host)
        self.client = cloud.client(client_host)
        cloud.world.advance(3.0)
        return cloud, self.fetch(cloud, options)

    def fetch(
        self, cloud: CloudWorld, options: ConnectOptions | None = None
    ) -> PathKind | None:
        """Fetch the file and tell by which path it came."""
        cloud.world.trace.clear()
        report, digest = cloud.download(self.client, self.server, options)
        self.assertEqual(digest, FILE_SHA256)
        return report.path

    def assert_carried_by(self, cloud: CloudWorld, path: PathKind | None) -> None:
        """The trace must show the bytes on the reported path and on no other."""
        trace = cloud.world.trace
        carried = {
            PathKind.UDP: trace.bytes_carried("server", "client", UDP),
            PathKind.TCP: trace.bytes_carried("server", "client", TCP),
            PathKind.RELAY: trace.bytes_carried("relay", "client", TCP),
        }
        assert path is not None
        self.assertGreater(carried.pop(path), FILE_SIZE)
        for stray in carried.values():
            self.assertLess(stray, FILE_SIZE // 10)

    def check(self, server: str, client: str) -> None:
        """Fetch the file and hold the path against the table."""
        cloud, path = self.connect(server, client)
        assert path is not None
        self.assert_carried_by(cloud, path)
        self.assertIn(path.value, expected_paths(server, client), (server, client))
        if path is PathKind.RELAY:
            later = self.fetch_later(cloud)
            self.assert_carried_by(cloud, later)
            self.assertIn(later.value, expected_later(server, client))

    def fetch_later(self, cloud: CloudWorld, seconds: float = 10.0) -> PathKind:
        """Wait for a direct path that is found in the background; fetch once more."""
        mediator = cloud.mediator.mediator.statistics
        end = cloud.world.seconds() + seconds
        asked = mediator.datagrams_received
        while cloud.world.seconds() < end:
            cloud.world.advance(1.0)
            path = self.fetch(cloud)
            assert path is not None
            if path is not PathKind.RELAY:
                self.assertEqual(
                    cloud.world.trace.packets_carried("client", "relay"), 0
                )
                return path
        self.assertGreater(mediator.datagrams_received, asked)
        return PathKind.RELAY

    def test_random_ports_are_hit(self) -> None:
        """Random ports before a filter by port are hit within ten seconds."""
        direct = 0
        for seed in range(10):
            for pair in (("port-restricted", "symmetric"), ("symmetric", "firewall")):
                cloud, path = self.connect(*pair, seed=seed)
                self.assertIs(path, PathKind.RELAY)
                path = self.fetch_later(cloud)
                self.assert_carried_by(cloud, path)
                direct += path is PathKind.UDP
        self.assertGreaterEqual(direct, 19, "of 20")

    def test_hit_port_stays_open(self) -> None:
        """What was hit is kept open for later streams, and closed in the end."""
        for pair in (("port-restricted", "symmetric"), ("symmetric", "firewall")):
            with self.subTest(pair=pair):
                cloud, _ = self.connect(*pair)
                self.assertIs(self.fetch_later(cloud), PathKind.UDP)
                cloud.world.advance(200.0)
                asked = cloud.mediator.mediator.statistics.datagrams_received
                self.assertIs(self.fetch(cloud), PathKind.UDP)
                statistics = cloud.mediator.mediator.statistics
                self.assertEqual(statistics.datagrams_received, asked)
                # Nobody uses it for longer than a tunnel is kept.
                cloud.world.advance(700.0)
                for name in ("server", "client"):
                    reactor = cloud.world.hosts[name].reactor
                    self.assertEqual(governor_of(reactor).mappings, 0)

    def test_lost_races(self) -> None:
        """Whose packets come too late is called once more, and then sends first."""
        kinds = ("firewall", "port-restricted", "linux-nofw", "symmetric-seq")
        lost = 0
        for pair in itertools.product(kinds, kinds):
            if "linux-nofw" not in pair or entry(*pair) not in ("race", "pred"):
                continue
            for slow in ("server", "client"):
                with self.subTest(pair=pair, slow=slow):
                    cloud, path = self.connect(*pair, slow=slow)
                    if path is PathKind.RELAY:
                        lost += 1
                        path = self.fetch_later(cloud)
                    self.assertIs(path, PathKind.UDP)
                    self.assert_carried_by(cloud, path)
        self.assertGreaterEqual(lost, 7, "of 14")

    def test_called_port_stays_open(self) -> None:
        """The ports of a call are kept for later streams, and closed in the end."""
        cloud, _ = self.connect("linux-nofw", "symmetric-seq")
        self.assertIs(self.fetch_later(cloud), PathKind.UDP)
        governors = [
            governor_of(cloud.world.hosts[name].reactor)
            for name in ("server", "client")
        ]
        cloud.world.advance(200.0)
        self.assertEqual([g.mappings for g in governors], [1, 1])
        asked = cloud.mediator.mediator.statistics.datagrams_received
        self.assertIs(self.fetch(cloud), PathKind.UDP)
        statistics = cloud.mediator.mediator.statistics
        self.assertEqual(statistics.datagrams_received, asked)
        # Nobody uses it for longer than a tunnel is kept.
        cloud.world.advance(700.0)
        self.assertEqual([g.mappings for g in governors], [0, 0])

    def test_forced_relay(self) -> None:
        """The relay can be asked for although a direct path would work."""
        cloud, path = self.connect(
            "full-cone", "full-cone", ConnectOptions(path="relay")
        )
        self.assertIs(path, PathKind.RELAY)
        self.assert_carried_by(cloud, path)

    def test_forced_udp(self) -> None:
        """A direct UDP path can be asked for."""
        cloud, path = self.connect(
            "port-restricted", "port-restricted", ConnectOptions(path="udp")
        )
        self.assertIs(path, PathKind.UDP)
        self.assert_carried_by(cloud, path)


def _cell(server: str, client: str) -> Callable[[NATTableTests], None]:
    def test(self: NATTableTests) -> None:
        self.check(server, client)

    test.__doc__ = f"Server behind {server}, client behind {client}."
    return test


for _server, _client in itertools.product(KINDS, KINDS):
    setattr(
        NATTableTests,
        f"test_{_server}_and_{_client}".replace("-", "_"),
        _cell(_server, _client),
    )


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
