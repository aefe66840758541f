"""Networks as they are found in the field: what carries a file through each of them.

All cells share one mediator and one relay and run at the same time, each in networks of
its own. Each names the path that it expects, and counters at both edges confirm it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import attrs

from tests.lab.cloud_case import SIZE, STRAY, CloudTestCase, Place
from tests.lab.processes import LabError
from tests.lab.programs import RELAY_PORT, Cloud, Forward, Server
from tests.lab.topology import Router

IDLE = float(os.environ.get("DWCLOUD_LAB_IDLE", "45"))
"""Seconds that a tunnel is idle; 300 every night."""

SHORT_TIMEOUT = 20
"""Seconds after which some NATs forget UDP."""

_RECOVERY = 180.0
"""Seconds within which a file comes again after a network changed."""


def _nothing(case: TopologyTests, cell: Cell) -> None:
    """Do nothing more."""


@attrs.define
class Cell:
    """A server and a client somewhere, and the path expected between them.

    :ivar name: the beginning of the names of all its hosts.
    :ivar paths: any of these.
    :ivar options: of server and client.
    :ivar further: what else is tried after the file came.
    """

    name: str
    home: Place
    away: Place
    paths: set[str]
    options: tuple[str, ...] = ()
    further: Callable[[TopologyTests, Cell], None] = _nothing
    server: Server = attrs.field(init=False)
    forward: Forward = attrs.field(init=False)


class TopologyTests(CloudTestCase):
    """All networks at once."""

    def cells(self) -> Iterable[Cell]:
        """Build the networks."""
        yield from self.carriers()
        yield from self.same_router()
        yield from self.lost_answers()
        yield self.short_timeouts()
        yield self.reboot()

    def test_all(self) -> None:
        """Each cell gets its path."""
        cells = list(self.cells())
        with ThreadPoolExecutor(4) as pool:
            failures = list(pool.map(self.run_cell, cells))
        told = [
            f"=== {cell.name}: {failure}"
            for cell, failure in zip(cells, failures, strict=True)
            if failure is not None
        ]
        self.assertFalse(told, "\n".join(told))

    def run_cell(self, cell: Cell) -> AssertionError | None:
        """Fetch the file in a cell; return what went wrong."""
        try:
            with self.lab.explaining(cell.name):
                options = ("--no-port-mapping", *cell.options)
                cell.server = Server.start(cell.home.host, self.cloud, SIZE, *options)
                cell.forward = Forward(
                    cell.away.host, cell.server, self.cloud, *cell.options
                )
                path = self.check(cell.forward, cell.server, (cell.home, cell.away))
                self.assertIn(path, cell.paths)
                cell.further(self, cell)
        except AssertionError as error:
            return error
        return None

    def behind(self, label: str, router: Router) -> Place:
        """A place whose packets are counted where its router's network ends."""
        return Place(router.host(label), router.address, router.meter())

    def carriers(self) -> Iterable[Cell]:
        """Carriers' NATs, and routers behind routers."""
        for name, outer in (("cgnat", "100.64.0.0/24"), ("double", "10.0.0.0/24")):
            places = []
            for end in ("server", "client"):
                carrier = self.lab.router(f"{name}-{end}-1", "port-restricted", outer)
                home = carrier.router(f"{name}-{end}-2", "port-restricted")
                host = home.host(f"{name}-{end}")
                places.append(Place(host, carrier.address, carrier.meter()))
            yield Cell(name, *places, {"udp"})
        for kind, paths in (("full-cone", {"udp"}), ("port-restricted", {"relay"})):
            name = f"one-carrier-{kind}"
            carrier = self.lab.router(
                f"{name}-1", kind, "100.64.0.0/24", hairpin=kind == "full-cone"
            )
            places = []
            for end in ("server", "client"):
                # Their own networks differ: else each would knock at its own.
                lan = f"192.168.{len(places) + 1}.0/24"
                home = carrier.router(f"{name}-{end}-2", "port-restricted", lan)
                host = home.host(f"{name}-{end}")
                # Between the two everything has the carrier's address.
                places.append(Place(host, carrier.address, home.meter()))
            yield Cell(name, *places, paths)

    def same_router(self) -> Iterable[Cell]:
        """Two hosts behind one NAT."""
        for hairpin in (True, False):
            name = "hairpin" if hairpin else "turnless"
            kind = "full-cone" if hairpin else "port-restricted"
            router = self.lab.router(f"{name}-router", kind, hairpin=hairpin)
            hosts = [router.host(f"{name}-{end}") for end in ("server", "client")]
            # Whichever works first: the private address, or the router's from inside.
            turned = router.address if hairpin else ""
            places = [Place(host, host.address, host.meter(), turned) for host in hosts]
            yield Cell(f"{name}-", *places, {"tcp", "udp"}, ("--no-lan",))
            name = f"isolated-{name}"
            router = self.lab.router(f"{name}-router", kind, hairpin=hairpin)
            hosts = [
                router.host(f"{name}-{end}", isolated=True)
                for end in ("server", "client")
            ]
            places = [Place(host, router.address, host.meter()) for host in hosts]
            yield Cell(name, *places, {"udp"} if hairpin else {"relay"})

    def lost_answers(self) -> Iterable[Cell]:
        """What the mediator sends over UDP does not arrive at one of the ends."""
        lost = {"no_udp_from": self.cloud.address}
        for end in ("server", "client"):
            name = f"deaf-{end}"
            places = [
                self.behind(
                    f"{name}-{side}",
                    self.lab.router(
                        f"{name}-{side}-router",
                        "port-restricted",
                        **(lost if side == end else {}),
                    ),
                )
                for side in ("server", "client")
            ]
            yield Cell(name, *places, {"udp"})

    def short_timeouts(self) -> Cell:
        """NATs that forget UDP after 20 s."""
        server, client = (
            self.behind(
                f"short-{end}",
                self.lab.router(
                    f"short-{end}-router", "port-restricted", udp_timeout=SHORT_TIMEOUT
                ),
            )
            for end in ("server", "client")
        )
        return Cell("short", server, client, {"udp"}, further=TopologyTests.stay_idle)

    def stay_idle(self, cell: Cell) -> None:
        """A silent stream and the tunnel live on, without the mediator."""
        with cell.forward.open() as idle:
            time.sleep(IDLE)
            self.assertEqual(cell.forward.request(idle), cell.server.sha256)
        before = cell.away.meter.read()
        path = self.check(cell.forward, cell.server, (cell.home, cell.away))
        self.assertEqual(path, "udp")
        later = cell.away.meter.read().since(before)
        self.assertEqual(later.of(self.cloud.address, "udp"), 0)
        addresses = {r["remote_address"] for r in cell.forward.reports()}
        self.assertEqual(len(addresses), 1)

    def reboot(self) -> Cell:
        """A NAT that restarts with another address."""
        self.rebooting = self.lab.router("reboot-router", "port-restricted")
        home = self.behind("reboot-server", self.rebooting)
        router = self.lab.router("reboot-client-router", "port-restricted")
        away = self.behind("reboot-client", router)
        return Cell("reboot", home, away, {"udp"}, further=TopologyTests.lose_address)

    def lose_address(self, cell: Cell) -> None:
        """In the midst of a transfer; new streams soon go the direct way again."""
        with cell.forward.open() as loaded:
            loaded.sendall(b"GET /data.bin HTTP/1.0\r\n\r\n")
            self.assertTrue(loaded.recv(65536))
            address = self.rebooting.change_address()
            self.fetch_again(cell)
        cell.home = attrs.evolve(cell.home, address=address)
        # The relay may have helped out; the next stream has its own chance.
        path = self.check(cell.forward, cell.server, (cell.home, cell.away))
        self.assertEqual(path, "udp")

    def fetch_again(self, cell: Cell) -> float:
        """Fetch the file as soon as it comes; return after how many seconds it did."""
        begin = time.monotonic()
        while True:
            try:
                transfer = cell.forward.fetch()
            except LabError:
                if time.monotonic() - begin > _RECOVERY:
                    raise
                continue
            self.assertEqual(transfer.sha256, cell.server.sha256)
            return time.monotonic() - begin


