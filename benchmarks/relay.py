"""Relays compared: ours with splice and without, HAProxy likewise, plain Twisted.

``python -m benchmarks.relay`` measures each in turn, round after round, so that what
else the machine does hits all of them, prints the medians and the ratios to HAProxy
(mode tcp, splicing all) and writes them into the documentation:

* MB/s of one stream, and the relay's processor time for each GB of it;
* the round trip of 64 bytes, p50 and p99, less that of a direct connection;
* pairs joined and closed again in a second, one after the other. Ours need an idle
  connection of the server, a session and two upgrades for each;
* for our relay the memory of an idle connection, of 7 for each waiting server.

With ``--workers 1 2`` it measures instead what that many workers carry at once.

Everything runs on this machine, over the loopback interface: sender, relay and receiver
share its processors. The sender sends pages of a file (sendfile), so that its bytes
come in pages, as from a network card, and the receiver drops what came without copying
it (MSG_TRUNC), so that it is the relay that is measured. With ``--sender copy`` the
sender copies its bytes, which then come in larger pieces, and is busier than any relay.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import attrs

from benchmarks.relay_peer import (
    HOST,
    DirectPairs,
    ForwardedPairs,
    Pairs,
    RelayedPairs,
)
from benchmarks.relay_workers import Measure, measure_workers
from benchmarks.results import describe_machine, rounded
from dwcloud.net.identity import SystemIdentity

KINDS = ("haproxy", "haproxy-auto", "splice", "pump", "twisted")
TITLES = {
    "haproxy": "HAProxy, splice",
    "haproxy-auto": "HAProxy, splice-auto",
    "splice": "dwcloud, splice",
    "pump": "dwcloud, no splice",
    "twisted": "Twisted's portforward",
}
DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"

_HAPROXY = """
global
    nbthread 1
    maxconn 4000
defaults
    mode tcp
    {options}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen relay
    bind {host}:{port}
    server backend {host}:{backend}
"""
_SPLICING = {
    "haproxy": "option splice-request\n    option splice-response",
    "haproxy-auto": "option splice-auto",
}
_IDLE_PER_SERVER = 7
_BLOCK = bytes(1 << 20)

Figures = dict[str, dict[str, list[float]]]
"""Values by kind of relay and name of the figure."""


@attrs.frozen
class Relay:
    """A running relay."""

    process: subprocess.Popen[bytes]
    pairs: Pairs

    def cpu_seconds(self) -> float:
        """Processor time of the relay, the kernel's for it included."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory that the relay occupies."""
        statm = pathlib.Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(statm.split()[1]) * resource.getpagesize()


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(kind: str) -> Iterator[Relay]:
    """Run one relay."""
    port = _free_port()
    pairs: Pairs
    if kind in ("splice", "pump"):
        pairs = RelayedPairs(port, SystemIdentity.generate().issue_server())
        backend = 0
    else:
        pairs = ForwardedPairs(port)
        backend = pairs.backend
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "benchmarks.relay_peer", kind, f"{port}"]
        if kind in _SPLICING:
            file = pathlib.Path(directory, "haproxy.cfg")
            file.write_text(
                _HAPROXY.format(
                    host=HOST, port=port, backend=backend, options=_SPLICING[kind]
                )
            )
            command = ["haproxy", "-db", "-f", str(file)]
        process = subprocess.Popen([*command, *([f"{backend}"] * (kind == "twisted"))])
        try:
            _wait_for(port, process)
            yield Relay(process, pairs)
        finally:
            process.terminate()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError):
            if socket.socket().connect_ex((HOST, port)) == 0:
                time.sleep(0.1)
                return
        time.sleep(0.05)
    raise SystemExit(f"{process.args} did not start")


def send_copies(connection: socket.socket) -> None:
    """Send the same bytes for ever."""
    while True:
        connection.sendall(_BLOCK)


def send_pages(connection: socket.socket) -> None:
    """Send the same pages for ever, which the kernel does without copying them."""
    connection.setblocking(True)  # this call knows no timeout
    pages = os.memfd_create("sent")
    os.write(pages, _BLOCK)
    while True:
        os.sendfile(connection.fileno(), pages, 0, len(_BLOCK))


SENDERS = {"pages": send_pages, "copy": send_copies}


def throughput(
    pairs: Pairs,
    seconds: float,
    cpu_seconds: Callable[[], float] = lambda: 0.0,
    send: Callable[[socket.socket], None] = send_pages,
) -> tuple[float, float]:
    """Return MB/s of one stream and the relay's processor seconds for each GB."""
    client, server = pairs.join()
    sender = os.fork()
    if not sender:
        server.close()
        with contextlib.suppress(OSError):
            send(client)
        os._exit(0)
    client.close()
    buffer = bytearray(1 << 20)
    try:
        began = time.monotonic()
        while time.monotonic() < began + 0.3:
            server.recv_into(buffer, len(buffer), socket.MSG_TRUNC)
        count, began, cpu = 0, time.monotonic(), cpu_seconds()
        while (elapsed := time.monotonic() - began) < seconds:
            count += server.recv_into(buffer, len(buffer), socket.MSG_TRUNC)
        cpu = cpu_seconds() - cpu
    finally:
        server.close()
        os.waitpid(sender, 0)
    return count / elapsed / 1e6, cpu / count * 1e9


