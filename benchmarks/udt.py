"""Our UDT beside the reference library and others, in turn on the same networks.

``python -m benchmarks.udt`` measures everything; see ``--help`` for less. It prints a
table, and writes it, as JSON too, and a chart of it into the documentation:

- ``goodput`` and the processor time for it (both ends), on loopback; on veth devices
  through a NAT in a network namespace; there with 1 % loss; and on a cable with 50 ms
  round trip at 1 Gbit/s, without and with 1 % loss in each direction;
- ``setup``: the time to connect, and connections per second;
- ``memory`` of idle connections, 10,000 of them on one port for ours.

Every run measures all transports in turn, so that what else the machine does disturbs
all alike; only ratios within one run mean anything, and the medians are shown. All
but loopback need Linux and root; the reference library needs g++ and libudt-dev.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

import attrs

from benchmarks.chart import draw
from benchmarks.measuring import measure_goodput, measure_memory, measure_setup
from benchmarks.networks import NETWORKS, Place, opened
from benchmarks.peers import (
    TRANSPORTS,
    MeasurementFailed,
    Transport,
    remove_programs,
)
from benchmarks.results import Results, describe_machine, table
from dwcloud.net.identity import ServerIdentity

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"

_UDT = ("libudt", "dwcloud")
_GOODPUT = {
    "loopback": ("libudt", "dwcloud", "dwcloud-tls", "dwcloud-plain", "aioquic"),
    "nat": _UDT,
    "loss": _UDT,
    "long": (*_UDT, "tcp-bbr", "tcp-cubic"),
    "long-loss": (*_UDT, "tcp-bbr", "tcp-cubic"),
}
"""Which transports are worth measuring where."""

_IDLE_CONNECTIONS = {"dwcloud": 10_000, "libudt": 500}
_LONG_SECONDS = 8.0
_PARTS = ("goodput", "setup", "memory")


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.udt", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--runs", type=int, default=3, help="of each (3)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="of each transfer (3; long cable 8)"
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument(
        "--transports", nargs="+", choices=TRANSPORTS, default=[*TRANSPORTS]
    )
    parser.add_argument(
        "--json",
        type=pathlib.Path,
        default=DOCS / "benchmarks.json",
        help="file for the results (docs/benchmarks.json)",
    )
    parser.add_argument(
        "--chart",
        type=pathlib.Path,
        default=DOCS / "benchmarks.svg",
        help="file for the chart (docs/benchmarks.svg)",
    )
    parser.add_argument(
        "--table",
        type=pathlib.Path,
        default=DOCS / "benchmarks.inc",
        help="file for the table (docs/benchmarks.inc)",
    )
    parser.add_argument(
        "--redraw", action="store_true", help="measure nothing, draw saved results"
    )
    return parser.parse_args(words)


@contextlib.contextmanager
def _identity() -> Iterator[str]:
    """Have a server's identity for TLS in a directory."""
    with tempfile.TemporaryDirectory(prefix="dwcloud-benchmarks-") as name:
        directory = pathlib.Path(name) / "server"
        ServerIdentity.create(directory)
        yield str(directory)


class Benchmarks:
    """One run over everything that was asked for.

    :param options: the command line.
    :param identity: directory of an identity for TLS.
    """

    def __init__(self, options: argparse.Namespace, identity: str) -> None:
        self._options = options
        self._identity = identity
        self.results = Results(describe_machine())

    def run(self) -> None:
        """Measure."""
        for network in self._options.networks:
            if network != "loopback" and os.geteuid():
                self.results.note(f"{network}: needs root")
                continue
            with opened(NETWORKS[network]) as place:
                self._measure_on(network, place)

    def _measure_on(self, network: str, place: Place) -> None:
        parts, seconds = self._options.parts, self._options.seconds
        if network.startswith("long"):
            seconds = max(seconds, _LONG_SECONDS)
        for _ in range(self._options.runs):
            if "goodput" in parts:
                self._each(
                    network,
                    _GOODPUT[network],
                    lambda t: measure_goodput(t, place, network, seconds, self.results),
                )
            if "setup" in parts and network in ("loopback", "long"):
                self._each(
                    network,
                    _UDT,
                    lambda t: measure_setup(t, place, network, self.results),
                )
            if "memory" in parts and network == "loopback":
                self._each(
                    network,
                    _UDT,
                    lambda t: measure_memory(
                        t, place, network, _IDLE_CONNECTIONS[t.name], self.results
                    ),
                )

    def _each(
        self,
        network: str,
        names: Sequence[str],
        measure: Callable[[Transport], None],
    ) -> None:
        """Measure one transport after another, as far as they are there."""
        for name in names:
            if name not in self._options.transports:
                continue
            transport = TRANSPORTS[name]
            if transport.obstacle:
                self.results.note(f"{name}: {transport.obstacle}")
                continue
            options = [
                word.replace("{identity}", self._identity) for word in transport.options
            ]
            try:
                measure(attrs.evolve(transport, options=tuple(options)))
            except MeasurementFailed as error:
                self.results.note(f"{name}: a measurement on {network} failed")
                print(f"\n{error}", file=sys.stderr)
            print(".", end="", file=sys.stderr, flush=True)


def main(words: Sequence[str]) -> None:
    """Measure, print, save and draw."""
    options = _arguments(words)
    if options.redraw:
        results = Results.from_json(options.json.read_text())
    else:
        with contextlib.ExitStack() as stack:
            stack.callback(remove_programs)
            benchmarks = Benchmarks(options, stack.enter_context(_identity()))
            benchmarks.run()
        results = benchmarks.results
        options.json.write_text(results.to_json())
    titles = {network.name: network.title for network in NETWORKS.values()}
    options.chart.write_text(draw(results, titles))
    shown = f"{results.machine}.\n\n{table(results, titles.items())}\n"
    options.table.write_text(shown)
    print(f"\n{shown}")
    print("\n".join(["", *results.notes]))


if __name__ == "__main__":
    main(sys.argv[1:])
