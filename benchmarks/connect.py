"""Time to the first byte of a stream, by path, beside what the round trips allow.

``python -m benchmarks.connect`` puts mediator and relay, a server and a client on three
machines made of namespaces, each at the end of a cable (``benchmarks/cable.c``), so
that between each two of them there is a round trip of 20, 50 and 100 ms. The programs
are the real ones. The server speaks first: time runs from the call to connect to its
first byte. It needs root, Linux and gcc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence

import attrs

from benchmarks.peers import Peer, compiled, remove_programs
from tests.lab.namespaces import Namespace, remove_abandoned

__all__ = ["Row", "main", "table"]

_PROGRAMS = pathlib.Path(sys.executable).parent
_ROUND_TRIPS = (0.02, 0.05, 0.1)
_PATHS = ("tcp", "udp", "relay")
_MEGABITS = 1000
_COUNT = 5

_ALLOWED = {
    # Round trips, and seconds for the machines themselves: what is aimed at.
    ("relay", "cold"): (3, 0.05),
    ("udp", "cold"): (5, 0.05),
    ("tcp", "cold"): (5, 0.05),
    ("udp", "tls"): (2, 0.02),
    ("udp", "plain"): (1, 0.02),
}

_FLIGHTS = {
    # Round trips that the messages take if nothing else takes time, as counted by
    # tests/scenarios/test_first_byte.py; by way of the relay each one costs two.
    "udp": {"cold": 5, "tls": 2, "plain": 1},
    "tcp": {"cold": 4, "tls": 4, "plain": 3},
    "relay": {"cold": 5, "tls": 5, "plain": 4},
}

_KINDS = {
    "cold": "first stream, TLS",
    "tls": "further stream, TLS",
    "plain": "further stream, no TLS",
}


@attrs.frozen
class Row:
    """What one kind of stream took.

    :ivar round_trip: seconds.
    :ivar seconds: to the first byte, of each try.
    """

    path: str
    kind: str
    round_trip: float
    seconds: list[float]

    @property
    def median(self) -> float:
        """The middle of the tries, seconds."""
        return statistics.median(self.seconds)

    @property
    def allowed(self) -> float | None:
        """How long it may take, seconds; None where nothing is said of that."""
        limit = _ALLOWED.get((self.path, self.kind))
        return None if limit is None else limit[0] * self.round_trip + limit[1]


def table(rows: list[Row]) -> str:
    """Return all rows as a table in reStructuredText."""
    heads = (
        "path",
        "stream",
        "round trip",
        "first byte",
        "round trips",
        "at least",
        "allowed",
    )
    lines: list[tuple[str, ...]] = [heads]
    for row in rows:
        allowed = row.allowed
        lines.append(
            (
                row.path,
                _KINDS[row.kind],
                f"{row.round_trip * 1e3:.0f} ms",
                f"{row.median * 1e3:.0f} ms",
                f"{row.median / row.round_trip:.1f}",
                str(_FLIGHTS[row.path][row.kind]),
                "" if allowed is None else f"{allowed * 1e3:.0f} ms",
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    rule = "  ".join("=" * width for width in widths)
    shown = [
        "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True))
        for line in lines
    ]
    return "\n".join([rule, shown[0].rstrip(), rule, *map(str.rstrip, shown[1:]), rule])


@contextlib.contextmanager
def _machines(round_trip: float) -> Iterator[dict[str, tuple[Namespace, str]]]:
    """Have a cloud, a server and a client around a router, with their addresses."""
    remove_abandoned()
    with contextlib.ExitStack() as stack:
        hub = Namespace("internet")
        stack.callback(hub.remove)
        hub.sysctl(ipv4__ip_forward=1)
        machines = {}
        for number, label in enumerate(("cloud", "server", "client"), 1):
            machine = Namespace(label)
            stack.callback(machine.remove)
            # Half of the way from one to another: each way passes two cables.
            delay = str(int(round_trip * 1e6 / 4))
            queue = str(int(round_trip * _MEGABITS * 1e6 / 8))
            words = [compiled("cable.c"), machine.name, "cable", hub.name, label]
            words += [delay, str(_MEGABITS), queue, "0"]
            stack.enter_context(Peer(words, None)).ready()
            address, gateway = f"11.1.{number}.2", f"11.1.{number}.1"
            machine.ip(
                f"address add {address}/24 dev cable",
                "link set cable up",
                f"route add default via {gateway}",
            )
            hub.ip(f"address add {gateway}/24 dev {label}", f"link set {label} up")
            machines[label] = (machine, address)
        yield machines


def measure(round_trip: float, count: int, paths: Sequence[str]) -> list[Row]:
    """Measure these paths at one round trip."""
    rows = []
    with _machines(round_trip) as machines, contextlib.ExitStack() as stack:
        cloud, address = machines["cloud"]
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for service in ("mediator", "relay"):
            words = [str(_PROGRAMS / "twistd"), "-n", "--pidfile=", service]
            stack.enter_context(Peer(words, cloud, directory))
        peer = [sys.executable, "-m", "benchmarks.connect_peer"]
        serving = stack.enter_context(
            Peer(
                [*peer, "serve", address, str(directory / "id")], machines["server"][0]
            )
        )
        name = serving.line(60.0)
        for path in paths:
            words = [*peer, "connect", address, name, path, str(count)]
            with Peer(words, machines["client"][0]) as client:
                figures = json.loads(client.line(60.0 + 20.0 * count))
            rows += [Row(path, kind, round_trip, figures[kind]) for kind in _KINDS]
    return rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connect")
    parser.add_argument("--tries", type=int, default=_COUNT, help="of each kind")
    parser.add_argument(
        "--round-trip",
        type=float,
        action="append",
        metavar="MS",
        help="milliseconds; 20, 50 and 100 without it",
    )
    parser.add_argument("--path", action="append", choices=_PATHS, help="all without")
    options = parser.parse_args()
    trips = [ms / 1e3 for ms in options.round_trip or ()] or _ROUND_TRIPS
    paths = options.path or _PATHS
    try:
        rows = [row for t in trips for row in measure(t, options.tries, paths)]
    finally:
        remove_programs()
    print(table(rows))
    late = [r for r in rows if r.allowed is not None and r.median > r.allowed]
    for row in late:
        print(
            f"slower than allowed: {row.path}, {_KINDS[row.kind]}, {row.round_trip} s"
        )
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
