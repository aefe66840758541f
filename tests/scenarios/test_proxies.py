"""Networks that let nothing out but what goes through a proxy."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import MediatorUnreachable
from dwcloud.peer.status import PathKind
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import PORT_RESTRICTED, SYMMETRIC, Firewall, Host, Realm
from dwcloud.testing.proxy import BadProxy, Defects
from tests.scenarios.cloud_world import FILE_SHA256, CloudWorld
from tests.unit.net.stream_world import Recorder

PROXY = "203.0.113.8"


class ExplicitProxyTests(SynchronousTestCase):
    """An office whose only way out is a proxy that is named to its users."""

    def setUp(self) -> None:
        self.cloud = CloudWorld()
        self.proxy_host = self.cloud.internet.host(PROXY, name="proxy")

    def start_proxy(self, defects: Defects | None = None) -> None:
        self.proxy = BadProxy(self.proxy_host.reactor, defects)
        self.proxy_host.reactor.listenTCP(3128, self.proxy)

    def office(self, address: str) -> Realm:
        """A network that may talk to the proxy alone."""
        firewall = Firewall(hosts=[PROXY], rejects=True)
        return self.cloud.internet.nat(address, PORT_RESTRICTED, firewall=firewall)

    def settings(self, text: str = f"user:password@{PROXY}:3128") -> Any:
        return ProxySettings.of(Proxy.parse(text))

    def server_host(self) -> Host:
        return self.office("198.51.100.1").host("192.168.1.10", name="server")

    def test_both_ends_behind_proxies(self) -> None:
        """Server and client find each other, and the relay carries their stream."""
        self.start_proxy(Defects(credentials=("user", "password"), digest=True))
        server_host = self.server_host()
        server = self.cloud.serve(server_host, proxies=self.settings())
        self.cloud.wait_online(server_host)
        office = self.office("198.51.100.2")
        client = self.cloud.client(
            office.host("192.168.1.20", name="client"), proxies=self.settings()
        )
        report, digest = self.cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
        self.assertEqual(report.method, "upgrade")
        self.assertEqual(
            {target for _, target in self.proxy.requests},
            {"203.0.113.1:3345", "203.0.113.2:3349"},
        )

    def test_relay_by_short_requests(self) -> None:
        """Where CONNECT does not lead to the relay, short requests do."""
        self.start_proxy(
            Defects(
                connect_ports=(443, 3345),
                strips_upgrade=True,
                buffers_requests=True,
                buffers_answers=True,
            )
        )
        server_host = self.server_host()
        server = self.cloud.serve(server_host, proxies=self.settings())
        self.cloud.wait_online(server_host)
        office = self.office("198.51.100.2")
        client = self.cloud.client(
            office.host("192.168.1.20", name="client"), proxies=self.settings()
        )
        report, digest = self.cloud.download(client, server)
        self.assertEqual((report.path, digest), (PathKind.RELAY, FILE_SHA256))
        self.assertEqual(report.method, "finite_messages")
        (listening,) = [
            e.details
            for e in self.cloud.events["server"]
            if e.details.get("state") == "listening"
        ]
        self.assertEqual(listening["method"], "finite_messages")
        self.assertIn("443 alone", listening["failed_methods"]["upgrade by CONNECT"])

    def test_quiet_for_minutes(self) -> None:
        """A proxy that cuts what one side leaves quiet for 25 s cuts no leg.

        These are both ends' connections to the relay, idle or joined, and the
        server's to the mediator, which also hears of clients all the time.
        """
        self.start_proxy(Defects(one_way_limit=25.0))
        server_host = self.server_host()
        silent = Factory.forProtocol(Protocol)
        server_host.reactor.listenTCP(8081, silent, interface="127.0.0.1")
        endpoint = TCP4ClientEndpoint(server_host.reactor, "127.0.0.1", 8081)
        server = self.cloud.serve(
            server_host, proxies=self.settings(), services={"silent": endpoint}
        )
        self.cloud.wait_online(server_host)
        office = self.office("198.51.100.2")
        client = self.cloud.client(
            office.host("192.168.1.20", name="client"), proxies=self.settings()
        )
        stream = Recorder()
        factory = Factory.forProtocol(lambda: stream)
        connecting = client.connect(server.identity.name, "silent", factory)
        self.cloud.world.run_until(connecting, 30.0)
        self.cloud.world.advance(5.0)
        before = set(self.proxy.connections)
        self.assertEqual(len(before), 1 + 7 + 2)
        asked = len(self.proxy.requests)
        self.cloud.world.advance(300.0)
        self.assertEqual(set(self.proxy.connections) & before, before)
        # Not even looking for a direct path lets anything on these be cut.
        self.assertNotIn("offline", {e.event for e in self.cloud.events["server"]})
        self.assertIsNone(stream.lost)
        self.assertLess(len(self.proxy.requests) - asked, 20)

    def test_clients_stream_cut(self) -> None:
        """Where a client's streams are cut again and again, short requests are used.

        The server's way to the relay is as good as ever.
        """
        server_host = self.cloud.internet.nat("198.51.100.1", SYMMETRIC).host(
            "192.168.1.10", name="server"
        )
        silent = Factory.forProtocol(Protocol)
        server_host.reactor.listenTCP(8081, silent, interface="127.0.0.1")
        endpoint = TCP4ClientEndpoint(server_host.reactor, "127.0.0.1", 8081)
        server = self.cloud.serve(server_host, services={"silent": endpoint})
        self.cloud.wait_online(server_host)
        self.start_proxy(Defects(life_limit=60.0))
        office = self.office("198.51.100.2")
        client = self.cloud.client(
            office.host("192.168.1.20", name="client"), proxies=self.settings()
        )
        methods = []
        for _ in range(3):
            stream = Recorder()
            connecting = client.connect(
                server.identity.name,
                "silent",
                Factory.forProtocol(lambda stream=stream: stream),
                None,
                self.cloud.reports.append,
            )
            self.cloud.world.run_until(connecting, 30.0)
            methods.append(self.cloud.reports[-1].method)
            self.cloud.world.advance(150.0)
        self.assertEqual(methods, ["upgrade", "upgrade", "finite_messages"])
        self.assertIsNone(stream.lost)
        stream.transport.loseConnection()

    def test_ended_by_the_far_end(self) -> None:
        """A stream that ends in order, or by its own application, is not cut."""
        server_host = self.cloud.internet.nat("198.51.100.1", SYMMETRIC).host(
            "192.168.1.10", name="server"
        )
        server = self.cloud.serve(server_host)
        self.cloud.wait_online(server_host)
        self.start_proxy()
        office = self.office("198.51.100.2")
        client = self.cloud.client(
            office.host("192.168.1.20", name="client"), proxies=self.settings()
        )
        for _ in range(3):
            self.cloud.download(client, server)
            aborted = Recorder()
            connecting = client.connect(
                server.identity.name,
                "web",
                Factory.forProtocol(lambda aborted=aborted: aborted),
            )
            self.cloud.world.run_until(connecting, 30.0)
            aborted.transport.abortConnection()
            self.cloud.world.advance(20.0)
        self.assertEqual({r.method for r in self.cloud.reports}, {"upgrade"})

    def test_wrong_password(self) -> None:
        """The server tells that, and does not hammer the proxy."""
        self.start_proxy(Defects(credentials=("user", "password")))
        server_host = self.server_host()
        settings = self.settings(f"user:wrong@{PROXY}:3128")
        self.cloud.serve(server_host, proxies=settings)
        events = self.cloud.events["server"]
        self.cloud.world.run_until(lambda: any(e.event == "offline" for e in events))
        (reason,) = {e.details["reason"] for e in events}
        self.assertIn("rejects the password of 'user'", str(reason))
        self.cloud.world.advance(3600.0)
        self.assertLessEqual(len(self.proxy.requests), 6)

    def test_without_the_proxy(self) -> None:
        """A client that does not know the proxy does not get out."""
        self.start_proxy()
        server_host = self.server_host()
        server = self.cloud.serve(server_host, proxies=self.settings())
        self.cloud.wait_online(server_host)
        office = self.office("198.51.100.2")
        client = self.cloud.client(office.host("192.168.1.20", name="client"))
        self.assertRaises(MediatorUnreachable, self.cloud.download, client, server)
