"""Hosts of two addresses of which one alone may be used."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from dwcloud.peer.client import ConnectOptions
from dwcloud.peer.status import PathKind
from dwcloud.protocol.tunnelling.proxies import Proxy, ProxySettings
from dwcloud.testing import Firewall, Host
from dwcloud.testing.proxy import BadProxy
from tests.scenarios.cloud_world import FILE_SHA256, CloudWorld

PROXY = "203.0.113.8"


class InterfaceTests(SynchronousTestCase):
    """Everything comes from the address named, not from the default one."""

    def setUp(self) -> None:
        self.cloud = CloudWorld()
        self.server_host = self.cloud.internet.host(
            "198.51.100.1", "198.51.100.11", name="server"
        )
        self.client_host = self.cloud.internet.host(
            "198.51.100.2", "198.51.100.22", name="client"
        )

    def download(self, path: str, **options: Any) -> None:
        """Fetch the file by a path, both ends on their second addresses."""
        server = self.cloud.serve(
            self.server_host, interface="198.51.100.11", **options
        )
        self.cloud.wait_online(self.server_host)
        client = self.cloud.client(
            self.client_host, interface="198.51.100.22", **options
        )
        report, digest = self.cloud.download(client, server, ConnectOptions(path=path))
        self.assertEqual((report.path, digest), (PathKind(path), FILE_SHA256))

    def contacts(self, host: Host) -> set[tuple[str, str, str]]:
        """Protocol, source and destination of what left a host."""
        return {
            (record.protocol, record.source.host, record.destination.host)
            for record in self.cloud.world.trace
            if record.origin == host.name
            and not record.destination.host.startswith(("127.", "224."))
        }

    def assert_one_source(self, host: Host, address: str) -> None:
        sources = {source for _, source, _ in self.contacts(host)}
        self.assertEqual(sources, {address})

    def test_relay(self) -> None:
        """The mediator and the relay see the addresses that were named."""
        self.download("relay")
        self.assert_one_source(self.server_host, "198.51.100.11")
        self.assert_one_source(self.client_host, "198.51.100.22")
        for host in (self.server_host, self.client_host):
            reached = {(protocol, to) for protocol, _, to in self.contacts(host)}
            self.assertIn(("tcp", "203.0.113.2"), reached)

    def test_question_over_tcp(self) -> None:
        """So does the mediator where the client's UDP does not get through."""
        self.client_host.firewall = Firewall(block_udp=True)
        self.download("relay")
        self.assert_one_source(self.client_host, "198.51.100.22")
        self.assertIn(
            ("tcp", "198.51.100.22", "203.0.113.1"), self.contacts(self.client_host)
        )

    def test_proxy(self) -> None:
        """And a proxy on the way to either."""
        proxy_host = self.cloud.internet.host(PROXY, name="proxy")
        proxy_host.reactor.listenTCP(3128, BadProxy(proxy_host.reactor))
        settings = ProxySettings.of(Proxy.parse(f"{PROXY}:3128"))
        self.download("relay", proxies=settings)
        self.assert_one_source(self.server_host, "198.51.100.11")
        self.assert_one_source(self.client_host, "198.51.100.22")
        self.assertIn(("tcp", "198.51.100.11", PROXY), self.contacts(self.server_host))
