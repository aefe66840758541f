"""Compare the congestion controllers of UDT in a simulation.

``python -m benchmarks.congestion`` prints two tables as reStructuredText: goodput of
one flow over round trips, losses and rates; and how two flows share a bottleneck, with
themselves and with models of TCP. The connections are real, time and path simulated,
so that every run gives the same figures. The whole takes some minutes; ``--quick``
leaves out the fast paths.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Sequence

from dwcloud.testing.bottleneck import Bottleneck, jain_index
from dwcloud.testing.flows import TCPModel, UDTFlow

CONTROLLERS = ("bbr", "cubic", "native")
ROUND_TRIPS = (0.01, 0.05, 0.1, 0.2)
LOSSES = (0.0, 0.001, 0.01, 0.05)
RATES = (10e6, 100e6, 1000e6)
QUEUES = (0.25, 1.0, 4.0)
"""In multiples of rate times round trip."""

_PAYLOAD_SHARE = 1456 / 1500
_SETTLING_SECONDS = 10.0


def goodput(
    controller: str,
    *,
    rate: float,
    round_trip: float,
    loss: float,
    seconds: float = 10.0,
    queue: float = 1.0,
) -> float:
    """Return bytes per second delivered from the first handshake packet on.

    :param rate: of the bottleneck in bits per second.
    :param round_trip: in seconds.
    :param loss: probability in each direction.
    :param queue: in multiples of rate times round trip.
    """
    path = Bottleneck(rate=rate, round_trip=round_trip, loss=loss, queue=queue)
    flow = UDTFlow(path, 1, congestion_control=controller)
    path.run(seconds)
    return flow.delivered / seconds


def shares(
    kinds: Sequence[str],
    *,
    rate: float = 100e6,
    round_trip: float = 0.05,
    queue: float = 1.0,
    seconds: float = 60.0,
) -> list[float]:
    """Return the share of the rate that each of several flows gets.

    They start two seconds apart and are measured ten seconds later.

    :param kinds: names of controllers, ``tcp-cubic`` or ``tcp-reno``.
    """
    path = Bottleneck(rate=rate, round_trip=round_trip, queue=queue)
    flows: list[UDTFlow | TCPModel] = []
    for number, kind in enumerate(kinds, 1):
        if kind.startswith("tcp-"):
            flows.append(TCPModel(path, cubic=kind == "tcp-cubic"))
        else:
            flows.append(UDTFlow(path, number, congestion_control=kind))
        path.run(2.0)
    path.run(_SETTLING_SECONDS)
    before = [flow.delivered for flow in flows]
    path.run(seconds)
    return [
        (flow.delivered - start) * 8 / seconds / rate
        for flow, start in zip(flows, before, strict=True)
    ]


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in itertools.chain([header], rows):
        for position, cell in enumerate(row):
            lines.append(f"   {'*' if position == 0 else ' '} - {cell}")
    return "\n".join(lines) + "\n"


def goodput_table(rates: Iterable[float] = RATES) -> str:
    """Return the goodput of each controller in percent of what the link can carry."""
    rows = []
    for rate, round_trip, loss in itertools.product(rates, ROUND_TRIPS, LOSSES):
        cells = [f"{rate / 1e6:g} Mbit/s", f"{round_trip * 1e3:g} ms", f"{loss:.1%}"]
        best = rate / 8 * _PAYLOAD_SHARE
        for name in CONTROLLERS:
            got = goodput(name, rate=rate, round_trip=round_trip, loss=loss)
            cells.append(f"{got / 1e6:.2f} ({got / best:.0%})")
        rows.append(cells)
    return _table(["rate", "round trip", "loss", *CONTROLLERS], rows)


def fairness_table() -> str:
    """Return how two flows share 100 Mbit/s at 50 ms, in percent, and Jain's index."""
    others = ("itself", "tcp-cubic", "tcp-reno")
    rows = []
    for queue, name in itertools.product(QUEUES, (*CONTROLLERS, "tcp-cubic")):
        cells = [f"{queue:g}", name]
        for other in others:
            pair = shares((name, name if other == "itself" else other), queue=queue)
            one, two = (f"{share:.0%}" for share in pair)
            cells.append(f"{one} : {two} ({jain_index(pair):.2f})")
        rows.append(cells)
    header = ["queue", "flow", *(f"with {other}" for other in others)]
    return _table(header, rows)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out 1000 Mbit/s")
    quick = parser.parse_args().quick
    print(goodput_table(RATES[:2] if quick else RATES))
    print(fairness_table())


if __name__ == "__main__":
    main()
