"""How much faster than reality the simulated network is.

``python -m benchmarks.simulation`` builds clouds in the simulated world: a mediator, a
relay, a server that registers, a client that connects. All of the product runs in it as
it does outside, with its TLS. Measured are whole connections (built, opened, and kept
for a minute), and the moment of connecting alone: from the client's start to the first
byte of a service that speaks first.

Real time here is the processor's (:func:`time.process_time`): nothing in it waits, and
what else runs on the machine counts for less.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import attrs
from twisted.internet.protocol import Factory

from benchmarks.greeting import Greeted, Greeter
from dwcloud.peer.client import ConnectOptions
from dwcloud.testing import NAT_KINDS, PORT_RESTRICTED, SYMMETRIC, Host, LinkProfile
from dwcloud.testing import NATBehaviour as Behaviour
from tests.scenarios.cloud_world import CloudWorld

__all__ = ["CELLS", "Cell", "Lap", "connect_once", "main", "run_once"]

_RUNS = 7
_CONNECTS = 20
_KEPT = 60.0
"""Seconds of simulated time that the connection is kept."""
_SETTLED = 5.0
"""Seconds after which a server has its connections at the relay and knows its NAT."""

_PATHS = {"udp": PORT_RESTRICTED, "relay": SYMMETRIC}
_ROUND_TRIPS = (0.02, 0.1, 0.2)
"""Seconds between two hosts of the Internet, there and back."""

REQUIRED = 50.0
"""How much faster than reality the whole has to be."""


@attrs.frozen
class Lap:
    """A part of a run.

    :ivar simulated: seconds in the world.
    :ivar real: seconds of the processor.
    """

    simulated: float
    real: float

    @property
    def factor(self) -> float:
        """How much faster than reality it was."""
        return self.simulated / self.real


@attrs.frozen
class Cell:
    """Where a server and a client are, and by which path the client asks to connect.

    :ivar server: ``open``, ``lan`` (both in one network) or one of ``NAT_KINDS``.
    """

    server: str
    client: str
    path: str = "auto"

    def place(self, cloud: CloudWorld, link: LinkProfile) -> list[Host]:
        """Make the two hosts."""
        internet = cloud.internet
        if self.server == "lan":
            lan = internet.nat("198.51.100.1", link=link)
            return [lan.host(f"192.168.1.{n}", name=f"host {n}") for n in (10, 11)]
        return [
            internet.host(f"198.51.{n}.1", name=f"host {n}", link=link)
            if kind == "open"
            else internet.nat(f"198.51.{n}.1", NAT_KINDS[kind], link=link).host(
                f"192.168.1.{n + 9}", name=f"host {n}"
            )
            for n, kind in enumerate((self.server, self.client), 1)
        ]


CELLS = (
    Cell("lan", "lan"),
    Cell("open", "open", "tcp"),
    Cell("open", "open", "udp"),
    Cell("open", "open", "relay"),
    Cell("open", "open"),
    Cell("open", "port-restricted"),
    Cell("full-cone", "full-cone"),
    Cell("port-restricted", "port-restricted"),
    Cell("port-restricted", "symmetric"),
    Cell("symmetric", "symmetric"),
)
"""What is connected: each path by its own, then what the client chooses by itself."""


def _cloud(round_trip: float, seed: int) -> tuple[CloudWorld, LinkProfile]:
    cloud = CloudWorld(seed)
    # From each host to the middle, and on to another: four ways make a round trip.
    link = LinkProfile(latency=round_trip / 4)
    for host in (cloud.mediator_host, cloud.relay_host):
        host.link.configure(latency=link.latency)
    return cloud, link


def connect_once(cell: Cell, round_trip: float, seed: int) -> tuple[Lap, str]:
    """Connect in a new world; return what it took and the path it came to."""
    cloud, link = _cloud(round_trip, seed)
    server_host, client_host = cell.place(cloud, link)
    greeting = {"greeting": Factory.forProtocol(Greeter)}
    server = cloud.serve(server_host, services=greeting)
    cloud.wait_online(server_host)
    cloud.world.advance(_SETTLED)
    # What is left of earlier worlds is not for this one to collect.
    gc.collect()
    simulated, real = cloud.world.seconds(), time.process_time()
    connecting = cloud.client(client_host).connect(
        server.identity.name,
        "greeting",
        Factory.forProtocol(Greeted),
        ConnectOptions(path=cell.path),
        cloud.reports.append,
    )
    protocol = cloud.world.run_until(connecting, 60.0)
    assert isinstance(protocol, Greeted)
    cloud.world.run_until(lambda: protocol.heard.called, 60.0)
    lap = Lap(cloud.world.seconds() - simulated, time.process_time() - real)
    path = cloud.reports[-1].path
    assert path is not None
    return lap, path.value


def run_once(nat: Behaviour, round_trip: float) -> Lap:
    """Build a cloud, connect through two NATs and keep the connection for a minute."""
    begin = time.process_time()
    cloud, link = _cloud(round_trip, 1)
    server_host, client_host = (
        cloud.internet.nat(f"198.51.100.{n}", nat, link=link).host(
            f"192.168.1.{n + 9}", name=f"host {n}"
        )
        for n in (1, 2)
    )
    server = cloud.serve(
        server_host, services={"greeting": Factory.forProtocol(Greeter)}
    )
    cloud.wait_online(server_host)
    connecting = cloud.client(client_host).connect(
        server.identity.name, "greeting", Factory.forProtocol(Greeted)
    )
    cloud.world.run_until(connecting, 60.0)
    cloud.world.advance(_KEPT)
    return Lap(cloud.world.seconds(), time.process_time() - begin)


def _median(count: int, measure: Callable[[int], Lap]) -> Lap:
    laps = [measure(seed) for seed in range(count)]
    return Lap(
        statistics.median(lap.simulated for lap in laps),
        statistics.median(lap.real for lap in laps),
    )


def _words(lap: Lap) -> str:
    return f"{lap.simulated:8.3f} s {lap.real * 1e3:8.1f} ms {lap.factor:6.0f} x"


def _wholes() -> Iterator[float]:
    """Measure and print whole connections; give how much faster each was."""
    for path, nat in _PATHS.items():
        for round_trip in _ROUND_TRIPS:
            lap = _median(_RUNS, lambda _, n=nat, r=round_trip: run_once(n, r))
            print(f"{path:38} {round_trip * 1e3:7.0f} ms {_words(lap)}", flush=True)
            yield lap.factor


def _connects(count: int) -> None:
    """Measure and print the moment of connecting alone."""
    for cell in CELLS:
        for round_trip in _ROUND_TRIPS if cell.server != "lan" else (0.001,):
            paths: set[str] = set()

            def measure(
                seed: int,
                cell: Cell = cell,
                round_trip: float = round_trip,
                paths: set[str] = paths,
            ) -> Lap:
                lap, path = connect_once(cell, round_trip, seed)
                paths.add(path)
                return lap

            measure(0)  # what is made once for all is not a connection's
            lap = _median(count, measure)
            ends = f"{cell.server}, {cell.client}"
            print(
                f"{ends:32} {'/'.join(sorted(paths)):5} {round_trip * 1e3:7.0f} ms "
                f"{_words(lap)}",
                flush=True,
            )


def main() -> int:
    """Measure and print; the status is 1 if the whole is too slow."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation")
    parser.add_argument(
        "--connects", type=int, default=_CONNECTS, help="of each kind, at least 1"
    )
    options = parser.parse_args()
    print("server, client                   path   round trip  simulated  processor")
    print("connecting, from the client's start to the first byte")
    _connects(max(1, options.connects))
    print("the whole: a cloud is built, the client connects and stays for a minute")
    slowest = min(_wholes())
    print(f"the whole: at least {slowest:.0f} x ({REQUIRED:.0f} x is asked for)")
    return 0 if slowest >= REQUIRED else 1


if __name__ == "__main__":
    sys.exit(main())