class LANTests(CloudTestCase):
    """Networks whose hosts see each other."""

    def start(self, *, cut_off: bool = False) -> tuple[Router, Server]:
        """Serve the file behind a router."""
        router = self.lab.router("router", "port-restricted")
        self.home, self.away = (
            Place(host, host.address, host.meter())
            for host in (router.host("server"), router.host("client"))
        )
        if cut_off:
            router.cut_off()
        server = Server.start(self.home.host, self.cloud, SIZE, until="serving")
        return router, server

    def check_lan(self, server: Server) -> None:
        """The file goes from host to host."""
        forward = self.forward_in_lan(self.home, self.away, server)
        path = self.check(forward, server, (self.home, self.away))
        self.assertEqual(path, "lan")
        forward.end()

    def test_multicast(self) -> None:
        """The mediator is asked for nothing, as its statistics show."""
        with self.lab.explaining():
            router, server = self.start()
            edge = router.meter()
            self.check_lan(server)
            server.process.wait_for_line("online", lambda line: "online" in line)
            figures = self.cloud.statistics()
            self.assertEqual(figures["servers_online"], 1, figures)
            self.assertEqual(figures["sessions_started"], 0, figures)
            self.assertLess(edge.read().total(), STRAY)

    def test_without_internet(self) -> None:
        """A mediator out of reach is not missed, at the start nor later."""
        with self.lab.explaining():
            _, server = self.start(cut_off=True)
            self.check_lan(server)
            self.assertEqual(server.events("online"), [])

    def test_internet_fails(self) -> None:
        """Nor is it when it is lost while both run."""
        with self.lab.explaining():
            router, server = self.start()
            self.check_lan(server)
            router.cut_off()
            self.check_lan(server)


