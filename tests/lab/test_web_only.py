"""The programs as people start them, where only the web's ports lead out."""

from __future__ import annotations

import shutil

from twisted.trial.unittest import SynchronousTestCase

from tests.certificates import tls_endpoint
from tests.lab.intercepting import intercept, require_squid
from tests.lab.namespaces import require_namespaces
from tests.lab.processes import Process, wait_for
from tests.lab.programs import MEDIATOR_PORT, RELAY_PORT, Cloud, Forward, Server
from tests.lab.topology import Host, Lab, Router
from tests.requirements import require

SIZE = 2_000_000
ONLY = """\
add table ip only
add chain ip only forward { type filter hook forward priority filter + 1; }
add rule ip only forward iifname "lan" ct state new tcp dport != { PORTS } drop
add rule ip only forward iifname "lan" ct state new meta l4proto != tcp drop
"""


class WebOnlyTests(SynchronousTestCase):
    """Mediator and relay have a host each, and listen on 80 and 443, too."""

    def setUp(self) -> None:
        require_namespaces()
        require(shutil.which("curl"), "curl is missing")
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        self.mediator = self.lab.host("mediator")
        self.relay = self.lab.host("relay")
        self.start("relay", self.relay, RELAY_PORT)
        url = f"http://{self.relay.address}:{RELAY_PORT}"
        process = self.start("mediator", self.mediator, MEDIATOR_PORT, "--relay", url)
        self.cloud = Cloud(self.mediator, process, process)

    def start(self, name: str, host: Host, port: int, *options: str) -> Process:
        """Start a service on its own port, 80 and 443."""
        sockets = [f"tcp:{port}", "tcp:80", tls_endpoint(host.directory, 443)]
        listen = [word for text in sockets for word in ("--listen", text)]
        words = ["twistd", "-n", "--pidfile=", name, *listen, *options]
        process = host.spawn(name, words)
        for number in (port, 80, 443):
            host.wait_until_listening(number)
        return process

    def office(self, label: str, ports: str) -> Router:
        """A router that lets only these ports of TCP out."""
        router = self.lab.router(label, "port-restricted")
        router.namespace.nft(ONLY.replace("PORTS", ports))
        return router

    def assert_relayed(self, one: Router, other: Router, port: int) -> None:
        """A file comes whole from one office to the other, by the relay.

        :param port: of the relay, to which the other office has its connection.
        """
        with self.lab.explaining():
            host = one.host("server")
            server = Server.start(host, self.cloud, SIZE)
            wait_for("a relay", lambda: server.events("relay"))
            meter = other.meter()
            forward = Forward(other.host("client"), server, self.cloud)
            transfer = forward.fetch()
            self.assertEqual((transfer.path, transfer.sha256), ("relay", server.sha256))
            traffic = meter.read()
            carried = traffic.of(self.relay.address, "tcp", port)
            self.assertGreater(carried, SIZE, str(traffic))
            self.assertGreater(2 * SIZE, traffic.total(), str(traffic))

    def test_web_ports(self) -> None:
        """Both ends are behind firewalls that know nothing but the web."""
        self.assert_relayed(
            self.office("one", "80, 443"), self.office("other", "443"), 443
        )

    def test_intercepted(self) -> None:
        """One end has port 80 alone, and Squid on it."""
        require_squid()
        one, other = self.office("one", "443"), self.office("other", "79")
        access = intercept(self.lab, other)
        self.assert_relayed(one, other, 80)
        self.assertIn("/client_tunnel/", access.read_text())
