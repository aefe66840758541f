"""Which path carries a file through which NATs, proven by counting at the routers."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.lab.namespaces import require_namespaces
from tests.lab.programs import MEDIATOR_PORT, RELAY_PORT, Cloud, Forward, Server
from tests.lab.topology import Host, Lab
from tests.lab.traffic import Meter, Traffic
from tests.requirements import require

SIZE = 5_000_000
"""Octets of the file."""

STRAY = 500_000
"""Octets that paths may use that were tried, but did not carry the file."""

OPEN = "open"

TABLE = """
    server           client           path
    open             open             tcp|udp
    open             port-restricted  tcp|udp
    open             symmetric        tcp|udp
    firewall         port-restricted  udp
    full-cone        port-restricted  udp
    full-cone        symmetric        relay
    addr-restricted  symmetric        relay
    port-restricted  open             udp
    port-restricted  full-cone        udp
    port-restricted  port-restricted  udp
    port-restricted  symmetric        relay
    symmetric        open             relay
    symmetric        port-restricted  relay
    symmetric        symmetric        relay
"""
"""By the kinds of NAT; where two paths may work, the first that does is taken.

Plain datagrams get through between a symmetric NAT and one that filters less than by
address and port, if they are answered where they came from. A UDT rendezvous is bound
to the address that the mediator named, so that a symmetric NAT means the relay, unless
the server can be reached by TCP.
"""


@attrs.frozen
class Place:
    """A host and the edge of its network.

    :ivar address: by which the Internet knows it.
    :ivar meter: counts what crosses the edge.
    """

    host: Host
    address: str
    meter: Meter


class CloudTestCase(SynchronousTestCase):
    """A lab with a mediator and a relay on a public host."""

    def setUp(self) -> None:
        """Start the cloud."""
        require_namespaces()
        require(shutil.which("curl"), "curl is missing")
        self.lab = Lab()
        self.addCleanup(self.lab.close)
        # On a busy machine a direct path may take longer than a relay waits for it.
        self.cloud = Cloud.start(self.lab.host("A"), "--parameter", "relay_grace=2")

    def place(self, label: str, kind: str, *, block_udp: bool = False) -> Place:
        """Return a host behind a router of this kind."""
        if kind == OPEN:
            host = self.lab.host(label)
            return Place(host, host.address, host.meter())
        router = self.lab.router(f"{label}-router", kind, block_udp=block_udp)
        host = router.host(label)
        routed = kind == "firewall"
        return Place(host, host.address if routed else router.address, router.meter())

    def serve(self, place: Place) -> Server:
        """Publish a file at a place."""
        return Server.start(place.host, self.cloud, SIZE)

    def assertCarried(self, path: str, traffic: Traffic, peer: str) -> None:
        """The file, and nothing else of its size, went by ``path``.

        :param traffic: at the edge of one end.
        :param peer: the address of the other end.
        """
        address = self.cloud.address
        octets = {
            "udp": traffic.of(peer, "udp"),
            "tcp": traffic.of(peer, "tcp"),
            "relay": traffic.of(address, "tcp", RELAY_PORT),
        }
        carriers = {"udp": "udp", "relay": "relay", "tcp": "tcp", "lan": "tcp"}
        carried = octets.pop(carriers[path])
        self.assertGreater(carried, SIZE, f"by {path}, and else {octets}")
        self.assertLess(carried, 2 * SIZE, f"by {path}")
        octets["elsewhere"] = traffic.total() - carried
        for other, stray in octets.items():
            self.assertLess(stray, STRAY, f"{other} beside {path}:\n{traffic}")

    def check(
        self, forward: Forward, server: Server, places: tuple[Place, Place]
    ) -> str:
        """Fetch the file; return the path, which both edges have to confirm."""
        one, other = places
        before = [place.meter.read() for place in places]
        transfer = forward.fetch()
        self.assertEqual(transfer.sha256, server.sha256)
        self.assertEqual(transfer.report["event"], "connected")
        for place, peer, earlier in zip(places, (other, one), before, strict=True):
            traffic = place.meter.read().since(earlier)
            self.assertCarried(transfer.path, traffic, peer.address)
        return transfer.path


class PathTableTests(CloudTestCase):
    """Each pair of NATs gets the path that it allows."""

    def check_pair(self, server_kind: str, client_kind: str, paths: set[str]) -> None:
        """Serve a file behind one kind of router and fetch it behind another."""
        with self.lab.explaining():
            home = self.place("server", server_kind)
            away = self.place("client", client_kind)
            server = self.serve(home)
            forward = Forward(away.host, server, self.cloud)
            self.assertIn(self.check(forward, server, (home, away)), paths)


def _pair_test(server: str, client: str, paths: str) -> Callable[..., None]:
    def test(self: PathTableTests) -> None:
        self.check_pair(server, client, set(paths.split("|")))

    test.__doc__ = f"Server behind {server}, client behind {client}: {paths}."
    return test


for _line in TABLE.strip().splitlines()[1:]:
    _server, _client, _paths = _line.split()
    setattr(
        PathTableTests,
        f"test_{_server}_{_client}".replace("-", "_"),
        _pair_test(_server, _client, _paths),
    )


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
            forward = Forward(away.host, server, self.cloud)
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