class WebOnlyTests(CloudTestCase):
    """Networks that let nothing out but web pages."""

    def test_web_ports(self) -> None:
        """Both ends come to mediator and relay through ports 80 and 443 alone."""
        relay = self.lab.host("R")
        relay.spawn(
            "relay",
            ["twistd", "-n", "--pidfile=", "relay", "--listen", "tcp:443"],
        )
        mediator = self.lab.host("M")
        options = ("--listen", "tcp:80", "--relay", f"http://{relay.address}:443")
        words = ["twistd", "-n", "--pidfile=", "mediator", *options]
        cloud = Cloud(mediator, mediator.spawn("mediator", words), self.cloud.relay)
        mediator.wait_until_listening(80)
        relay.wait_until_listening(443)
        rules = {"block_udp": True, "tcp_ports": (80, 443)}
        with self.lab.explaining():
            places = []
            for end in ("server", "client"):
                router = self.lab.router(f"{end}-router", "port-restricted", **rules)
                host = router.host(end)
                places.append(Place(host, router.address, router.meter()))
            server = Server.start(places[0].host, cloud, SIZE)
            forward = Forward(places[1].host, server, cloud)
            before = [place.meter.read() for place in places]
            transfer = forward.fetch()
            self.assertEqual((transfer.path, transfer.sha256), ("relay", server.sha256))
            for place, earlier in zip(places, before, strict=True):
                traffic = place.meter.read().since(earlier)
                self.assertGreater(traffic.of(relay.address, "tcp", 443), SIZE)
                self.assertEqual(traffic.of(relay.address, "tcp", RELAY_PORT), 0)
                strangers = traffic.total() - sum(
                    traffic.of(host.address, "tcp") for host in (relay, mediator)
                )
                self.assertLess(strangers, STRAY)