def round_trips(pairs: Pairs, seconds: float) -> tuple[float, float]:
    """Return p50 and p99 of the round trip of 64 bytes, in microseconds."""
    client, server = pairs.join()

    def answer() -> None:
        while data := server.recv(64):
            server.sendall(data)

    thread = threading.Thread(target=answer)
    thread.start()
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        client.sendall(bytes(64))
        client.recv(64, socket.MSG_WAITALL)
        times.append(time.perf_counter() - began)
    client.close()
    thread.join()
    server.close()
    cuts = statistics.quantiles(times, n=100)
    return cuts[49] * 1e6, cuts[98] * 1e6


def join_rate(pairs: Pairs, seconds: float) -> float:
    """Return how many pairs are joined in a second, one after the other."""
    count, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        for connection in pairs.join():
            connection.close()
        count += 1
    return count / (time.monotonic() - began)


def idle_memory(servers: int) -> float:
    """Return our relay's memory for an idle connection, in bytes."""
    system = SystemIdentity.generate()
    with running("splice") as relay, contextlib.ExitStack() as opened:
        port = relay.pairs.port  # type: ignore[union-attr]

        def wait(count: int) -> None:
            for _ in range(count):
                pairs = RelayedPairs(port, system.issue_server())
                for _ in range(_IDLE_PER_SERVER):
                    opened.enter_context(pairs.idle())

        wait(20)  # what is needed once
        before = relay.resident_bytes()
        wait(servers)
        return (relay.resident_bytes() - before) / servers / _IDLE_PER_SERVER


def measure(kind: str, seconds: float, sender: str, figures: Figures) -> None:
    """Measure one relay once."""
    send = SENDERS[sender]
    with running(kind) as relay:
        rate, cpu = throughput(relay.pairs, seconds, relay.cpu_seconds, send)
        direct = round_trips(DirectPairs(), seconds / 2)
        p50, p99 = round_trips(relay.pairs, seconds / 2)
        joined = join_rate(relay.pairs, seconds / 2)
    for name, value in (
        ("MB/s", rate),
        ("CPU s/GB", cpu),
        ("added us, p50", p50 - direct[0]),
        ("added us, p99", p99 - direct[1]),
        ("pairs/s", joined),
    ):
        figures[kind][name].append(value)


def table(figures: Figures, idle: float | None) -> str:
    """Return the medians, with their ratios to HAProxy, as reStructuredText.

    :param figures: of each kind each figure's values.
    :param idle: bytes of our relay for an idle connection, None if not measured.
    """
    medians = {
        kind: {name: statistics.median(values) for name, values in of.items()}
        for kind, of in figures.items()
    }
    base = medians.get("haproxy")
    names = list(next(iter(medians.values())))
    rows = [["relay", *names]]
    for kind, values in medians.items():
        cells = []
        for name, value in values.items():
            ratio = f" ({value / base[name]:.2f}x)" if base else ""
            cells.append(f"{rounded(value)}{ratio}")
        rows.append([TITLES[kind], *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    lines = [
        "  ".join(map(str.ljust, row, widths)).rstrip()  # as wide as the widest
        for row in rows
    ]
    shown = "\n".join([rule, lines[0], rule, *lines[1:], rule])
    if idle is not None:
        shown += f"\n\nMemory of an idle connection: {idle:,.0f} bytes."
    return shown


def workers_table(options: argparse.Namespace) -> str:
    """Measure with each number of workers that the command line names."""
    measures: dict[str, Measure] = {
        "MB/s of 4 streams": lambda pairs: throughput(pairs, options.seconds)[0],
        "pairs/s of 4 systems": lambda pairs: join_rate(pairs, options.seconds),
    }
    return measure_workers(options.workers, _free_port(), options.rounds, measures)


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one stream")
    parser.add_argument("--sender", choices=SENDERS, default="pages")
    parser.add_argument(
        "--servers",
        type=int,
        default=1430,
        help="waiting ones for the memory, of 7 connections each (1430); 0: none",
    )
    parser.add_argument(
        "--table",
        type=pathlib.Path,
        default=DOCS / "benchmarks-relay.inc",
        help="file for the table (docs/benchmarks-relay.inc)",
    )
    parser.add_argument(
        "--workers",
        nargs="+",
        type=int,
        metavar="N",
        help="measure only what twistd relay does with so many workers",
    )
    options = parser.parse_args()
    if options.workers:
        print(f"{describe_machine()}.\n\n{workers_table(options)}")
        return
    kinds = options.kinds or [
        kind for kind in KINDS if kind not in _SPLICING or shutil.which("haproxy")
    ]
    if unknown := set(kinds).difference(KINDS):
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for _ in range(options.rounds):
        for kind in kinds:
            measure(kind, options.seconds, options.sender, figures)
    idle = idle_memory(options.servers) if options.servers else None
    shown = f"{describe_machine()}.\n\n{table(figures, idle)}\n"
    options.table.write_text(shown)
    print(shown)


if __name__ == "__main__":
    main()
