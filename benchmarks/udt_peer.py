"""One end of a measurement with our own UDT, on the real reactor.

The roles and what they print are those of every peer of the benchmarks:

``receive PORT SECONDS``
    Listens, and counts for so long from the first byte on; prints bytes, seconds and
    the processor's seconds meanwhile.
``send HOST PORT SECONDS``
    Writes without end; prints what the processor did in the first seconds.
``accept PORT COUNT``, ``hold HOST PORT COUNT``
    Make that many connections, all on one UDP port at either end, and keep them;
    print by how many bytes the process has grown.
``connect HOST PORT COUNT PARALLEL``
    Opens and closes that many, so many at the same time; prints the seconds for all
    and the median of the single ones.

A listener prints "ready" before. ``send``, ``accept`` and ``hold`` run until they are
ended.
"""

from __future__ import annotations

import argparse
import cProfile
import pathlib
import signal
import statistics
import sys
import time
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Cooperator, deferLater
from zope.interface import implementer

from benchmarks.usage import cpu_seconds, resident_bytes, say
from dwcloud.net.bulk_tls import BulkTLSFactory
from dwcloud.net.identity import ServerIdentity
from dwcloud.net.tls import PeerVerifier, ServerTLS
from dwcloud.net.udp import SharedUDPPort
from dwcloud.net.udp_direct import DirectUDPPort
from dwcloud.protocol.udt.configuration import Configuration

reactor: Any = _reactor

_BLOCK = bytes(1 << 18)
_BACKLOG = 1024
_SETTLING_TIME = 1.0
"""Seconds until what a handshake needs has been forgotten."""

_TOGETHER = 32
"""Connections that ``hold`` opens at the same time."""


class Counting(Protocol):
    """Counts what comes for some time from the first byte on, then ends the program."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began_at = self._cpu = 0.0
        self._count = 0

    def dataReceived(self, data: bytes) -> None:
        """Count; what is beyond the time is the last that counts."""
        now = time.monotonic()
        if not self._count:
            self._began_at, self._cpu = now, cpu_seconds()
        self._count += len(data)
        elapsed = now - self._began_at
        if elapsed >= self._seconds:
            say(bytes=self._count, seconds=elapsed, cpu=cpu_seconds() - self._cpu)
            self._seconds = float("inf")
            reactor.stop()


@implementer(IPushProducer)
class Writing(Protocol):
    """Writes as fast as the transport takes it."""

    transport: Any

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._paused = False

    def connectionMade(self) -> None:
        """Begin, and tell in time what it has cost."""
        began, cpu = time.monotonic(), cpu_seconds()
        reactor.callLater(
            self._seconds,
            lambda: say(cpu=cpu_seconds() - cpu, seconds=time.monotonic() - began),
        )
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Write until the transport has enough."""
        self._paused = False
        while not self._paused:
            self.transport.write(_BLOCK)

    def pauseProducing(self) -> None:
        """Wait for the transport."""
        self._paused = True

    def stopProducing(self) -> None:
        """Write no more: the far end has counted enough."""
        self._paused = True


class Making(Factory):
    """Makes one protocol after another.

    :param protocol: called for each.
    """

    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._make = protocol
        self.made = 0

    def buildProtocol(self, addr: Any) -> Any:
        """Return a new protocol."""
        self.made += 1
        return self._make()

    def __repr__(self) -> str:
        return "the benchmark"


def _tls(factory: Factory, directory: str | None, *, is_client: bool) -> Any:
    """Wrap a factory in TLS if there is an identity for it."""
    if directory is None:
        return factory
    identity = ServerIdentity.load(pathlib.Path(directory))
    creator = PeerVerifier(identity.name) if is_client else ServerTLS(identity)
    return BulkTLSFactory(creator, is_client, factory)


