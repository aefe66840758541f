"""What workers add to a relay, for ``python -m benchmarks.relay --workers``.

``twistd relay`` runs with each number of workers in turn, round after round. As many
processes as there are systems, at home at different workers, open one stream each; then
they join pairs and close them again. Sums over all of them, medians of the rounds.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence

from benchmarks.relay_peer import HOST, RelayedPairs
from benchmarks.results import rounded
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.protocol.relaying.paths import STATISTICS_PATH, client_sessions_path
from dwcloud.protocol.relaying.worker_homes import home_of

__all__ = ["Measure", "measure_workers"]

_SYSTEMS = 4

Measure = Callable[[RelayedPairs], float]
"""Measures something of a relay for one system."""


def _servers() -> list[ServerIdentity]:
    """Return servers of which any two neighbours have different homes."""
    servers: list[ServerIdentity] = []
    while len(servers) < _SYSTEMS:
        server = SystemIdentity.generate().issue_server()
        path = client_sessions_path(server.name)
        # Equal modulo 4 means spread evenly over 2 and 4 workers.
        if home_of(path, _SYSTEMS) == len(servers):
            servers.append(server)
    return servers


@contextlib.contextmanager
def _running(port: int, workers: int) -> Iterator[None]:
    # Twisted's log turns over to another file when it is long, whatever file it is.
    with tempfile.TemporaryDirectory() as directory:
        process = subprocess.Popen(
            [
                sys.executable,
                pathlib.Path(sys.executable).with_name("twistd"),
                *("--nodaemon", "--pidfile=", f"--logfile={directory}/log", "relay"),
                f"--listen=tcp:{port}:interface={HOST}:backlog=512",
                f"--workers={workers}",
            ]
        )
        try:
            _wait_for(port, workers, process)
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, workers: int, process: subprocess.Popen[bytes]) -> None:
    url = f"http://{HOST}:{port}{STATISTICS_PATH}"
    for _ in range(300):
        if process.poll() is not None:
            break
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(url, timeout=5) as answer,
        ):
            # One that still starts does not answer.
            if json.load(answer).get("workers", 1) == workers:
                return
        time.sleep(0.1)
    raise SystemExit(f"a relay with {workers} workers did not start")


def _at_once(measure: Measure, port: int, servers: Sequence[ServerIdentity]) -> float:
    """Measure with all servers at once, each in a process of its own; the sum."""
    pipes = []
    for server in servers:
        reading, writing = os.pipe()
        if not os.fork():
            value = measure(RelayedPairs(port, server))
            os.write(writing, struct.pack("d", value))
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    total = 0.0
    for reading in pipes:
        (value,) = struct.unpack("d", os.read(reading, 8))
        os.close(reading)
        os.wait()
        total += value
    return total


def measure_workers(
    counts: Sequence[int],
    port: int,
    rounds: int,
    measures: dict[str, Measure],
) -> str:
    """Measure with each number of workers; return a table in reStructuredText."""
    servers = _servers()
    figures: dict[int, dict[str, list[float]]] = {
        count: {name: [] for name in measures} for count in counts
    }
    for _ in range(rounds):
        for count in counts:
            with _running(port, count):
                for name, measure in measures.items():
                    figures[count][name].append(_at_once(measure, port, servers))
    rows = [
        ["workers", *measures],
        *(
            [f"{count}", *(rounded(statistics.median(of[name])) for name in measures)]
            for count, of in figures.items()
        ),
    ]
    rule = "  ".join(["=" * 20] * len(rows[0]))
    lines = ["  ".join(cell.ljust(20) for cell in row).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])
