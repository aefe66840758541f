"""Which path carries a file through which NATs, proven by counting at the routers."""

from __future__ import annotations

from tests.lab.cloud_case import OPEN, SIZE, STRAY, CloudTestCase, Place
from tests.lab.programs import MEDIATOR_PORT, Forward, Server


class LANTests(CloudTestCase):
    """Two hosts of one network."""

    def test_same_lan(self) -> None:
        """The file stays in the network and the mediator hears nothing of it."""
        router = self.lab.router("router", "port-restricted")
        edge = router.meter()
        hosts = [router.host(label) for label in ("server", "client")]
        home, away = (Place(host, host.address, host.meter()) for host in hosts)
        with self.lab.explaining():
            server = self.serve(home)
            forward = self.forward_in_lan(home, away, server)
            self.assertEqual(self.check(forward, server, (home, away)), "lan")
            self.assertEqual(self.cloud.requests(), 0)
            self.assertEqual(away.meter.read().of(self.cloud.address), 0)
            self.assertLess(edge.read().total(), STRAY)


class StrangerTests(CloudTestCase):
    """Private addresses mean different machines in different networks."""

    def test_same_address(self) -> None:
        """Another server at the wanted one's address and port is not taken for it."""
        port = ("--tcp-port", "4000", "--no-lan")
        home = self.place("server", "port-restricted")
        router = self.lab.router("client-router", "port-restricted")
        stranger, client = router.host("stranger"), router.host("client")
        self.assertEqual(stranger.address, home.host.address)
        away = Place(client, router.address, router.meter())
        with self.lab.explaining():
            server = Server.start(home.host, self.cloud, SIZE, *port)
            other = Server.start(stranger, self.cloud, SIZE, *port)
            forward = Forward(client, server, self.cloud, "--path", "tcp")
            report = forward.fail()
            (failure,) = report["failures"]
            self.assertEqual(failure["attempt"], f"tcp {stranger.address}:4000")
            self.assertIn(other.peer, failure["reason"])
            forward = Forward(client, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), "udp")


class BlockedTests(CloudTestCase):
    """Where UDP does not get through."""

    def check_without_udp(self, server_kind: str, expected: str) -> None:
        """Fetch the file from behind a router that blocks UDP."""
        with self.lab.explaining():
            home = self.place("server", server_kind)
            away = self.place("client", "port-restricted", block_udp=True)
            server = self.serve(home)
            forward = Forward(away.host, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), expected)
            traffic, mediator = away.meter.read(), self.cloud.address
            self.assertEqual(traffic.of(mediator, "udp"), 0)
            self.assertGreater(traffic.of(mediator, "tcp", MEDIATOR_PORT), 0)

    def test_public_server(self) -> None:
        """The mediator answers over TCP, and the server is reached by TCP."""
        self.check_without_udp(OPEN, "tcp")

    def test_hidden_server(self) -> None:
        """The mediator answers over TCP, and the relay carries the file."""
        self.check_without_udp("port-restricted", "relay")

    def test_server_without_udp(self) -> None:
        """A server that cannot acknowledge over UDP is reached through the relay."""
        with self.lab.explaining():
            home = self.place("server", "port-restricted", block_udp=True)
            away = self.place("client", "port-restricted")
            server = self.serve(home)
            forward = Forward(away.host, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), "relay")


class ForcedPathTests(CloudTestCase):
    """``--path`` is obeyed."""

    def test_each(self) -> None:
        """One server and one client, between which each path works, in turn."""
        home, away = self.place("server", OPEN), self.place("client", "full-cone")
        with self.lab.explaining():
            server = self.serve(home)
            for path in ("relay", "udp", "tcp"):
                forward = Forward(away.host, server, self.cloud, "--path", path)
                self.assertEqual(self.check(forward, server, (home, away)), path)

    def test_preferred(self) -> None:
        """The preferred transport is taken where both work."""
        home, away = self.place("server", OPEN), self.place("client", "port-restricted")
        with self.lab.explaining():
            server = self.serve(home)
            for path in ("udp", "tcp"):
                forward = Forward(away.host, server, self.cloud, "--prefer", path)
                self.assertEqual(self.check(forward, server, (home, away)), path)

    def test_impossible(self) -> None:
        """A path that does not work fails with the reason, and none else is taken."""
        home = self.place("server", "port-restricted")
        away = self.place("client", "symmetric")
        with self.lab.explaining():
            server = self.serve(home)
            for path in ("lan", "udp", "tcp"):
                words = ("--path", path, "--timeout", "5")
                report = Forward(away.host, server, self.cloud, *words).fail()
                self.assertEqual((report["event"], report["path"]), ("failed", None))
                tried = {
                    failure["attempt"].split()[0] for failure in report["failures"]
                }
                self.assertLessEqual(tried, {path})
                self.assertTrue(report["error"])
            self.assertLess(away.meter.read().total(), STRAY)


class TunnelTests(CloudTestCase):
    """A hole that was punched once."""

    def test_next_stream(self) -> None:
        """Further streams use it, from the same ports, without the mediator."""
        home = self.place("server", "port-restricted")
        away = self.place("client", "port-restricted")
        with self.lab.explaining():
            server = self.serve(home)
            forward = Forward(away.host, server, self.cloud)
            self.assertEqual(self.check(forward, server, (home, away)), "udp")
            before = away.meter.read()
            self.assertEqual(self.check(forward, server, (home, away)), "udp")
            later = away.meter.read().since(before)
            self.assertEqual(later.of(self.cloud.address, "udp", MEDIATOR_PORT), 0)
            self.assertEqual(self.cloud.requests(), 1)
            one, two = (report["remote_address"] for report in forward.reports())
            self.assertEqual(one, two)
