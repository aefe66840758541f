"""Clients and servers that come into another network, and back out of silence."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.server import CloudServer
from dwcloud.peer.status import PathKind
from dwcloud.testing import PORT_RESTRICTED, SYMMETRIC, TCP, UDP, Firewall, Host

from .cloud_world import FILE_SHA256, FILE_SIZE, CloudWorld

_SOON = 6.0
"""Seconds within which everything works again."""


class NetworkChangeTests(SynchronousTestCase):
    """A server and a client, each behind a NAT."""

    def setUp(self) -> None:
        self.cloud = CloudWorld()
        internet = self.cloud.internet
        self.home = internet.nat("198.51.100.1", PORT_RESTRICTED)
        self.away = internet.nat("198.51.100.2", PORT_RESTRICTED)
        self.server_host = self.home.host("192.168.1.10", name="server")
        self.client_host = self.away.host("192.168.1.20", name="client")

    def serve(self) -> CloudServer:
        """Start a server that uses whatever addresses its host has."""
        server = self.cloud.serve(
            self.server_host, interface="", lan=False, isLocal=lambda _: False
        )
        self.cloud.wait_online(self.server_host)
        return server

    def online_count(self) -> int:
        """How often the server came online."""
        events = self.cloud.events["server"]
        return sum(event.event == "online" for event in events)

    def wait_back(self, before: int) -> None:
        """The server is online again soon."""
        self.cloud.world.run_until(lambda: self.online_count() > before, _SOON)

    def move(self, host: Host, to: str, address: str) -> None:
        """Take a host from its network into a new one behind a NAT."""
        host.detach(host.interfaces[0])
        self.cloud.internet.nat(to, PORT_RESTRICTED).attach(host, address)

    def test_server_address(self) -> None:
        """A server with a new address is back, and the mediator knows the address."""
        server = self.serve()
        client = self.cloud.client(self.client_host)
        for number in range(11, 14):
            before = self.online_count()
            address = f"192.168.1.{number}"
            interface = self.server_host.interfaces[0]
            self.server_host.change_addresses(interface, [address])
            self.wait_back(before)
            record = self.cloud.mediator.mediator.registry.find(server.identity.name)
            self.cloud.world.advance(0.5)
            assert record is not None
            hosts = [a.host for a in record.addresses.tcp_endpoints]
            self.assertEqual(hosts, [address])
            report, digest = self.cloud.download(client, server)
            self.assertEqual((report.path, digest), (PathKind.UDP, FILE_SHA256))
            self.assertLess(report.connect_seconds, _SOON)

    def test_server_moves(self) -> None:
        """A server in another network is reached there, directly."""
        server = self.serve()
        client = self.cloud.client(self.client_host, interface="")
        self.cloud.download(client, server)
        before = self.online_count()
        self.move(self.server_host, "198.51.100.3", "192.168.1.99")
        self.wait_back(before)
        report, digest = self.cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.UDP, FILE_SHA256))
        assert report.remote_address is not None
        self.assertTrue(report.remote_address.startswith("198.51.100.3:"))

    def test_client_moves(self) -> None:
        """A client in another network punches anew, at once."""
        server = self.serve()
        client = self.cloud.client(self.client_host, interface="")
        self.cloud.download(client, server)
        self.move(self.client_host, "198.51.100.4", "192.168.1.99")
        self.cloud.world.advance(0.1)
        self.cloud.world.trace.clear()
        report, digest = self.cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.UDP, FILE_SHA256))
        self.assertLess(report.connect_seconds, 1.0)
        carried = self.cloud.world.trace.bytes_carried("server", "client", UDP)
        self.assertGreater(carried, FILE_SIZE)

    def test_cable(self) -> None:
        """A server without a network waits, and does not wait long when it is back."""
        server = self.serve()
        before = self.online_count()
        self.server_host.detach(self.server_host.interfaces[0])
        self.cloud.world.advance(300.0)
        self.assertEqual(self.online_count(), before)
        self.home.attach(self.server_host, "192.168.1.10")
        self.wait_back(before)
        client = self.cloud.client(self.client_host)
        report, digest = self.cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.UDP, FILE_SHA256))

    def test_nothing_changed(self) -> None:
        """A channel that works stays; only idle connections are made anew."""
        server = self.serve()
        self.home.attach(self.server_host, "192.168.1.88")
        self.cloud.world.advance(_SOON)
        self.assertEqual(self.online_count(), 1)
        self.assertEqual(self.cloud.mediator.mediator.registry.online_count, 1)
        client = self.cloud.client(self.client_host)
        _, digest = self.cloud.download(client, server)
        self.assertEqual(digest, FILE_SHA256)


class RelayedTests(SynchronousTestCase):
    """A stream that is relayed does not keep the next one from going directly."""

    def setUp(self) -> None:
        self.cloud = CloudWorld()
        self.firewall = Firewall(block_udp=True)
        home = self.cloud.internet.nat("198.51.100.1", PORT_RESTRICTED)
        away = self.cloud.internet.nat(
            "198.51.100.2", PORT_RESTRICTED, firewall=self.firewall
        )
        self.server_host = home.host("192.168.1.10", name="server")
        self.server = self.cloud.serve(self.server_host)
        self.cloud.wait_online(self.server_host)
        self.client = self.cloud.client(away.host("192.168.1.20", name="client"))

    def test_direct_later(self) -> None:
        """Once UDP gets through a hole is punched without anybody asking for it."""
        report, digest = self.cloud.download(self.client, self.server)
        self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
        self.firewall.block_udp = False
        self.cloud.world.advance(25.0)
        self.cloud.world.trace.clear()
        report, digest = self.cloud.download(self.client, self.server)
        self.assertEqual((report.path, digest), (PathKind.UDP, FILE_SHA256))
        trace = self.cloud.world.trace
        self.assertGreater(trace.bytes_carried("server", "client", UDP), FILE_SIZE)
        # It was there already: the mediator was not asked.
        self.assertEqual(trace.packets_carried("client", "mediator", UDP), 0)
        self.assertEqual(trace.packets_carried("client", "mediator", TCP), 0)

    def test_in_vain(self) -> None:
        """Where it does not work it is tried a few times, then no more."""
        self.cloud.download(self.client, self.server)
        self.cloud.world.advance(600.0)
        sessions = self.cloud.mediator.mediator.sessions.counts.started
        self.assertLessEqual(sessions, 5)
        self.cloud.world.advance(3600.0)
        later = self.cloud.mediator.mediator.sessions.counts.started
        self.assertEqual(later, sessions)

    def test_in_the_way_of_nobody(self) -> None:
        """A connection that comes meanwhile does not wait for it."""
        first, _ = self.cloud.download(self.client, self.server)
        for _ in range(4):
            self.cloud.world.advance(1.5)
            report, digest = self.cloud.download(self.client, self.server)
            self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
            self.assertLess(report.connect_seconds, first.connect_seconds + 0.5)

    def test_stop(self) -> None:
        """A client that stops leaves nothing behind."""
        for wait in (0.0, 3.0, 30.0):
            self.cloud.download(self.client, self.server)
            self.cloud.world.advance(wait)
        self.cloud.world.run_until(self.client.stop())


class SymmetricTests(SynchronousTestCase):
    """Where punching is impossible, tries do no harm."""

    def test_symmetric(self) -> None:
        """Streams go on by the relay, as fast as before."""
        cloud = CloudWorld()
        host = cloud.internet.nat("198.51.100.1", SYMMETRIC).host(
            "192.168.1.10", name="server"
        )
        server = cloud.serve(host)
        cloud.wait_online(host)
        away = cloud.internet.nat("198.51.100.2", SYMMETRIC)
        client = cloud.client(away.host("192.168.1.20", name="client"))
        for _ in range(8):
            report, digest = cloud.download(client, server)
            self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
            self.assertLess(report.connect_seconds, 2.0)
            cloud.world.advance(1.7)
