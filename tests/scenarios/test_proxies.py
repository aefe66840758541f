"""Networks that let nothing out but what goes through a proxy."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.errors import MediatorUnreachable
from dwcloud.peer.status import PathKind
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import PORT_RESTRICTED, Firewall, Host, Realm
from dwcloud.testing.proxy import BadProxy, Defects
from tests.scenarios.cloud_world import FILE_SHA256, CloudWorld

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
