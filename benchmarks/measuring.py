"""The measurements: one client, one server, one network."""

from __future__ import annotations

import itertools

from benchmarks.networks import Place
from benchmarks.peers import Peer, Transport
from benchmarks.results import Results

__all__ = ["measure_goodput", "measure_memory", "measure_setup"]

_ports = itertools.count(21_000)
_PATIENCE = 30.0
"""Seconds that a transport may take beyond what it was told to."""

_CONNECTIONS = 200
_TOGETHER = 16


def measure_goodput(
    transport: Transport, place: Place, network: str, seconds: float, results: Results
) -> None:
    """Send one way for some time, and count what has arrived by then."""
    port = next(_ports)
    with Peer(transport.command("receive", port, seconds), place.server) as server:
        server.ready()
        command = transport.command("send", place.host, port, seconds)
        with Peer(command, place.client) as client:
            received = server.figures(seconds + _PATIENCE)
            sent = client.figures(seconds + _PATIENCE)
    size = received["bytes"]
    goodput = size / received["seconds"]
    results.add("goodput", network, transport.name, goodput / 1e6)
    # Both count for their own time, which is the same but for some milliseconds.
    used = received["cpu"] + sent["cpu"] * received["seconds"] / sent["seconds"]
    results.add("cpu", network, transport.name, used / size * 1e9)


def measure_setup(
    transport: Transport, place: Place, network: str, results: Results
) -> None:
    """Open connections: one after another, and several at the same time."""
    port = next(_ports)
    for parallel in (1, _TOGETHER):
        count = _CONNECTIONS // (1 if parallel > 1 else 4)
        accept = transport.command("accept", port + parallel, 1_000_000)
        with Peer(accept, place.server) as server:
            server.ready()
            command = transport.command(
                "connect", place.host, port + parallel, count, parallel
            )
            with Peer(command, place.client) as client:
                figures = client.figures(_PATIENCE + 10)
        if parallel == 1:
            results.add("setup", network, transport.name, figures["median"] * 1e3)
        else:
            rate = count / figures["seconds"]
            results.add("rate", network, transport.name, rate)


def measure_memory(
    transport: Transport, place: Place, network: str, count: int, results: Results
) -> None:
    """Hold many connections, all on one UDP port at each end."""
    port = next(_ports)
    with Peer(transport.command("accept", port, count), place.server) as server:
        server.ready()
        command = transport.command("hold", place.host, port, count)
        with Peer(command, place.client) as client:
            limit = _PATIENCE + count / 100
            held = client.figures(limit)["memory"] / (count - 1)
            accepted = server.figures(limit)["memory"] / count
    results.add("memory", network, transport.name, max(held, accepted) / 1e3)
