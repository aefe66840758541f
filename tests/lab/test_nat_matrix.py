"""Each pair of NATs gets the path that the table allows, with the real programs.

One mediator, one relay and one server behind each kind of router serve all cells; a
cell starts a client behind another router. A server and a client's place are in one
cell at a time, so that what their routers count belongs to it.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import attrs

from tests.lab.cloud_case import OPEN, CloudTestCase, Place
from tests.lab.nat_rules import ROUTED_KINDS, TRANSLATING_KINDS
from tests.lab.processes import PATIENCE
from tests.lab.programs import MEDIATOR_PORT, Cloud, Forward, Server
from tests.nat_table import PAIRS, entry, expected_later, expected_paths

KINDS = (OPEN, *ROUTED_KINDS, *TRANSLATING_KINDS)
_AT_ONCE = 3
"""Cells in progress at a time; more only wait for each other on two processors."""
_LATER = 2 * PATIENCE
"""Seconds for a direct path that is looked for while the relay carries.

Of random ports one search misses all with a chance of one in ten thousand, and with a
greater one on a busy machine; the next ones follow.
"""


@attrs.frozen
class Cell:
    """A pair of kinds.

    :ivar server: behind which the server is.
    :ivar client: behind which the client is.
    """

    server: str
    client: str


def cells() -> list[Cell]:
    """Return each pair, with the server now on this side and now on that.

    Where it depends on who is first, or on whose ports are predicted, on both.
    """
    found = []
    for one, other in PAIRS:
        two = [Cell(one, other), Cell(other, one)]
        if (KINDS.index(one) + KINDS.index(other)) % 2 == 0:
            two.reverse()
        both = one != other and entry(one, other) in ("race", "pred")
        found += two if both else two[:1]
    return found


class Schedule:
    """Hands out cells such that no two at a time share a place."""

    def __init__(self, waiting: list[Cell]) -> None:
        self._waiting = waiting
        self._busy: set[str] = set()
        self._changed = threading.Condition()

    def take(self) -> Cell | None:
        """Return a cell whose places are free, waiting for that; None at the end."""
        with self._changed:
            while self._waiting:
                for cell in self._waiting:
                    places = _places(cell)
                    if not places & self._busy:
                        self._waiting.remove(cell)
                        self._busy |= places
                        return cell
                self._changed.wait()
            return None

    def give_back(self, cell: Cell) -> None:
        """A cell is done."""
        with self._changed:
            self._busy -= _places(cell)
            self._changed.notify_all()


def _places(cell: Cell) -> set[str]:
    return {f"server {cell.server}", f"client {cell.client}"}


class MatrixTests(CloudTestCase):
    """All kinds of NAT that the kernel has, against each other."""

    def start_cloud(self) -> Cloud:
        """Start a mediator with a second address, by which NATs are explored."""
        host = self.lab.host("A")
        other = f"{self.lab.add_address(host)}:{MEDIATOR_PORT + 1}"
        return Cloud.start(
            host,
            *("--parameter", "relay_grace=4"),
            *("--udp", f"{MEDIATOR_PORT}:interface={host.address}"),
            *("--udp-other", other),
        )

    def test_table(self) -> None:
        """Each cell takes a path of the table, as both routers confirm."""
        self.homes = {k: self.place(f"s-{k}", k) for k in KINDS}
        self.aways = {k: self.place(f"c-{k}", k) for k in KINDS}
        wrong: dict[Cell, str] = {}
        with self.lab.explaining(), ThreadPoolExecutor(_AT_ONCE) as pool:
            servers = pool.map(self.serve, self.homes.values())
            self.servers = dict(zip(KINDS, servers, strict=True))
            schedule = Schedule(cells())
            workers = [pool.submit(self.work, schedule, wrong) for _ in range(_AT_ONCE)]
            for worker in workers:
                worker.result()
            self.assertEqual(wrong, {})

    def work(self, schedule: Schedule, wrong: dict[Cell, str]) -> None:
        """Try one cell after the other."""
        while (cell := schedule.take()) is not None:
            try:
                self.try_cell(cell)
            except AssertionError as error:
                wrong[cell] = str(error)[:2000]
            finally:
                schedule.give_back(cell)

    def try_cell(self, cell: Cell) -> None:
        """Fetch the file, and again when a better path may have been found."""
        places = self.homes[cell.server], self.aways[cell.client]
        server = self.servers[cell.server]
        forward = Forward(places[1].host, server, self.cloud)
        try:
            path = self.check(forward, server, places)
            self.assertIn(path, expected_paths(cell.server, cell.client))
            expected = expected_later(cell.server, cell.client)
            if path == "relay" and expected == {"udp"}:
                self.assertEqual(self.fetch_later(forward, server, places), "udp")
        finally:
            forward.end()

    def fetch_later(
        self, forward: Forward, server: Server, places: tuple[Place, Place]
    ) -> str:
        """Fetch the file until it does not come by the relay any more."""
        end = time.monotonic() + _LATER
        while True:
            time.sleep(1.0)
            path = self.check(forward, server, places)
            if path != "relay" or time.monotonic() > end:
                return path
