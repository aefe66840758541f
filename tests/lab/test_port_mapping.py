"""Ports that a real router forwards: who reaches them, and what stays of them."""

from __future__ import annotations

from tests.lab.cloud_case import SIZE, STRAY, CloudTestCase, Place
from tests.lab.port_mapping import PortMappingDaemon, require_miniupnpd
from tests.lab.processes import PATIENCE, wait_for
from tests.lab.programs import Forward, Server

_TCP, _UDP = 4000, 4001


class PortMappingTests(CloudTestCase):
    """A server behind miniupnpd and a symmetric NAT, where no hole can be punched."""

    def setUp(self) -> None:
        """Build the server's network, without the server."""
        super().setUp()
        require_miniupnpd()
        self.router = self.lab.router("server-router", "symmetric")
        self.meter = self.router.meter()

    def start(self, *options: str, label: str = "server") -> tuple[Place, Server]:
        """Publish a file behind the router, at known ports."""
        place = Place(self.router.host(label), self.router.address, self.meter)
        ports = ("--tcp-port", str(_TCP), "--udp-port", str(_UDP))
        return place, Server.start(place.host, self.cloud, SIZE, *ports, *options)

    def mapped(self, place: Place) -> set[tuple[str, int, str, int]]:
        """Return the mappings of a server's two ports."""
        address = place.host.address
        return {("tcp", _TCP, address, _TCP), ("udp", _UDP, address, _UDP)}

    def assertArrives(self, away: Place, home: Place) -> None:
        """A datagram to the router's forwarded port gets to the server's."""
        meter = home.host.meter()
        with away.host.socket() as source:

            def arrives() -> int:
                source.sendto(b"unasked", (home.address, _UDP))
                return meter.read().of(away.address, "udp")

            wait_for("a datagram", arrives)

    def test_each_protocol(self) -> None:
        """Each makes both ports reachable, and nothing is left of them at the end."""
        daemon = PortMappingDaemon.start(self.lab, self.router)
        away = self.place("client", "symmetric")
        with self.lab.explaining():
            for method in ("pcp", "nat-pmp", "upnp"):
                home, server = self.start("--port-mapping", method, label=method)
                self.assertIn(method, server.mapping(_TCP)["router"].lower())
                self.assertEqual(daemon.mappings(), self.mapped(home))
                self.assertArrives(away, home)
                for path in ("tcp", "udp"):
                    forward = Forward(away.host, server, self.cloud, "--path", path)
                    self.assertEqual(self.check(forward, server, (home, away)), path)
                    forward.end()
                self.assertEqual(server.process.end(), 0)
                self.assertEqual(daemon.mappings(), set())

    def test_upnp_only(self) -> None:
        """Without being told, the one protocol that the router speaks is found."""
        daemon = PortMappingDaemon.start(self.lab, self.router, natpmp=False)
        away = self.place("client", "symmetric")
        with self.lab.explaining():
            home, server = self.start()
            self.assertIn("UPnP", server.mapping(_TCP)["router"])
            self.assertEqual(daemon.mappings(), self.mapped(home))
            forward = Forward(away.host, server, self.cloud)
            self.assertIn(self.check(forward, server, (home, away)), {"tcp", "udp"})

    def test_taken_port(self) -> None:
        """A port that is mapped to another machine is replaced by a free one."""
        for method in ("pcp", "nat-pmp", "upnp"):
            with self.subTest(method=method), self.lab.explaining():
                if method == "pcp":
                    daemon = PortMappingDaemon.start(self.lab, self.router)
                    _, first = self.start(label="first")
                    first.mapping(_TCP)
                option = ("--port-mapping", method)
                home, server = self.start(*option, label=f"second-{method}")
                port = int(server.mapping()["tcp"].rpartition(":")[2])
                self.assertNotEqual(port, _TCP)
                self.assertIn(("tcp", port, home.host.address, _TCP), daemon.mappings())
                self.assertEqual(server.process.end(), 0)

    def test_unwanted(self) -> None:
        """``--no-port-mapping`` asks for nothing, and the relay carries the file."""
        daemon = PortMappingDaemon.start(self.lab, self.router)
        away = self.place("client", "symmetric")
        with self.lab.explaining():
            home, server = self.start("--no-port-mapping")
            forward = Forward(away.host, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), "relay")
            self.assertEqual(daemon.mappings(), set())
            asked = [line for line in daemon.process.lines() if "request" in line]
            self.assertEqual(asked, [])

    def test_carrier_nat(self) -> None:
        """A router that has no global address itself refuses, which harms nobody."""
        carrier = self.lab.router("carrier", "symmetric", "100.64.0.0/24")
        inner = carrier.router("inner", "symmetric")
        daemon = PortMappingDaemon.start(self.lab, inner)
        away = self.place("client", "symmetric")
        with self.lab.explaining():
            host = inner.host("server")
            server = Server.start(host, self.cloud, SIZE)
            home = Place(host, carrier.address, carrier.meter())
            forward = Forward(away.host, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), "relay")
            self.assertEqual(daemon.mappings(), set())

    def test_silent_without_router(self) -> None:
        """Where nothing maps ports, nothing is said of it."""
        with self.lab.explaining():
            place = Place(self.router.host("server"), self.router.address, self.meter)
            server = Server.start(place.host, self.cloud, SIZE)
            self.assertLess(self.meter.read().total(), STRAY)
            words = " ".join(server.process.lines()).lower()
            for word in ("upnp", "pcp", "mapping", "5351"):
                self.assertNotIn(word, words)

    def test_new_address(self) -> None:
        """When the router gets another address, clients are told the new one."""
        daemon = PortMappingDaemon.start(self.lab, self.router)
        away = self.place("client", "symmetric")
        with self.lab.explaining():
            home, server = self.start()
            old = server.mapping(_TCP)["tcp"]
            self.assertEqual(old, f"{self.router.address}:{_TCP}")
            daemon.stop()
            new = self.router.change_address()
            daemon.restart(self.lab)
            wait_for(
                "the new address",
                lambda: server.mapping(_TCP)["tcp"] == f"{new}:{_TCP}",
                2 * PATIENCE,
            )
            wait_for(
                "both mappings",
                lambda: daemon.mappings() == self.mapped(home),
                2 * PATIENCE,
            )
            home = Place(home.host, new, home.meter)
            forward = Forward(away.host, server, self.cloud, "--path", "tcp")
            self.assertEqual(self.check(forward, server, (home, away)), "tcp")