class Peer:
    """Plays one role.

    :param options: the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._port = SharedUDPPort(
            reactor,
            port=options.local_port,
            configuration=Configuration(congestion_control=options.control),
            port_type=DirectUDPPort if options.no_offload else None,
        )
        self._port.start()

    def play(self) -> Deferred[Any]:
        """Begin."""
        role: Deferred[Any] = getattr(self, f"_{self._options.role}")()
        return role

    def _address(self) -> tuple[str, int]:
        return self._options.host, self._options.port

    def _listen(self, factory: Any) -> None:
        self._port.udt.listen(factory, _BACKLOG)
        print("ready", flush=True)

    def _receive(self) -> Deferred[Any]:
        factory = Making(lambda: Counting(self._options.seconds))
        self._listen(_tls(factory, self._options.tls, is_client=False))
        return Deferred()

    def _send(self) -> Deferred[Any]:
        factory = Making(lambda: Writing(self._options.seconds))
        wrapped = _tls(factory, self._options.tls, is_client=True)
        return self._port.udt.connect(self._address(), wrapped)

    async def _accept_all(self) -> None:
        factory = Making(Protocol)
        self._listen(factory)
        before = resident_bytes()
        while factory.made < self._options.count:
            await deferLater(reactor, 0.05)
        await deferLater(reactor, _SETTLING_TIME)
        say(memory=resident_bytes() - before)
        await Deferred()

    def _accept(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._accept_all())

    def _hold(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._hold_all())

    async def _hold_all(self) -> None:
        factory = Making(Protocol)
        await self._port.udt.connect(self._address(), factory)
        before = resident_bytes()
        await self._repeat(
            lambda: self._port.udt.connect(self._address(), factory),
            self._options.count - 1,
            _TOGETHER,
        )
        await deferLater(reactor, _SETTLING_TIME)
        say(memory=resident_bytes() - before)
        await Deferred()

    def _connect(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self._connect_all())

    async def _connect_all(self) -> None:
        factory = Making(Protocol)
        times: list[float] = []

        async def once() -> None:
            began = time.monotonic()
            protocol: Any = await self._port.udt.connect(self._address(), factory)
            times.append(time.monotonic() - began)
            protocol.transport.loseConnection()

        began = time.monotonic()
        await self._repeat(
            lambda: Deferred.fromCoroutine(once()),
            self._options.count,
            self._options.parallel,
        )
        say(seconds=time.monotonic() - began, median=statistics.median(times))
        reactor.stop()

    def _repeat(self, start: Any, count: int, parallel: int) -> Deferred[Any]:
        """Do something ``count`` times, ``parallel`` at the same time."""
        work = (start() for _ in range(count))
        cooperator = Cooperator(scheduler=lambda tick: reactor.callLater(0, tick))
        return gatherResults([cooperator.coiterate(work) for _ in range(parallel)])


def _arguments(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.udt_peer")
    parser.add_argument("--tls", metavar="DIRECTORY", help="of a server's identity")
    parser.add_argument("--no-offload", action="store_true")
    parser.add_argument("--control", default=Configuration().congestion_control)
    parser.add_argument("--profile", metavar="FILE", help="for pstats")
    roles = parser.add_subparsers(dest="role", required=True)
    for role, names in {
        "receive": ["local_port", "seconds"],
        "send": ["host", "port", "seconds"],
        "accept": ["local_port", "count"],
        "hold": ["host", "port", "count"],
        "connect": ["host", "port", "count", "parallel"],
    }.items():
        added = roles.add_parser(role)
        added.set_defaults(local_port=0)
        for name in names:
            kind = {"host": str, "seconds": float}.get(name, int)
            added.add_argument(name, type=kind)
    return parser.parse_args(words)


def _failed(failure: Any) -> None:
    print(failure.getErrorMessage(), file=sys.stderr)
    reactor.stop()


def main() -> None:
    """Play the role that the command line names, to its end or until ended."""
    options = _arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(reactor.stop))
    # Twisted's own handler would replace ours.
    reactor.callWhenRunning(lambda: Peer(options).play().addErrback(_failed))
    if options.profile is None:
        reactor.run(installSignalHandlers=False)
        return
    profile = cProfile.Profile()
    profile.runcall(reactor.run, installSignalHandlers=False)
    profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
